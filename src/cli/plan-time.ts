import { benchMatmul } from '../../bench/kernels/matmul.js';
import { linearShape } from '../../models/tensors.js';
import { packMicroBatches, rowBucket } from '../batch/pack.js';
import { buildTrie } from '../batch/trie.js';
import type { Example } from '../batch/types.js';
import { countSteps, epochBatches, type SftOptions } from '../train/sft.js';
import type { PlannedRun, PlanRequest } from './memory.js';
import type { OpenDevice } from './session.js';

/** How fast a run will be, and what that rests on. */
export interface Speed {
  readonly tokensPerSecond: number;
  readonly basis: string;
  /** The run cannot be faster, and is slower by what was not measured. */
  readonly atMost: boolean;
}

/** Sizes of the product that is timed: on CPU cores one of a model's own would take minutes. */
const most = { cpu: { rows: 128, columns: 2048 }, gpu: { rows: 2048, columns: Number.POSITIVE_INFINITY } };

/**
 * Times the model's largest product on this device; the run's arithmetic at that rate is what its tokens would take if
 * all of it went as fast.
 */
export async function measureSpeed(open: OpenDevice, request: PlanRequest, run: PlannedRun): Promise<Speed> {
  const { rows, columns } = most[open.device.features.cpu ? 'cpu' : 'gpu'];
  const shape = linearShape(request.config, 'gate_proj');
  const size = {
    m: Math.min(rowBucket(run.microBatchTokens), rows),
    n: Math.min(shape.out, columns),
    k: Math.min(shape.in, columns),
    packed: null,
  };
  const { gflops } = await benchMatmul(open, open.tier, 'nt', size, null);
  const perToken = run.bytes.flops / rowBucket(run.microBatchTokens);
  return {
    tokensPerSecond: (1e9 * gflops) / perToken,
    basis:
      `${(perToken / 1e9).toPrecision(3)} GFLOP a token at the ${gflops.toPrecision(3)} GFLOP/s that a product of ` +
      `${size.m}x${size.n}x${size.k} just reached here; what is no product comes on top`,
    atMost: true,
  };
}

/** What there is to compute over the whole run. */
export interface Work {
  readonly rows: number;
  readonly steps: number;
  /** Distinct tokens, of the steps of one epoch in the mean. */
  readonly tokens: number;
}

/** Counts the tries of the first epoch's steps, as training makes them. */
export function countWork(
  examples: readonly Example[],
  options: Pick<SftOptions, 'batchSize' | 'epochs' | 'maxSteps' | 'seed' | 'shuffle'>,
  microBatchTokens: number,
): Work {
  const { perEpoch, total } = countSteps(examples.length, options);
  const counted = Math.min(perEpoch, total);
  let tokens = 0;
  for (const rows of epochBatches(examples, 0, options).slice(0, counted))
    for (const indices of packMicroBatches(rows, microBatchTokens))
      tokens += buildTrie(indices.map((i) => rows[i])).tokens.length;
  return { rows: examples.length, steps: total, tokens: Math.round((tokens / counted) * total) };
}

/** Time of the run in words, with what the estimate rests on. */
export function describeTime(speed: Speed | null, work: Work | null): string[] {
  const lines = work
    ? [
        `Work: ${work.steps} steps of ${work.rows} rows in all, ${work.tokens} tokens to compute where equal prefixes are one.`,
      ]
    : [];
  if (!speed) return [...lines, 'Time: not known for a device that is not here; --tokens-per-second gives it a rate.'];
  const rate = `${Number(speed.tokensPerSecond.toPrecision(3))} tokens/s${speed.atMost ? ' or fewer' : ''}`;
  const seconds = work && work.tokens / speed.tokensPerSecond;
  const total = seconds === null ? '' : `${formatSeconds(seconds)}${speed.atMost ? ' or more' : ''}, at `;
  return [...lines, `Time: ${total}${rate} (${speed.basis}).`];
}

/** A duration as people say it, to two digits. */
export function formatSeconds(seconds: number): string {
  const say = (count: number, unit: string) => `${Number(count.toPrecision(2))} ${unit}`;
  if (seconds < 90) return say(seconds, 's');
  if (seconds < 90 * 60) return say(seconds / 60, 'minutes');
  return seconds < 48 * 3600 ? say(seconds / 3600, 'hours') : say(seconds / 86400, 'days');
}

import { InputError } from '../src/errors.js';
import type { LanguageModel, Tier } from '../src/model/language-model.js';
import { RolloutEngine } from '../src/model/rollout.js';
import type { RolloutStep } from '../src/model/rollout-schedule.js';
import { weightBytes } from '../src/model/weights.js';
import { greedySampling } from '../src/ops/sample.js';
import { sequenceSeed } from '../src/random.js';
import { matmulParameters } from './matmul-shapes.js';
import type { BenchDevice } from './measure.js';
import { randomPrompts } from './ppo.js';
import { type BenchRow, benchRow, median, spread } from './rows.js';

export interface RolloutBenchOptions {
  readonly tier: Tier;
  /** Shown in the rows. */
  readonly quantize: string;
  /** Of that tier, with positions for a prompt and its answer. */
  readonly model: LanguageModel;
  /** Sequences at once. */
  readonly batches: readonly number[];
  /** Tokens of a prompt; prompts share nothing. */
  readonly length: number;
  readonly newTokens: number;
}

const repetitions = 3;

/**
 * Times rollouts at temperature 1: prompts (with the first token drawn), and then steps of a full batch. Work is 2N
 * operations a token, N being the parameters of all matmuls, of which the head's count for drawn tokens alone; a step
 * moves at least the weights and the keys and values of all tokens that its sequences see. Throws InputError where answers
 * are so short, beside the prompts, that the first end before the last begin.
 */
export async function benchRollout(bench: BenchDevice, options: RolloutBenchOptions): Promise<{ rows: BenchRow[] }> {
  const { tier, quantize, model, length, newTokens } = options;
  const { config } = model;
  const { layers, head } = matmulParameters(config);
  // Of the embedding a step reads a row a token.
  const weights = weightBytes({ ...model.weights, embedding: model.weights.head });
  const element = model.operand === 'f16' ? 2 : 4;
  const tokenBytes = 2 * config.layers * config.kvHeads * config.headDim * element;
  const rows: BenchRow[] = [];
  for (const batch of options.batches) {
    const open = (maxNewTokens: number) =>
      RolloutEngine.create(model, {
        adapter: null,
        sampling: { ...greedySampling, temperature: 1 },
        stopIds: new Set(),
        batchSize: batch,
        maxNewTokens,
        maxPromptTokens: length,
        promptTokens: 2048,
      });
    const requests = randomPrompts(batch, length, config.vocabSize).map((prompt, i) => ({
      prompt,
      seed: sequenceSeed(1, i),
    }));
    const single = await open(1);
    const prompts: number[] = [];
    for (let i = 0; i <= repetitions; i++) {
      const started = performance.now();
      await single.run(requests);
      if (i > 0) prompts.push(performance.now() - started);
    }
    single.destroy();
    const engine = await open(newTokens);
    const { slots } = engine.size;
    // Steps are told of when they are submitted, each when the host is done with the one before the last.
    const steps: (RolloutStep & { at: number; hostMs: number })[] = [];
    await engine.run(requests, {
      onStep: (step, hostMs) => steps.push({ ...step, hostMs, at: performance.now() }),
    });
    engine.destroy();
    const full = steps.filter(({ sequences, promptTokens }) => sequences.length === slots && promptTokens === 0);
    if (full.length < 2)
      throw new InputError(
        `of ${slots} prompts of ${length} tokens the first have their ${newTokens} new ones before the last are read, so that no full batch is timed: raise --new-tokens, or lower --length or --batches.`,
      );
    const intervals = full.slice(1).map(({ at }, i) => at - full[i].at);
    const seen = full.reduce((sum, step) => sum + step.seen, 0) / full.length;
    const what = {
      shape: `${slots} x ${length}+${newTokens}`,
      tier,
      variant: quantize === 'none' ? 'plain' : quantize,
    };
    const promptWork = { flops: 2 * (layers * batch * length + head * batch), bytes: weights };
    const stepWork = { flops: 2 * (layers + head) * slots, bytes: weights + seen * tokenBytes };
    const row = (
      operation: string,
      times: readonly number[],
      work: { flops: number; bytes: number },
      tokens: number,
    ) => {
      const ms = median(times);
      const made = benchRow({ operation, ...what }, { ms, spread: spread(times), peerMs: null }, work, null);
      return { ...made, tokens_per_second: (1000 * tokens) / ms };
    };
    const host_ms = median(full.map(({ hostMs }) => hostMs));
    rows.push(row('prompts', prompts, promptWork, batch * length));
    rows.push({ ...row('step', intervals, stepWork, slots), host_ms });
    await bench.device.finish();
  }
  return { rows };
}

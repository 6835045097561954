import { linearShapes } from '../../models/tensors.js';
import type { Overlong } from '../batch/examples.js';
import { UsageError } from '../errors.js';
import { readAdapter } from '../formats/peft.js';
import { findData, type LoadedData, loadData } from './load-data.js';
import { newAdapterConfig } from './lora.js';
import {
  type Checkpointing,
  checkMicroBatch,
  describePlan,
  leastMemory,
  measure,
  type PlanRequest,
  planRun,
} from './memory.js';
import { adapterLadders, findMends, halves, type Ladder, trainingLadders } from './plan-mends.js';
import type { PlannedModel } from './plan-model.js';
import { argumentsOf, type PlanArguments } from './plan-options.js';
import type { PlanSubject } from './plan-subject.js';
import { countWork, describeTime, measureSpeed } from './plan-time.js';
import { checkArguments, type SftArguments, settingsOf } from './sft.js';

/** Reads what a plan of `sft` rests on. */
export async function readSftPlan(
  asked: PlanArguments,
  given: ReadonlySet<string>,
  model: PlannedModel,
): Promise<PlanSubject> {
  const args = argumentsOf<SftArguments>('sft', asked, given);
  const { tokensPerSecond } = args;
  if (tokensPerSecond !== undefined && !(tokensPerSecond > 0))
    throw new UsageError('--tokens-per-second must be above 0.');
  checkArguments(args, given);
  const { config } = model;
  const maxLength = Math.min(args.maxLength, config.maxPositions);
  const data = await readRows(args, model, maxLength);
  const request: PlanRequest = {
    config,
    packed: model.packed,
    adapter:
      args.initAdapter === undefined
        ? newAdapterConfig(args)
        : (await readAdapter(args.initAdapter, linearShapes(config))).config,
    maxLength,
    asked: args.microBatchTokens,
    checkpointing: args.gradientCheckpointing as Checkpointing,
    data: data
      ? measure([...data.train.examples, ...(data.valid?.examples ?? [])], args.batchSize)
      : { longest: maxLength, fill: maxLength * args.batchSize },
  };
  checkMicroBatch(request);
  const { adapter, data: rows } = request;
  return {
    describe: `adapter of rank ${adapter.r} on ${adapter.targetModules.join(', ')}; rows of up to ${rows.longest} tokens`,
    plan(target, limit) {
      const run = planRun(target, request, limit.bytes);
      const { slots: _, ...memory } = run.bytes;
      return {
        fits: run.fits,
        total: memory.total,
        lines: describePlan(run, config.layers, limit),
        record: { micro_batch_tokens: run.microBatchTokens, recomputed_layers: run.recompute, memory },
        mends: (bytes) =>
          findMends(laddersFor(model, request, args.initAdapter !== undefined), request, bytes, {
            least: (changed) => leastMemory(target, changed).total,
            total: (changed) => planRun(target, changed, bytes).bytes.total,
          }),
        async time(open) {
          const work = data && countWork(data.train.examples, settingsOf(args, run), run.microBatchTokens);
          const speed =
            tokensPerSecond !== undefined
              ? { tokensPerSecond, basis: 'as --tokens-per-second says', atMost: false }
              : open && (await measureSpeed(open, request, run));
          return { lines: describeTime(speed, work), record: { speed, work } };
        },
      };
    },
  };
}

/** The rows of --data, as sft would read them; null without. */
async function readRows(
  args: SftArguments,
  model: PlannedModel,
  maxLength: number,
): Promise<{ train: LoadedData; valid: LoadedData | null } | null> {
  if (args.data === undefined) return null;
  const files = await findData(args.data, args.evalData);
  const limits = { maxLength, overlong: args.overlong as Overlong };
  return {
    train: await loadData(files.train, model, limits),
    valid: files.valid ? await loadData(files.valid, model, limits) : null,
  };
}

function laddersFor(model: PlannedModel, request: PlanRequest, adapterGiven: boolean): Ladder<PlanRequest>[] {
  const { data, maxLength } = request;
  const ladders = trainingLadders(model, request, data.longest);
  // The settings of an adapter to start from are kept.
  if (!adapterGiven) ladders.push(...adapterLadders(request));
  if (data.longest > 64)
    ladders.push(
      halves(Math.min(maxLength, data.longest), 64).map((length) => ({
        options: `--max-length ${length}`,
        apply: (request) => shortened(request, length),
      })),
    );
  return ladders;
}

/** Rows cut to `length`: no step has more tokens than as many rows of it. */
function shortened(request: PlanRequest, length: number): PlanRequest {
  const { asked, data } = request;
  const fill = Math.ceil((data.fill / data.longest) * length);
  return { ...request, maxLength: length, asked: Math.min(asked, fill), data: { longest: length, fill } };
}

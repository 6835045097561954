import type { ModelConfig } from '../../models/config.js';
import { linearShapes } from '../../models/tensors.js';
import { InputError, UsageError } from '../errors.js';
import type { Adapter, AdapterConfig } from '../formats/adapter.js';
import { readAdapter } from '../formats/peft.js';
import { type PpoMemory, planPpo } from '../model/ppo-memory.js';
import { planRollout } from '../model/rollout-memory.js';
import { checkCacheRoom } from '../model/rollout-program.js';
import type { TrainingMemory } from '../model/training-memory.js';
import type { PpoOptions } from '../train/ppo.js';
import { rolloutShape } from '../train/ppo-prompts.js';
import { newAdapterConfig } from './lora.js';
import {
  describePlan,
  formatBytes,
  leastMemory,
  type MemoryLimit,
  memoryLimit,
  type PlannedRun,
  type PlanRequest,
  type PlanTarget,
  planRun,
} from './memory.js';
import type { PpoArguments } from './ppo-arguments.js';
import type { OpenDevice } from './session.js';

/** A run of PPO as far as memory goes; `adapter` is that of policy and critic. */
export interface PpoRequest extends Omit<PlanRequest, 'maxLength' | 'data'> {
  readonly reference: AdapterConfig | null;
  readonly prompts: readonly Int32Array[];
  readonly settings: Pick<
    PpoOptions,
    | 'totalEpisodes'
    | 'batchSize'
    | 'numGenerations'
    | 'numMiniBatches'
    | 'responseLength'
    | 'kvCacheTokens'
    | 'temperature'
    | 'topP'
    | 'topK'
    | 'deterministic'
    | 'seed'
    | 'shuffle'
  >;
}

export interface PlannedPpo {
  /** Of the policy's training. */
  readonly run: PlannedRun;
  readonly ppo: PpoMemory;
  /** Of a rollout: as many as the KV cache has room for. */
  readonly answersAtOnce: number;
  readonly total: number;
}

/** The adapters that the options name. Throws UsageError or InputError where they do not go together. */
export async function readPpoAdapters(
  args: PpoArguments,
  model: ModelConfig,
): Promise<{
  initial: Adapter | null;
  config: AdapterConfig;
  reference: Adapter | null;
  referencePath: string | undefined;
}> {
  const modules = linearShapes(model);
  const initial = args.initAdapter !== undefined ? await readAdapter(args.initAdapter, modules) : null;
  // Without dropout: the policy that learns must be the one that sampled.
  const config = { ...(initial?.config ?? newAdapterConfig({ ...args, loraDropout: 0 })), dropout: 0 };
  if (config.r > model.hiddenSize)
    throw new UsageError(`--lora-r ${config.r} is more than the model's hidden size ${model.hiddenSize}: lower it.`);
  const referencePath = args.refAdapter === 'none' ? undefined : (args.refAdapter ?? args.initAdapter);
  const reference = referencePath === undefined ? null : await readAdapter(referencePath, modules);
  const bare = reference && config.targetModules.find((name) => !reference.config.targetModules.includes(name));
  if (bare)
    throw new InputError(
      `--ref-adapter ${referencePath} does not adapt ${bare}, which the policy does: give one of the same modules, or none.`,
    );
  return { initial, config, reference, referencePath };
}

/**
 * The longest prompt and answer, tokens. Throws InputError where the model has fewer positions, or the KV cache asked for
 * fewer places.
 */
export function checkAnswerRoom(
  prompts: readonly Int32Array[],
  { responseLength, kvCacheTokens }: Pick<PpoArguments, 'responseLength' | 'kvCacheTokens'>,
  config: ModelConfig,
): number {
  const longest = prompts.reduce((most, { length }) => Math.max(most, length), 0);
  if (longest + responseLength > config.maxPositions)
    throw new InputError(
      `The longest prompt's ${longest} tokens and --response-length ${responseLength} pass the model's ${config.maxPositions} positions: lower it.`,
    );
  if (kvCacheTokens > 0) checkCacheRoom(kvCacheTokens, 'option', longest, responseLength);
  return longest + responseLength;
}

/** Throws InputError where the micro-batch asked for holds no whole prompt and answer. */
export function checkPpoMicroBatch(request: PpoRequest): void {
  const { asked, data } = trainingOf(request);
  if (asked > 0 && asked < data.longest)
    throw new InputError(
      `--micro-batch-tokens ${asked} is less than the longest prompt and answer, ${data.longest} tokens: raise it, or lower --response-length.`,
    );
}

/** The training of the policy. */
export function trainingOf(request: PpoRequest): PlanRequest {
  const { prompts, settings } = request;
  const { batchSize, numMiniBatches, responseLength } = settings;
  const longest = prompts.reduce((most, { length }) => Math.max(most, length), 0) + responseLength;
  return { ...request, maxLength: longest, data: { longest, fill: Math.ceil(batchSize / numMiniBatches) * longest } };
}

/** The policy's training as `planRun` has it, with what stands beside it. */
export function planPpoRun(target: PlanTarget, request: PpoRequest, limit: number | null): PlannedPpo {
  const beside = planBeside(target, request);
  const run = planRun(target, trainingOf(request), limit, (training) => beside.of(training).total);
  const ppo = beside.of(run.bytes);
  return { run, ppo, answersAtOnce: beside.answersAtOnce, total: run.bytes.total + ppo.total };
}

/** Bytes of the run with as little memory as its options allow. */
export function leastPpoMemory(target: PlanTarget, request: PpoRequest): number {
  const training = leastMemory(target, trainingOf(request));
  return training.total + planBeside(target, request).of(training).total;
}

function planBeside({ device, kernels, tier, tuning }: PlanTarget, request: PpoRequest) {
  const { config, packed, adapter, reference, prompts, settings } = request;
  const { temperature, topP, topK, deterministic } = settings;
  const rollout = planRollout(device, kernels, config, tier, {
    ...rolloutShape(prompts, settings),
    adapter,
    packed,
    tuning,
    sampling: { temperature, topP, topK, presencePenalty: 0, unpenalised: new Set<number>() },
    deterministic,
  });
  return {
    answersAtOnce: rollout.size.slots,
    of: (training: TrainingMemory) => planPpo(config, tier, { policy: adapter, reference, rollout }, training),
  };
}

/** The plan as a table. */
export function describePpoPlan(
  { run, ppo, answersAtOnce }: PlannedPpo,
  { config, settings }: PpoRequest,
  limit: MemoryLimit,
): string[] {
  const lines = describePlan(run, config.layers, limit, [
    ['critic', ppo.critic],
    ['reference', ppo.reference],
    ['KV cache of the rollout', ppo.cache],
    ['their inputs and scratch', ppo.programs],
  ]);
  const { batchSize } = settings;
  if (answersAtOnce < batchSize)
    lines.push(`A rollout goes through its ${batchSize} answers ${answersAtOnce} at a time.`);
  return lines;
}

/** How a run fits on a device. Throws InputError with the number needed where it does not; nothing is allocated by then. */
export function choosePpoMicroBatch(
  open: OpenDevice,
  request: PpoRequest,
  asked: number | null,
): PlannedPpo & { lines: string[] } {
  checkPpoMicroBatch(request);
  const limit = memoryLimit(open, asked);
  const plan = planPpoRun(open, request, limit.bytes);
  if (!plan.run.fits)
    throw new InputError(
      `The run needs ${formatBytes(plan.total)} of device memory (weights ${formatBytes(plan.run.bytes.weights)}, KV cache ${formatBytes(plan.ppo.cache)}) ` +
        `and ${limit.given ? '--memory-limit is' : 'the device has'} ${formatBytes(limit.bytes ?? 0)}: give --kv-cache-tokens, or lower --batch-size, --response-length or --lora-r; ` +
        '`lexalign plan --run ppo` says what would fit.',
    );
  return { ...plan, lines: describePpoPlan(plan, request, limit) };
}

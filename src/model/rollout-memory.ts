import type { ModelConfig } from '../../models/config.js';
import type { AdapterConfig } from '../formats/adapter.js';
import type { DeviceShape } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernels.js';
import { poolSizes } from '../gpu/memory-plan.js';
import { standIn } from '../gpu/tensor.js';
import type { SamplingOptions } from '../ops/sample.js';
import { AdapterWeights, adapterStandIn } from './adapter.js';
import { operandOf, type Tier } from './language-model.js';
import {
  layOutRollout,
  type RolloutSize,
  type RolloutWishes,
  recordStep,
  rolloutSize,
  stepCapacities,
} from './rollout-program.js';
import { modelStandIn, residentBytes, type TrainingShape } from './training-memory.js';
import { weightBytes } from './weights.js';

/** Device memory of a rollout beside its model and adapter, bytes by what for. */
export interface RolloutMemory {
  readonly size: RolloutSize;
  /** Keys and values. */
  readonly cache: number;
  /** Transient tensors of its steps, in buffers that a training run's programs can use too. */
  readonly activations: number;
  /** Tables of rows and paths, notes of the presence penalty, uniforms. */
  readonly tables: number;
  readonly total: number;
  /** Sizes of the buffers of `activations`. */
  readonly slots: readonly number[];
}

export interface RolloutPlan extends RolloutWishes, Pick<TrainingShape, 'packed' | 'tuning'> {
  readonly adapter: AdapterConfig | null;
  readonly sampling: SamplingOptions;
  readonly deterministic?: boolean;
}

/** Plans a rollout before anything is allocated, by recording its steps over stand-ins. Throws as `rolloutSize` does. */
export function planRollout(
  device: DeviceShape,
  kernels: KernelCache,
  config: ModelConfig,
  tier: Tier,
  plan: RolloutPlan,
): RolloutMemory {
  const maxLength = plan.maxPromptTokens + plan.maxNewTokens;
  const model = modelStandIn(device, kernels, config, tier, { maxLength, packed: plan.packed, tuning: plan.tuning });
  const size = rolloutSize(model, plan);
  let [cache, tables] = [0, 0];
  const { sampling, deterministic = false } = plan;
  const tensors = layOutRollout(
    (label, dtype, shape) => {
      const tensor = standIn(label, dtype, shape);
      if (label.startsWith('cache.')) cache += tensor.bytes;
      else tables += Math.max(16, tensor.bytes);
      return tensor;
    },
    model,
    size,
    { sampling, deterministic },
  );
  const adapter = plan.adapter && adapterStandIn(config, plan.adapter, operandOf(tier));
  const recorders = stepCapacities(size, deterministic).map((capacity) =>
    recordStep(model, { adapter, sampling, deterministic }, tensors, size, capacity),
  );
  for (const { dispatchCount } of recorders) tables += dispatchCount * device.uniformAlign;
  const slots = poolSizes(recorders.reverse().map((recorder) => recorder.plan().slots));
  const activations = slots.reduce((sum, bytes) => sum + bytes, 0);
  return { size, cache, activations, tables, total: cache + activations + tables, slots };
}

/** Device memory of generating alone, bytes by what for. */
export interface GenerationMemory {
  readonly weights: number;
  readonly adapter: number;
  /** Keys and values. */
  readonly cache: number;
  readonly activations: number;
  /** Inputs of programs, RoPE table, uniforms, staging of uploads. */
  readonly batch: number;
  readonly total: number;
  /** Sequences decoded together. */
  readonly slots: number;
}

/** Plans a model, an adapter and a rollout of them before anything is allocated. Throws as `rolloutSize` does. */
export function planGeneration(
  device: DeviceShape,
  kernels: KernelCache,
  config: ModelConfig,
  tier: Tier,
  plan: RolloutPlan,
): GenerationMemory {
  const maxLength = plan.maxPromptTokens + plan.maxNewTokens;
  const { packed, tuning } = plan;
  const weights = weightBytes(modelStandIn(device, kernels, config, tier, { maxLength, packed, tuning }).weights);
  const adapter = plan.adapter ? AdapterWeights.bytes(config, plan.adapter, operandOf(tier), { trainable: false }) : 0;
  const rollout = planRollout(device, kernels, config, tier, plan);
  const batch = residentBytes(config, maxLength) + rollout.tables;
  const { cache, activations, size } = rollout;
  const total = weights + adapter + cache + activations + batch;
  return { weights, adapter, cache, activations, batch, total, slots: size.slots };
}

import type { ModelConfig } from '../../models/config.js';
import { rowBucket } from '../batch/pack.js';
import type { AdapterConfig } from '../formats/adapter.js';
import type { Device } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernels.js';
import type { Recorder } from '../gpu/program.js';
import { Tensor } from '../gpu/tensor.js';
import type { Tuning } from '../ops/tuning.js';
import { AdapterWeights, adapterStandIn } from './adapter.js';
import { layOutBatch } from './batch-tensors.js';
import { attentionLayout, opContext, operandOf, type Tier } from './language-model.js';
import { recordLoss } from './loss-program.js';
import { type PackedLayouts, weightBytes, weightsStandIn } from './weights.js';

/** Bytes of device memory that a training run takes, by what for. */
export interface TrainingMemory {
  readonly weights: number;
  /** Parameters, operand copies, gradients and both moments. */
  readonly adapter: number;
  /** Transient tensors of the largest program: the slots of its memory plan. */
  readonly activations: number;
  /** Inputs of programs, RoPE table, uniforms, staging of uploads. */
  readonly batch: number;
  readonly total: number;
  /** Slots of the largest program, bytes each. */
  readonly slots: readonly number[];
}

/**
 * Inputs of the programs for all row counts up to the largest, over those of the largest: counts fall by √2 or so, and
 * the sum of that series is 1 / (1 − 1/√2).
 */
const inputsOfAll = 3.5;

/** Row counts that a run may record programs for. */
function countBuckets(rows: number): number {
  let count = 1;
  for (let n = 1; rowBucket(n) < rows; n = rowBucket(n) + 1) count++;
  return count;
}

/** Plans a run over micro-batches of `rows` trie nodes before anything is allocated, by recording it over stand-ins. */
export function planTraining(
  device: Device,
  kernels: KernelCache,
  config: ModelConfig,
  adapter: AdapterConfig,
  tier: Tier,
  options: { rows: number; maxLength: number; packed: PackedLayouts; recompute?: number; tuning?: Tuning },
): TrainingMemory {
  const { rows, maxLength, packed, recompute, tuning } = options;
  const model = {
    kernels,
    config,
    maxBinding: device.maxBinding,
    weights: weightsStandIn(config, operandOf(tier), device.maxBinding, packed),
    ropeTable: new Tensor('rope_table', 'f32', [maxLength, config.headDim / 2, 2], null, 0, true),
    ops: (recorder: Recorder) => opContext(device, recorder, tier, tuning),
  };
  let batch = 4 * maxLength * config.headDim + (4 << 20);
  const tensors = layOutBatch(
    (label, dtype, elements) => {
      const tensor = new Tensor(label, dtype, [elements], null, 0, true);
      batch += 2 * inputsOfAll * tensor.bytes; // one program trains, another evaluates
      return tensor;
    },
    rows,
    rows,
    attentionLayout(device, config, tier),
  );
  const edgeLogprob = new Tensor('edge_logprob', 'f32', [rows], null, 0, true);
  const recorder = recordLoss(
    model,
    { adapter: adapterStandIn(config, adapter, operandOf(tier)), backward: true, recompute },
    tensors,
    edgeLogprob,
    rows,
  );
  const plan = recorder.plan();
  const align = Math.max(64, device.gpu.limits.minUniformBufferOffsetAlignment);
  batch += 2 * countBuckets(rows) * recorder.dispatchCount * align;
  const weights = weightBytes(model.weights);
  const adapterBytes = AdapterWeights.bytes(config, adapter, operandOf(tier), { trainable: true });
  return {
    weights,
    adapter: adapterBytes,
    activations: plan.bytes,
    batch,
    total: weights + adapterBytes + plan.bytes + batch,
    slots: plan.slots,
  };
}

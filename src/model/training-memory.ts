import type { ModelConfig } from '../../models/config.js';
import { rowBucket } from '../batch/pack.js';
import type { AdapterConfig } from '../formats/adapter.js';
import type { DeviceShape } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernels.js';
import type { Recorder } from '../gpu/program.js';
import { standIn, type Tensor } from '../gpu/tensor.js';
import type { Tuning } from '../ops/tuning.js';
import { AdapterWeights, adapterStandIn } from './adapter.js';
import { layOutBatch } from './batch-tensors.js';
import { attentionLayout, opContext, operandOf, type Tier } from './language-model.js';
import { recordLoss } from './loss-program.js';
import { type PackedLayouts, weightBytes, weightsStandIn } from './weights.js';

/** Device memory of a training run, bytes by what for, and its work. */
export interface TrainingMemory {
  readonly weights: number;
  /** Parameters and operand copies. */
  readonly adapter: number;
  /** Gradients and both moments. */
  readonly optimizer: number;
  /** Of transient tensors, which share slots: those of slots made for unpacked matrices, for logits, and all others. */
  readonly scratch: number;
  readonly logits: number;
  readonly activations: number;
  /** Inputs of programs, RoPE table, uniforms, staging of uploads. */
  readonly batch: number;
  readonly total: number;
  /** Slots of the largest program, bytes each. */
  readonly slots: readonly number[];
  /** Floating-point operations of the largest program at full capacity, forward and backward. */
  readonly flops: number;
}

export interface TrainingShape {
  /** Trie nodes of a micro-batch. */
  readonly rows: number;
  /** Longest sequence. */
  readonly maxLength: number;
  /** Matrices that stay packed. */
  readonly packed: PackedLayouts;
  /** Layers whose activations the backward pass computes again. */
  readonly recompute: number;
  readonly tuning?: Tuning;
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

/** A model without memory, to record programs for a plan over. */
export function modelStandIn(
  device: DeviceShape,
  kernels: KernelCache,
  config: ModelConfig,
  tier: Tier,
  { maxLength, packed, tuning }: Pick<TrainingShape, 'maxLength' | 'packed' | 'tuning'>,
) {
  return {
    kernels,
    config,
    operand: operandOf(tier),
    maxBinding: device.maxBinding,
    weights: weightsStandIn(config, operandOf(tier), device.maxBinding, packed),
    ropeTable: standIn('rope_table', 'f32', [maxLength, config.headDim / 2, 2]),
    ops: (recorder: Recorder) => opContext(device, recorder, tier, tuning),
  };
}

/** RoPE table and staging of uploads, bytes. */
export function residentBytes({ headDim }: Pick<ModelConfig, 'headDim'>, maxLength: number): number {
  return 4 * maxLength * headDim + (4 << 20);
}

/** Plans a run before anything is allocated, by recording its largest program over stand-ins. */
export function planTraining(
  device: DeviceShape,
  kernels: KernelCache,
  config: ModelConfig,
  adapter: AdapterConfig,
  tier: Tier,
  { rows, maxLength, packed, recompute, tuning }: TrainingShape,
): TrainingMemory {
  const model = modelStandIn(device, kernels, config, tier, { maxLength, packed, tuning });
  let batch = residentBytes(config, maxLength);
  const tensors = layOutBatch(
    (label, dtype, elements) => {
      const tensor = standIn(label, dtype, [elements]);
      batch += 2 * inputsOfAll * tensor.bytes; // one program trains, another evaluates
      return tensor;
    },
    rows,
    rows,
    attentionLayout(device, config, tier, tuning),
  );
  const result = standIn('result', 'f32', [rows]);
  const recorder = recordLoss(
    model,
    { adapter: adapterStandIn(config, adapter, operandOf(tier)), backward: true, recompute },
    tensors,
    { result, samples: null, entropy: null },
    rows,
  );
  const plan = recorder.plan();
  batch += 2 * countBuckets(rows) * recorder.dispatchCount * device.uniformAlign;
  const slotsFor = (wanted: string) =>
    plan.slots.reduce((sum, bytes, slot) => sum + (purposeOf(plan.madeFor[slot]) === wanted ? bytes : 0), 0);
  const weights = weightBytes(model.weights);
  const adapterBytes = (trainable: boolean) => AdapterWeights.bytes(config, adapter, operandOf(tier), { trainable });
  return {
    weights,
    adapter: adapterBytes(false),
    optimizer: adapterBytes(true) - adapterBytes(false),
    scratch: slotsFor('scratch'),
    logits: slotsFor('logits'),
    activations: slotsFor('activations'),
    batch,
    total: weights + adapterBytes(true) + plan.bytes + batch,
    slots: plan.slots,
    flops: recorder.flops,
  };
}

/** Which line of the plan a transient tensor counts for. */
function purposeOf({ label }: Tensor): 'scratch' | 'logits' | 'activations' {
  if (label === 'dequantized') return 'scratch';
  return label === 'logits' || label === 'dlogits' ? 'logits' : 'activations';
}

import type { ModelConfig } from '../../models/config.js';
import type { Adapter } from '../formats/adapter.js';
import type { LoadableCheckpoint } from '../formats/checkpoint.js';
import { BatchUniform } from '../gpu/batch.js';
import type { Device, DeviceShape } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernels.js';
import { BufferPool, Recorder } from '../gpu/program.js';
import { createTensor, type Tensor, upload } from '../gpu/tensor.js';
import { adapterOperands } from '../ops/adamw.js';
import { attentionBlock } from '../ops/attention.js';
import type { OpContext } from '../ops/context.js';
import { ropeTable } from '../ops/rope-table.js';
import { type Tuning, tunedBy } from '../ops/tuning.js';
import { AdapterWeights } from './adapter.js';
import type { AttentionLayout } from './batch-tensors.js';
import { type LoadOptions, loadWeights } from './load-weights.js';
import type { Weights } from './weights.js';

/** How matmuls run: on matrix units, or in registers with f16 or f32 operands. */
export type Tier = 'tensor' | 'f16' | 'f32';

/** Element type of matmul operands in a tier. */
export function operandOf(tier: Tier): 'f16' | 'f32' {
  return tier === 'f32' ? 'f32' : 'f16';
}

/** How this device's kernels run in a tier. */
export function opContext(device: DeviceShape, recorder: Recorder, tier: Tier, tuning?: Tuning): OpContext {
  return { recorder, ...formsOf(device, tier, tuning) };
}

/** As `opContext`, before anything is recorded. */
export function formsOf(device: DeviceShape, tier: Tier, tuning?: Tuning): Omit<OpContext, 'recorder'> {
  const { cpu, subgroups } = device.features;
  const matrix = tier === 'tensor' ? device.matrixUnits[0] : undefined;
  return {
    operand: operandOf(tier),
    cpu,
    subgroups,
    maxBinding: device.maxBinding,
    matrix,
    ...tunedBy(tuning, matrix),
  };
}

/** For which attention batches of a model are laid out. */
export function attentionLayout(
  device: DeviceShape,
  config: ModelConfig,
  tier: Tier,
  tuning: Tuning | undefined,
): AttentionLayout {
  return { block: attentionBlock(formsOf(device, tier, tuning), config.headDim), windows: config.windows };
}

export interface ModelOptions extends LoadOptions {
  readonly tier: Tier;
  /** Longest sequence. */
  readonly maxPositions: number;
  readonly tuning?: Tuning;
}

/** A frozen base model on a device, with what all programs over it share: the batch's uniform and transient memory. */
export class LanguageModel {
  readonly device: Device;
  readonly kernels: KernelCache;
  readonly config: ModelConfig;
  readonly tier: Tier;
  /** Settings measured on this device, where some were. */
  readonly tuning: Tuning | undefined;
  readonly weights: Weights;
  readonly pool: BufferPool;
  readonly batch: BatchUniform;
  /** [maxPositions, headDim / 2, 2] */
  readonly ropeTable: Tensor;
  /** Longest sequence this model was opened for. */
  readonly maxPositions: number;

  private constructor(
    device: Device,
    kernels: KernelCache,
    config: ModelConfig,
    weights: Weights,
    { tier, maxPositions, tuning }: ModelOptions,
  ) {
    this.device = device;
    this.kernels = kernels;
    this.config = config;
    this.tier = tier;
    this.tuning = tuning;
    this.weights = weights;
    this.maxPositions = maxPositions;
    this.pool = new BufferPool(device);
    this.batch = new BatchUniform(device);
    this.ropeTable = createTensor(device, 'rope_table', 'f32', [maxPositions, config.headDim / 2, 2]);
    upload(device, this.ropeTable, ropeTable(config.rope, config.headDim, maxPositions));
  }

  /** Streams the checkpoint onto the device. */
  static async load(
    device: Device,
    kernels: KernelCache,
    checkpoint: LoadableCheckpoint<ModelConfig>,
    options: ModelOptions,
  ): Promise<LanguageModel> {
    const weights = await loadWeights(device, kernels, checkpoint, operandOf(options.tier), options);
    return new LanguageModel(device, kernels, checkpoint.config, weights, options);
  }

  get operand(): 'f16' | 'f32' {
    return operandOf(this.tier);
  }

  /** For which attention its batches are laid out. */
  get attention(): AttentionLayout {
    return attentionLayout(this.device, this.config, this.tier, this.tuning);
  }

  /** Largest range of one binding, bytes. */
  get maxBinding(): number {
    return this.device.maxBinding;
  }

  /** A context for recording operations of this model's tier. */
  ops(recorder: Recorder): OpContext {
    return opContext(this.device, recorder, this.tier, this.tuning);
  }

  /** Records and runs something once. */
  async runOnce(record: (ops: OpContext) => void): Promise<void> {
    const recorder = new Recorder(this.kernels);
    record(this.ops(recorder));
    const program = await recorder.realise(this.device, this.pool, this.batch.buffer);
    program.run();
    await this.device.finish();
    program.destroy();
  }

  /** An adapter on the device, with these numbers. */
  async addAdapter(adapter: Adapter, options: { trainable: boolean }): Promise<AdapterWeights> {
    const weights = new AdapterWeights(this.device, this.config, adapter.config, this.operand, options);
    await this.setAdapter(weights, adapter);
    return weights;
  }

  /** Replaces an adapter's numbers. */
  async setAdapter(weights: AdapterWeights, adapter: Adapter): Promise<void> {
    weights.upload(adapter);
    await this.runOnce((ops) => {
      for (const chunk of weights.chunks) adapterOperands(ops, chunk);
    });
  }
}

import type { ModelConfig } from '../../models/config.js';
import { InputError } from '../errors.js';
import { bytesOf } from '../gpu/tensor.js';

type Sizes = Pick<ModelConfig, 'hiddenSize' | 'intermediateSize' | 'heads' | 'headDim'>;

/** Bytes of one row of a model's widest activations. */
function widestRow({ hiddenSize, intermediateSize, heads, headDim }: Sizes, operand: 'f16' | 'f32'): number {
  return Math.max(4 * hiddenSize, bytesOf[operand] * Math.max(intermediateSize, heads * headDim));
}

/** Most rows of a batch whose activations the device binds. */
export function bindableRows(config: Sizes, operand: 'f16' | 'f32', maxBinding: number): number {
  return Math.floor(maxBinding / widestRow(config, operand));
}

/** Throws InputError for more rows than those. */
export function checkBindable(rows: number, config: Sizes, operand: 'f16' | 'f32', maxBinding: number): void {
  if (rows > bindableRows(config, operand, maxBinding))
    throw new InputError(
      `A micro-batch of ${rows} tokens needs activations of ${rows * widestRow(config, operand)} bytes, more than the ${maxBinding} this device binds at once: give fewer --micro-batch-tokens, or shorter rows.`,
    );
}

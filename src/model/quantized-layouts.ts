import type { ModelConfig } from '../../models/config.js';
import { tensorSpecs } from '../../models/tensors.js';
import type { PackedLayout } from '../ops/dequantize.js';
import type { PackedLayouts } from './weights.js';

/** Formats of 4 and 8 bits; `none` leaves weights in the tier's operand type. */
export const QUANTIZED_FORMATS = ['none', 'nf4', 'int4', 'int8'] as const;
export type QuantizedFormat = (typeof QUANTIZED_FORMATS)[number];

const codes = { nf4: 'nf4', int4: 'affine4', int8: 'affine8' } as const;

/**
 * Which matrices a format packs: the linear layers, with `vocabularies` the embedding and the head too; by default as
 * bitsandbytes (NF4) and MLX (the affine formats) have it, in groups of 64. Those of NF4 run over the ends of rows, which
 * are multiples of 8; of the others, matrices whose rows do not divide into groups stay as they are.
 */
export function quantizedLayouts(
  config: ModelConfig,
  format: QuantizedFormat,
  options: { group?: number; vocabularies?: boolean } = {},
): PackedLayouts {
  const { group = 64, vocabularies = format !== 'nf4' } = options;
  const packed = new Map<string, PackedLayout>();
  if (format === 'none') return packed;
  for (const { name, shape, role } of tensorSpecs(config)) {
    if (role !== 'linear' && !(vocabularies && (role === 'embedding' || role === 'head'))) continue;
    const [n, k] = shape;
    if (k % (format === 'nf4' ? 8 : group) === 0)
      packed.set(name, { format: codes[format], n, k, group, ordered: true });
  }
  return packed;
}

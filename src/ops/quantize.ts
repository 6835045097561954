import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext } from './context.js';
import type { PackedMatrix } from './dequantize.js';

/**
 * Numbers first … first + count − 1 of the flattened matrix := the elements of type `from` whose file bytes lie at the
 * start of `raw`, quantised group by group. `first` is a multiple of the matrix's group, `count` of 8; only the matrix's
 * last group may be short. The matrix has its columns in order.
 */
export function quantize(
  ctx: OpContext,
  args: { raw: Tensor; matrix: PackedMatrix; from: 'bf16' | 'f16' | 'f32'; count: number; first: number },
): void {
  const { raw, matrix, from, count, first } = args;
  const { format, codes, scales, group } = matrix;
  const groups = Math.ceil(count / group);
  ctx.recorder.dispatch({
    kernel: 'quantize',
    pass: 'forward',
    defines: { FORMAT: format, FROM: from },
    label: 'quantize',
    tensors: { raw, codes, scales },
    params: { count, first, group },
    workgroups: grid(Math.ceil(groups / 64)),
    bytes: count * ((from === 'f32' ? 4 : 2) + (format === 'affine8' ? 1 : 0.5)) + groups * (format === 'nf4' ? 4 : 8),
  });
}

import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext, type RowCount } from './context.js';

/**
 * y = Σ_z sums[z], or y += …: adds, in a fixed order, the parts of a product whose sum was split over workgroups. sums
 * f32 [splits, …y], y f32 or f16. With `count` only the live rows of y [rows, columns].
 */
export function sumSplits(
  ctx: OpContext,
  args: { label: string; sums: Tensor; y: Tensor; accumulate?: boolean; count?: RowCount },
): void {
  const { label, sums, y, accumulate = false, count } = args;
  const quads = y.elements / 4;
  ctx.recorder.dispatch({
    kernel: 'sum-splits',
    pass: 'forward',
    defines: { TYPE: y.dtype, ACCUMULATE: Number(accumulate), LIVE: Number(count !== undefined), COUNT: count ?? '' },
    label,
    tensors: { sums, y },
    params: { quads, splits: sums.elements / y.elements, rowQuads: y.shape[y.shape.length - 1] / 4 },
    workgroups: grid(Math.ceil(quads / 64)),
    bytes: sums.bytes + (accumulate ? 2 : 1) * y.bytes,
  });
}

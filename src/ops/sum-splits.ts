import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext, type RowCount } from './context.js';

/**
 * y = Σ_z sums[z], or y += …: adds, in a fixed order, the parts of a product whose sum was split over workgroups. sums
 * f32 [splits, …], y f32 or f16. With `count` only the live rows of y [rows, columns], counted from `firstRow`; row 0 of
 * the sums is row `yRow` of y. With `yColumn` sums are [splits, rows, columns], of which column 0 is that one of a wider y.
 */
export function sumSplits(
  ctx: OpContext,
  args: {
    label: string;
    sums: Tensor;
    y: Tensor;
    accumulate?: boolean;
    count?: RowCount;
    firstRow?: number;
    yRow?: number;
    yColumn?: number;
  },
): void {
  const { label, sums, y, accumulate = false, count } = args;
  const [splits] = sums.shape;
  const quads = sums.elements / splits / 4;
  ctx.recorder.dispatch({
    kernel: 'sum-splits',
    pass: 'forward',
    defines: { TYPE: y.dtype, ACCUMULATE: Number(accumulate), LIVE: Number(count !== undefined), COUNT: count ?? '' },
    label,
    tensors: { sums, y },
    params: {
      quads,
      splits,
      rowQuads: (args.yColumn === undefined ? y : sums).shape.at(-1)! / 4,
      firstRow: args.firstRow ?? 0,
      yRow: args.yRow ?? 0,
      yRowQuads: y.shape.at(-1)! / 4,
      yFirstQuad: (args.yColumn ?? 0) / 4,
    },
    workgroups: grid(Math.ceil(quads / 64)),
    bytes: sums.bytes + ((accumulate ? 2 : 1) * y.bytes * 4 * quads) / y.elements,
  });
}

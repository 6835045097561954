import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext } from './context.js';

/** A matrix [n, k] whose weights stay packed on the device; kernels/include/dequantize.wgsl says how they are read. */
export interface PackedMatrix {
  readonly format: 'affine4' | 'affine8' | 'nf4';
  readonly n: number;
  /** A multiple of 8. */
  readonly k: number;
  /** u32 [n · k · bits / 32] */
  readonly codes: Tensor;
  /** f32: (scale, offset) of each group of an affine matrix, the scale of each of NF4. */
  readonly scales: Tensor;
  /** Numbers that share a scale; a multiple of 8. */
  readonly group: number;
  /** u32 [k], each column's group within its row, where these are not in order. */
  readonly columnGroup: Tensor | null;
}

/** y [n, k] = the matrix's weights, rounded to y's type. */
export function dequantize(ctx: OpContext, matrix: PackedMatrix, y: Tensor): void {
  const { format, n, k, codes, scales, group, columnGroup } = matrix;
  ctx.recorder.dispatch({
    kernel: 'dequantize',
    pass: 'forward',
    defines: { FORMAT: format, TYPE: y.dtype, COLUMNS: Number(columnGroup !== null) },
    label: 'dequantize',
    tensors: columnGroup ? { codes, scales, y, columnGroup } : { codes, scales, y },
    params: { units: (n * k) / 8, group, k, groups: k / group },
    workgroups: grid(Math.ceil((n * k) / 512)),
    bytes: codes.bytes + scales.bytes + y.bytes,
  });
}

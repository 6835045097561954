import { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext } from './context.js';

/** How a matrix [n, k] of packed weights lies on the device; kernels/include/dequantize.wgsl says how it is read. */
export interface PackedLayout {
  readonly format: 'affine4' | 'affine8' | 'nf4';
  readonly n: number;
  /** A multiple of 8. */
  readonly k: number;
  /** Numbers that share a scale; a multiple of 8. */
  readonly group: number;
  /** Whether columns stand in the order of their groups; otherwise `columnGroup` tells each one's. */
  readonly ordered: boolean;
}

/** A matrix whose weights stay packed on the device. */
export interface PackedMatrix extends Omit<PackedLayout, 'ordered'> {
  /** u32 [n · k · bits / 32] */
  readonly codes: Tensor;
  /** f32: (scale, offset) of each group of an affine matrix, the scale of each of NF4. */
  readonly scales: Tensor;
  /** u32 [k], each column's group within its row, where these are not in order. */
  readonly columnGroup: Tensor | null;
}

/** Plain, of operand type, or packed. */
export type Matrix = Tensor | PackedMatrix;

/** A packed matrix over tensors that `make` makes. */
export function layOutPacked(
  { format, n, k, group, ordered }: PackedLayout,
  label: string,
  make: (label: string, dtype: 'u32' | 'f32', shape: readonly number[]) => Tensor,
): PackedMatrix {
  return {
    format,
    n,
    k,
    group,
    codes: make(`${label}.codes`, 'u32', [(n * k) / (format === 'affine8' ? 4 : 8)]),
    scales: make(`${label}.scales`, 'f32', [Math.ceil((n * k) / group) * (format === 'nf4' ? 1 : 2)]),
    columnGroup: ordered ? null : make(`${label}.groups`, 'u32', [k]),
  };
}

/** Bytes that a product reads of a matrix. */
export function matrixBytes(matrix: Matrix): number {
  return matrix instanceof Tensor ? matrix.bytes : matrix.codes.bytes + matrix.scales.bytes;
}

/** The tensors of a packed matrix by the names that kernels bind them. */
export function packedTensors({ codes, scales, columnGroup }: PackedMatrix): Record<string, Tensor> {
  return columnGroup ? { codes, scales, columnGroup } : { codes, scales };
}

/** y [rows, k] = the matrix's weights from row `first`, rounded to y's type. */
export function dequantize(ctx: OpContext, matrix: PackedMatrix, y: Tensor, first = 0): void {
  const { format, n, k, codes, scales, group, columnGroup } = matrix;
  const [rows] = y.shape;
  ctx.recorder.dispatch({
    kernel: 'dequantize',
    pass: 'forward',
    defines: { FORMAT: format, TYPE: y.dtype, COLUMNS: Number(columnGroup !== null) },
    label: 'dequantize',
    tensors: { ...packedTensors(matrix), y },
    params: { units: (rows * k) / 8, first: (first * k) / 8, group, k, groups: k / group },
    workgroups: grid(Math.ceil((rows * k) / 512)),
    bytes: ((codes.bytes + scales.bytes) * rows) / n + y.bytes,
  });
}

import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext } from './context.js';

export interface RopeShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

export interface RopeTensors {
  /** [rows, heads, headDim] */
  readonly q: Tensor;
  /** [rows, kvHeads, headDim] */
  readonly k: Tensor;
  /** u32 [rows] */
  readonly positions: Tensor;
  /** [positions, headDim / 2, 2] cosine, sine */
  readonly table: Tensor;
}

/** Rotates q and k in place by the angles of their rows' positions (Su et al. 2021; halves convention). */
export function rope(ctx: OpContext, shape: RopeShape, tensors: RopeTensors): void {
  record(ctx, shape, tensors, 1);
}

/** Turns gradients back: the transpose of a rotation is its inverse. */
export function ropeBackward(ctx: OpContext, shape: RopeShape, tensors: RopeTensors): void {
  record(ctx, shape, tensors, -1);
}

function record(ctx: OpContext, shape: RopeShape, { q, k, positions, table }: RopeTensors, direction: number) {
  const { heads, kvHeads, headDim } = shape;
  const elements = q.elements + k.elements;
  ctx.recorder.dispatch({
    kernel: 'rope',
    pass: 'forward',
    defines: { TYPE: q.dtype },
    label: direction > 0 ? 'rope' : 'rope.backward',
    tensors: { q, k, positions, table },
    params: { heads, kvHeads, headDim, direction },
    workgroups: grid(Math.ceil(elements / 2 / 64)),
    flops: 3 * elements,
    bytes: 2 * (q.bytes + k.bytes),
  });
}

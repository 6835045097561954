import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext } from './context.js';
import type { RopeShape } from './rope-table.js';

/** Rotates x [rows, heads, headDim] in place by the angles of its rows' positions (Su et al. 2021; halves convention). */
export function rope(ctx: OpContext, shape: RopeShape, args: { x: Tensor; positions: Tensor; table: Tensor }): void {
  record(ctx, shape, args, 1);
}

/** Turns a gradient back: the transpose of a rotation is its inverse. */
export function ropeBackward(
  ctx: OpContext,
  shape: RopeShape,
  args: { x: Tensor; positions: Tensor; table: Tensor },
): void {
  record(ctx, shape, args, -1);
}

function record(
  ctx: OpContext,
  shape: RopeShape,
  args: { x: Tensor; positions: Tensor; table: Tensor },
  direction: number,
) {
  ctx.recorder.dispatch({
    kernel: 'rope',
    pass: 'forward',
    defines: { TYPE: args.x.dtype },
    label: direction > 0 ? 'rope' : 'rope.backward',
    tensors: args,
    params: { heads: shape.heads, headDim: shape.headDim, direction },
    workgroups: grid(Math.ceil(args.x.elements / 2 / 64)),
    flops: 3 * args.x.elements,
    bytes: 2 * args.x.bytes,
  });
}

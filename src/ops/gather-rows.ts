import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext } from './context.js';

/** y [logit rows, dim] = x[index]; all f32. */
export function gatherRows(ctx: OpContext, args: { index: Tensor; x: Tensor; y: Tensor }): void {
  ctx.recorder.dispatch({
    kernel: 'gather-rows',
    pass: 'forward',
    defines: {},
    label: 'gather_rows',
    tensors: args,
    params: { dim: args.y.shape[1] },
    workgroups: grid(args.y.shape[0]),
    bytes: args.y.elements * 8,
  });
}

/** dx [rows, dim] f32 = dy[inverse], zero where inverse is −1; dxCopy is dx in operand type (f16 tiers only). */
export function gatherRowsBackward(
  ctx: OpContext,
  args: { inverse: Tensor; dy: Tensor; dx: Tensor; dxCopy: Tensor },
): void {
  const { dxCopy, ...rest } = args;
  ctx.recorder.dispatch({
    kernel: 'gather-rows',
    pass: 'backward',
    defines: { TYPE: ctx.operand },
    label: 'gather_rows.backward',
    tensors: ctx.operand === 'f16' ? args : rest,
    params: { dim: args.dx.shape[1] },
    workgroups: grid(args.dx.shape[0]),
    bytes: args.dx.elements * 10,
  });
}

import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext } from './context.js';

/** y = mask·x / (1 − p), [rows, dim]; the mask is a hash of the batch's seed, `site` and the element. */
export function dropout(ctx: OpContext, args: { x: Tensor; y: Tensor }, site: number): void {
  const { x, y } = args;
  ctx.recorder.dispatch({
    kernel: 'dropout',
    pass: 'forward',
    defines: { SOURCE: x.dtype, TYPE: y.dtype },
    label: 'dropout',
    tensors: { x, y },
    params: { dim: x.shape[1], site },
    workgroups: grid(Math.ceil(x.elements / 64)),
    bytes: x.bytes + y.bytes,
  });
}

/** dx += mask·dy / (1 − p) with the mask of the forward pass of the same seed and site. */
export function dropoutBackward(ctx: OpContext, args: { dy: Tensor; dx: Tensor }, site: number): void {
  const { dy, dx } = args;
  ctx.recorder.dispatch({
    kernel: 'dropout',
    pass: 'backward',
    defines: { SOURCE: dy.dtype, TYPE: dx.dtype },
    label: 'dropout.backward',
    tensors: { dy, dx },
    params: { dim: dx.shape[1], site },
    workgroups: grid(Math.ceil(dx.elements / 64)),
    bytes: dy.bytes + 2 * dx.bytes,
  });
}

import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext } from './context.js';

/** h [rows, dim] = scale · silu(gate) · up (Shazeer 2020); `scale` is a power of two that keeps h inside f16. */
export function swiglu(ctx: OpContext, args: { gate: Tensor; up: Tensor; h: Tensor }, scale: number): void {
  ctx.recorder.dispatch({
    kernel: 'swiglu',
    pass: 'forward',
    defines: { TYPE: args.h.dtype },
    label: 'swiglu',
    tensors: args,
    params: { dim: args.h.shape[1], scale },
    workgroups: grid(Math.ceil(args.h.elements / 256)),
    flops: 5 * args.h.elements,
    bytes: 3 * args.h.bytes,
  });
}

/** In place, gate becomes dh·up·silu'(gate) and up dh·silu(gate), dh being the gradient of the unscaled product. */
export function swigluBackward(ctx: OpContext, args: { gate: Tensor; up: Tensor; dh: Tensor }): void {
  ctx.recorder.dispatch({
    kernel: 'swiglu',
    pass: 'backward',
    defines: { TYPE: args.dh.dtype },
    label: 'swiglu.backward',
    tensors: args,
    params: { dim: args.dh.shape[1], scale: 1 },
    workgroups: grid(Math.ceil(args.dh.elements / 256)),
    flops: 10 * args.dh.elements,
    bytes: 5 * args.dh.bytes,
  });
}

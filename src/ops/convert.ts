import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext } from './context.js';

/** y[first …] = the `count` elements of type `from` whose file bytes lie at the start of `raw`. */
export function convert(
  ctx: OpContext,
  args: { raw: Tensor; y: Tensor; from: 'bf16' | 'f16' | 'f32'; count: number; first: number },
): void {
  ctx.recorder.dispatch({
    kernel: 'convert',
    pass: 'forward',
    defines: { FROM: args.from, TO: args.y.dtype },
    label: 'convert',
    tensors: { raw: args.raw, y: args.y },
    params: { count: args.count, first: args.first },
    workgroups: grid(Math.ceil(args.count / 128)),
  });
}

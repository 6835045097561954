import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext } from './context.js';

/** norm f32 [2] = (L2 norm of all gradients without the loss scale, 1 if any is not finite else 0). */
export function gradNorm(ctx: OpContext, args: { gradients: readonly Tensor[]; norm: Tensor }): void {
  const groups = args.gradients.map((g) => Math.ceil(g.elements / 4096));
  const count = groups.reduce((a, b) => a + b, 0);
  const sums = ctx.recorder.tensor('norm_sums', 'f32', [count, 2]);
  let first = 0;
  args.gradients.forEach((gradients, i) => {
    ctx.recorder.dispatch({
      kernel: 'grad-norm',
      pass: 'squares',
      defines: {},
      label: 'grad_norm',
      tensors: { gradients, sums },
      params: { quads: gradients.elements / 4, first },
      workgroups: grid(groups[i]),
      bytes: gradients.bytes,
    });
    first += groups[i];
  });
  ctx.recorder.dispatch({
    kernel: 'grad-norm',
    pass: 'total',
    defines: {},
    label: 'grad_norm',
    tensors: { sums, norm: args.norm },
    params: { count },
    workgroups: [1],
  });
}

import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext } from './context.js';

/**
 * gradient += alpha · Σ_m skinny[m, ·] ⊗ wide[m, ·]: the gradient of lora_A (layout 'a', [rank, columns]; skinny = du,
 * wide = x) or of lora_B (layout 'b', [columns, rank]; skinny = u, wide = dy). Rows are split over workgroups and the
 * parts summed in a fixed order, so the result does not depend on scheduling.
 */
export function loraGradient(
  ctx: OpContext,
  args: {
    label: string;
    layout: 'a' | 'b';
    skinny: Tensor;
    wide: Tensor;
    gradient: Tensor;
    rank: number;
    columns: number;
    alpha: number;
  },
): void {
  const { skinny, wide, gradient, rank, columns } = args;
  const rows = wide.shape[0];
  const WG = ctx.cpu ? 32 : 64;
  const tiles = Math.ceil(columns / 4 / WG) * Math.ceil(rank / 16);
  const splits = Math.max(1, Math.min(Math.ceil((ctx.cpu ? 4 : 256) / tiles), Math.ceil(rows / 64), 64));
  const sums = ctx.recorder.tensor('lora_sums', 'f32', [splits, rank * columns]);
  ctx.recorder.dispatch({
    kernel: 'lora-gradient',
    pass: 'forward',
    defines: { TYPE: skinny.dtype, WIDE: wide.dtype, LAYOUT: args.layout, WG },
    label: args.label,
    tensors: { skinny, wide, sums },
    params: { rank, columns, rowsPerSplit: Math.ceil(rows / splits), alpha: args.alpha },
    workgroups: [Math.ceil(columns / 4 / WG), Math.ceil(rank / 16), splits],
    flops: 2 * rows * rank * columns,
    bytes: wide.bytes + skinny.bytes + sums.bytes,
  });
  ctx.recorder.dispatch({
    kernel: 'lora-gradient',
    pass: 'reduce',
    defines: {},
    label: 'lora_gradient.reduce',
    tensors: { sums, gradient },
    params: { quads: (rank * columns) / 4, splits },
    workgroups: grid(Math.ceil((rank * columns) / 256)),
    bytes: sums.bytes + 2 * gradient.bytes,
  });
}

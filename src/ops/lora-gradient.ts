import type { Tensor } from '../gpu/tensor.js';
import type { OpContext } from './context.js';
import { matmul } from './matmul.js';
import { sumSplits } from './sum-splits.js';

export interface LoraGradientArgs {
  readonly label: string;
  readonly layout: 'a' | 'b';
  readonly skinny: Tensor;
  /** Layout 'b': column of a wider skinny that is its column 0, a multiple of 8. */
  readonly column?: number;
  readonly wide: Tensor;
  readonly gradient: Tensor;
  readonly rank: number;
  readonly columns: number;
  readonly alpha: number;
}

/**
 * gradient += alpha · Σ_m skinny[m, ·] ⊗ wide[m, ·]: the gradient of lora_A (layout 'a', [rank, columns]; skinny = du,
 * wide = x) or of lora_B (layout 'b', [columns, rank]; skinny = u, wide = dy). Rows are split over workgroups and the
 * parts summed in a fixed order, so the result does not depend on scheduling.
 */
export function loraGradient(ctx: OpContext, args: LoraGradientArgs): void {
  if (args.layout === 'a' && args.column !== undefined) throw new Error(`${args.label}: columns are for layout 'b'`);
  const sums = onMatrices(ctx, args) ?? inRegisters(ctx, args);
  sumSplits(ctx, { label: `${args.label}.sum`, sums, y: args.gradient, accumulate: true });
}

/**
 * Rows that a workgroup on matrix units sums: enough workgroups for a GPU, and few parts to add up. Twice the rank where
 * that is more, so that the parts take no more memory than `wide`, of halves.
 */
const leastRowsPerSplit = 256;

/** Parts of the sum on matrix units, [splits, gradient]; null where the context has none or they do not take the shape. */
function onMatrices(ctx: OpContext, args: LoraGradientArgs): Tensor | null {
  const { layout, skinny, wide, rank, columns, alpha, label, column } = args;
  if (
    !ctx.matrix ||
    ctx.cpu ||
    rank % 8 ||
    columns % 8 ||
    skinny.shape[1] % 8 ||
    skinny.dtype !== 'f16' ||
    wide.dtype !== 'f16'
  )
    return null;
  const rows = wide.shape[0];
  const [x, w, m, n] = layout === 'a' ? [skinny, wide, rank, columns] : [wide, skinny, columns, rank];
  const splits = Math.ceil(rows / Math.max(leastRowsPerSplit, 2 * rank));
  const sums = ctx.recorder.tensor('lora_sums', 'f32', [splits, m, n]);
  const common = { label, c: sums, m, n, k: rows, splits, alpha, count: 'batch.rows' } as const;
  matmul(ctx, { ...common, form: 'tn', x, w, wColumn: column });
  return sums;
}

/** Parts of the sum in registers, [splits, gradient]. */
function inRegisters(ctx: OpContext, args: LoraGradientArgs): Tensor {
  const { skinny, wide, rank, columns } = args;
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
    params: {
      rank,
      columns,
      rowsPerSplit: Math.ceil(rows / splits),
      alpha: args.alpha,
      skinnyStride: skinny.shape[1],
      skinnyColumn: args.column ?? 0,
    },
    workgroups: [Math.ceil(columns / 4 / WG), Math.ceil(rank / 16), splits],
    flops: 2 * rows * rank * columns,
    bytes: wide.bytes + skinny.bytes + sums.bytes,
  });
  return sums;
}

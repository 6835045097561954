import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext } from './context.js';

/** How a quantised checkpoint orders codes where this is not the natural order; kernels/repack.wgsl says what they mean. */
export type CodeOrder = 'bitsandbytes' | 'gptq' | 'awq';

/**
 * Words of `codes` [rows, width] from stored ones, `words` in all: of `raw` in order, from word `first` on
 * (bitsandbytes), or of words [first, first + columns) of each row from what `raw` holds of these columns for all n
 * rows of the matrix, the first row being row `row` of it (gptq, awq).
 */
export function repack(
  ctx: OpContext,
  args: { raw: Tensor; codes: Tensor; order: CodeOrder; words: number; first: number } & Partial<ColumnPiece>,
): void {
  const { raw, codes, order, words, first, columns = 1, row = 0, n = 0, width = 0 } = args;
  ctx.recorder.dispatch({
    kernel: 'repack',
    pass: 'forward',
    defines: { ORDER: order },
    label: 'repack',
    tensors: { raw, codes },
    params: { words, first, columns, row, n, width },
    workgroups: grid(Math.ceil(words / 64)),
    bytes: 8 * words,
  });
}

/** Columns of a matrix [n, …] that is stored column by column, for some of its rows. */
export interface ColumnPiece {
  readonly columns: number;
  readonly row: number;
  readonly n: number;
  /** Of a row of what is made. */
  readonly width: number;
}

import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext } from './context.js';

/** A vocabulary-sized matrix [vocab, dim], in parts that each fit one storage binding; rows are padded with zeros. */
export interface VocabParts {
  readonly dim: number;
  readonly vocab: number;
  /** `first`: token id of the part's first row; `count`: live rows; the tensor has `count` rounded up to 8. */
  readonly parts: readonly { first: number; count: number; tensor: Tensor }[];
}

/** y [rows, dim] f32 = table[tokens]. */
export function embedding(ctx: OpContext, args: { tokens: Tensor; table: VocabParts; y: Tensor }): void {
  const { tokens, table, y } = args;
  for (const { first, count, tensor } of table.parts) {
    ctx.recorder.dispatch({
      kernel: 'embedding',
      pass: 'forward',
      defines: { TYPE: tensor.dtype },
      label: 'embedding',
      tensors: { tokens, table: tensor, y },
      params: { dim: table.dim, first, count },
      workgroups: grid(y.shape[0]),
      bytes: y.elements * 6,
    });
  }
}

import { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext } from './context.js';
import { type Matrix, packedTensors } from './dequantize.js';

/** A vocabulary-sized matrix [vocab, dim], in parts that each fit one storage binding. */
export interface VocabParts {
  readonly dim: number;
  readonly vocab: number;
  readonly parts: readonly VocabPart[];
}

/** Rows [first, first + count) of a vocabulary-sized matrix. */
export interface VocabPart {
  readonly first: number;
  readonly count: number;
  /** Rows of `weight`: `count` rounded up to 8, the added ones zeros. */
  readonly rows: number;
  readonly weight: Matrix;
}

/** y [rows, dim] f32 = table[tokens]. */
export function embedding(ctx: OpContext, args: { tokens: Tensor; table: VocabParts; y: Tensor }): void {
  const { tokens, table, y } = args;
  for (const { first, count, weight } of table.parts) {
    const packed = weight instanceof Tensor ? null : weight;
    ctx.recorder.dispatch({
      kernel: 'embedding',
      pass: 'forward',
      defines: {
        FORMAT: packed?.format ?? 'plain',
        COLUMNS: Number(Boolean(packed?.columnGroup)),
        TYPE: weight instanceof Tensor ? weight.dtype : '',
      },
      label: 'embedding',
      tensors: { tokens, y, ...(weight instanceof Tensor ? { table: weight } : packedTensors(weight)) },
      params: { k: table.dim, first, count, group: packed?.group ?? 0, groups: packed ? packed.k / packed.group : 0 },
      workgroups: grid(y.shape[0]),
      bytes: y.elements * 6,
    });
  }
}

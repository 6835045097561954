import type { Tensor } from '../gpu/tensor.js';
import type { OpContext } from './context.js';

/** Words of a row of the table that `decodeRows` reads. */
export const rowWords = 8;
/** `source` of a row whose token the host gives. */
export const noSource = 0xffffffff;

/** What a row of a decoding step is. */
export interface DecodeRow {
  /** Row of the paths. */
  readonly slot: number;
  /** How many of the row's tokens lie where its slot's path says, and the place from which on the others do. */
  readonly shared: number;
  readonly own: number;
  /** Tokens that the row sees, its own included. */
  readonly length: number;
  readonly token: number;
  /** Row of the step before whose sampled token this row takes instead, or `noSource`. */
  readonly source: number;
  /** Of the sequence's random numbers, below 2^53. */
  readonly seed: number;
}

/** Writes row i of the table u32 [rows, 8]. */
export function putRow(table: Uint32Array, i: number, row: DecodeRow): void {
  const { slot, shared, own, length, token, source, seed } = row;
  table.set([slot, shared, own, length, token, source, seed % 2 ** 32, Math.floor(seed / 2 ** 32)], i * rowWords);
}

/** A step's table and the places of what its slots share. */
export interface DecodeTables {
  /** u32 [rows, 8] */
  readonly rows: Tensor;
  /** u32 [slots, longest path] */
  readonly paths: Tensor;
}

/** tokens, positions and place (u32 [rows]) of the rows of a table; `sampled` [slots, 4] is what `sample` last gave. */
export function decodeRows(
  ctx: OpContext,
  args: DecodeTables & { sampled: Tensor; tokens: Tensor; positions: Tensor; place: Tensor },
): void {
  ctx.recorder.dispatch({
    kernel: 'decode-rows',
    pass: 'forward',
    defines: { PATHS: 1 },
    label: 'decode_rows',
    tensors: { ...args },
    params: { maxPath: args.paths.shape[1], none: noSource },
    workgroups: [Math.ceil(args.tokens.shape[0] / 64)],
    bytes: args.rows.bytes + 3 * args.tokens.bytes,
  });
}

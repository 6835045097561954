import { noSource, putRow, rowWords } from '../../src/ops/decode-rows.js';
import type { OpRun } from '../gpu.js';

/** Where a row's tokens lie: `shared` at places of its own path, then `owned` from the place `own` on. */
export interface RowPlaces {
  readonly shared: readonly number[];
  readonly own: number;
  readonly owned: number;
}

/** Places of a row's tokens, from the first to its own. */
export function placesOf({ shared, own, owned }: RowPlaces): number[] {
  return [...shared, ...Array.from({ length: owned }, (_, i) => own + i)];
}

/**
 * Tables of rows whose slots stand in reverse, at `capacity` rows; what no row may read is out of all bounds. Row i has
 * token i, or the one drawn before in row sourceOf(i).
 */
export function decodeTable(
  op: OpRun,
  rows: readonly RowPlaces[],
  capacity: number,
  maxPath: number,
  sourceOf: (i: number) => number | null = () => null,
) {
  const paths = new Uint32Array(capacity * maxPath).fill(2e9);
  const table = new Uint32Array(capacity * rowWords).fill(2e9);
  rows.forEach(({ shared, own, owned }, i) => {
    const slot = capacity - 1 - i;
    paths.set(shared, slot * maxPath);
    const length = shared.length + owned;
    putRow(table, i, { slot, shared: shared.length, own, length, token: i, source: sourceOf(i) ?? noSource, seed: 0 });
  });
  return {
    rows: op.input('rows', 'u32', [capacity, rowWords], table),
    paths: op.input('paths', 'u32', [capacity, maxPath], paths),
  };
}

// The arithmetic of a merge, four numbers at a time: WebAssembly, because JavaScript has no vectors.

import { advance, f32x4, get, i32x4, instantiate, loop, set, v128, type WasmFunction } from './wasm.js';

/** Columns of a tile: rows in the kernel's memory are padded to whole ones. */
export const TILE_COLUMNS = 8;
/** Rows of a tile. */
export const TILE_ROWS = 4;

/** Functions on byte addresses in a memory; `end` is where `to` or `sums` has arrived at the end of its row. */
export interface MergeKernel {
  /** BF16 at `from` to f32 at `to`, by tiles. */
  widen(from: number, to: number, end: number): void;
  /** f32 at `from` to BF16 at `to`, by tiles: to nearest, ties to even; NaN stays NaN. */
  narrow(from: number, to: number, end: number): void;
  /**
   * Adds F·A to four rows of f32, each at an address of its own; `end` is of the first. A [columns / 8, r, 8] lies at
   * `lines`, F [r, 4] from `factors` to `factorsEnd`. Each element's products are summed in f32, then added.
   */
  addProducts(
    ...[row0, row1, row2, row3, end, lines, factors, factorsEnd]: [...Rows, number, number, number, number]
  ): void;
}

type Rows = [row0: number, row1: number, row2: number, row3: number];

const ROWS = [0, 1, 2, 3];
const VECTOR_BYTES = 16;

const widen: WasmFunction = {
  parameters: 3,
  addresses: 0,
  vectors: 0,
  body: loop(1, 2, [
    ...v128.store(1, 0, i32x4.shiftLeft(v128.load16x4(0), 16)),
    ...v128.store(1, VECTOR_BYTES, i32x4.shiftLeft(v128.load16x4(0, 8), 16)),
    ...advance(0, 16),
    ...advance(1, 32),
  ]),
};

/** The four f32 in a local as BF16 in the lower halves of their lanes. */
function toBfloat16(local: number) {
  const upper = i32x4.shiftRight(get(local), 16);
  const ties = i32x4.add(i32x4.splat(0x7fff), v128.and(upper, i32x4.splat(1)));
  const rounded = i32x4.shiftRight(i32x4.add(get(local), ties), 16);
  return v128.select(v128.or(upper, i32x4.splat(0x40)), rounded, f32x4.notEqual(get(local), get(local)));
}

const narrow: WasmFunction = {
  parameters: 3,
  addresses: 0,
  vectors: 2,
  body: loop(1, 2, [
    ...set(3, v128.load(0)),
    ...set(4, v128.load(0, VECTOR_BYTES)),
    ...v128.store(1, 0, i32x4.narrow(toBfloat16(3), toBfloat16(4))),
    ...advance(0, 32),
    ...advance(1, 16),
  ]),
};

/** A tile of 4 × 8 sums stays in registers over all ranks. */
function addProducts(): WasmFunction {
  const [end, lines, factors, factorsEnd, factor] = [4, 5, 6, 7, 8];
  const [left, right, splat] = [9, 10, 11];
  const sums = ROWS.map((row) => [12 + 2 * row, 13 + 2 * row]);
  return {
    parameters: 8,
    addresses: 1,
    vectors: 11,
    body: loop(0, end, [
      ...sums.flat().flatMap((sum) => set(sum, v128.zero)),
      ...set(factor, get(factors)),
      ...loop(factor, factorsEnd, [
        ...set(left, v128.load(lines)),
        ...set(right, v128.load(lines, VECTOR_BYTES)),
        ...sums.flatMap(([first, second], row) => [
          ...set(splat, v128.load32Splat(factor, 4 * row)),
          ...set(first, f32x4.add(get(first), f32x4.mul(get(splat), get(left)))),
          ...set(second, f32x4.add(get(second), f32x4.mul(get(splat), get(right)))),
        ]),
        ...advance(lines, 32),
        ...advance(factor, 16),
      ]),
      ...sums.flatMap(([first, second], row) => [
        ...v128.store(row, 0, f32x4.add(v128.load(row), get(first))),
        ...v128.store(row, VECTOR_BYTES, f32x4.add(v128.load(row, VECTOR_BYTES), get(second))),
        ...advance(row, 32),
      ]),
    ]),
  };
}

/** A kernel with a memory of its own. */
export const createMergeKernel = () => instantiate<MergeKernel>({ widen, narrow, addProducts: addProducts() });

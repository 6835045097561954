import { float16ToFloat32, float32ToFloat16 } from './half.js';
import { createMergeKernel, TILE_COLUMNS, TILE_ROWS } from './merge-kernel.js';
import { type FloatDtype, refuseOverflow } from './safetensors.js';

/** The adapter's share of some rows of a weight: s·B·A. */
export interface LoraShare {
  /** [r, columns] */
  readonly A: Float32Array;
  /** [rows, r] */
  readonly B: Float32Array;
  readonly r: number;
  readonly scale: number;
}

/** Whole rows of a weight as they are stored. */
export interface MergePiece {
  /** The tensor's name, for messages. */
  readonly name: string;
  readonly from: FloatDtype;
  readonly to: 'F16' | 'BF16';
  readonly columns: number;
  readonly bytes: Uint8Array;
  /** Null where the tensor is not adapted and only changes its type. */
  readonly lora: LoraShare | null;
}

/** Rows that are merged at once: few enough that they stay in a core's cache. */
const GROUP_ROWS = 2 * TILE_ROWS;
/** Columns that all rows of a group take before the next: few enough that their part of A stays in cache. */
const BLOCK_COLUMNS = 512;
const PAGE_BYTES = 65536;

const kernel = createMergeKernel();

/**
 * W + s·B·A of a piece, in place: rows are widened to f32, added to, and rounded to nearest even. The result is the
 * beginning of the piece's bytes. Throws InputError naming the tensor when a finite value has no F16.
 */
export function mergePiece({ name, from, to, columns, bytes, lora }: MergePiece): Uint8Array {
  const rowBytes = columns * (from === 'F32' ? 4 : 2);
  const rows = bytes.length / rowBytes;
  const room = reserve(columns, lora?.r ?? 0);
  if (lora) tileLines(lora, columns, room.lines);
  for (let row = 0; row < rows; row += GROUP_ROWS) {
    const count = Math.min(GROUP_ROWS, rows - row);
    load(room, from, bytes.subarray(row * rowBytes, (row + count) * rowBytes));
    if (lora) addShare(room, lora, row);
    store(room, to, bytes.subarray(row * columns * 2, (row + count) * columns * 2), name);
  }
  return bytes.subarray(0, rows * columns * 2);
}

/** Parts of the kernel's memory. */
interface Room {
  readonly columns: number;
  /** Bytes of a row of sums: whole tiles. */
  readonly stride: number;
  /** [r, 4] for each four rows of a group: s·B. */
  readonly factors: Float32Array<ArrayBuffer>;
  /** A [columns / 8, r, 8] */
  readonly lines: Float32Array<ArrayBuffer>;
  /** Rows as they are in 16 bits, and a tile more. */
  readonly halves: Uint16Array<ArrayBuffer>;
  /** [rows, stride / 4] */
  readonly sums: Float32Array<ArrayBuffer>;
}

function reserve(columns: number, r: number): Room {
  const { memory } = kernel;
  const padded = Math.ceil(columns / TILE_COLUMNS) * TILE_COLUMNS;
  const sizes = [4 * GROUP_ROWS * r, 4 * r * padded, 2 * GROUP_ROWS * padded, 4 * GROUP_ROWS * padded];
  const [lines, halves, sums, end] = sizes.map((_, i) => sizes.slice(0, i + 1).reduce((sum, size) => sum + size, 0));
  const missing = end - memory.buffer.byteLength;
  if (missing > 0) memory.grow(Math.ceil(missing / PAGE_BYTES));
  return {
    columns,
    stride: 4 * padded,
    factors: new Float32Array(memory.buffer, 0, GROUP_ROWS * r),
    lines: new Float32Array(memory.buffer, lines, r * padded),
    halves: new Uint16Array(memory.buffer, halves, GROUP_ROWS * padded),
    sums: new Float32Array(memory.buffer, sums, GROUP_ROWS * padded),
  };
}

/** A by tiles, and zeros beside the last columns. */
function tileLines({ A, r }: LoraShare, columns: number, lines: Float32Array): void {
  lines.fill(0, lines.length - r * TILE_COLUMNS);
  for (let k = 0; k < r; k++)
    for (let column = 0; column < columns; column += TILE_COLUMNS) {
      const from = k * columns + column;
      const to = column * r + k * TILE_COLUMNS;
      const count = Math.min(TILE_COLUMNS, columns - column);
      for (let i = 0; i < count; i++) lines[to + i] = A[from + i];
    }
}

/** Rows of a weight to sums. */
function load({ columns, stride, halves, sums }: Room, from: FloatDtype, bytes: Uint8Array): void {
  const rows = bytes.length / columns / (from === 'F32' ? 4 : 2);
  if (from !== 'F32') asBytes(halves).set(bytes);
  for (let row = 0; row < rows; row++) {
    const [at, into] = [row * columns, sums.byteOffset + row * stride];
    if (from === 'BF16') kernel.widen(halves.byteOffset + 2 * at, into, into + stride);
    else {
      const values = rowOf(sums, stride, row, columns);
      if (from === 'F16') float16ToFloat32(halves.subarray(at, at + columns), values);
      else asBytes(values).set(bytes.subarray(4 * at, 4 * (at + columns)));
    }
  }
}

/** Adds s·B·A to a group of rows that begins at `row` of the piece. */
function addShare({ stride, factors, lines, sums }: Room, { B, r, scale }: LoraShare, row: number): void {
  for (let i = 0; i < GROUP_ROWS; i++) {
    const at = (row + i) * r;
    const first = Math.floor(i / TILE_ROWS) * TILE_ROWS * r + (i % TILE_ROWS);
    for (let k = 0; k < r; k++) factors[first + k * TILE_ROWS] = at < B.length ? scale * B[at + k] : 0;
  }
  const factorBytes = 4 * TILE_ROWS * r;
  for (let begin = 0; begin < stride; begin += 4 * BLOCK_COLUMNS) {
    const end = Math.min(stride, begin + 4 * BLOCK_COLUMNS);
    for (let tile = 0; tile < GROUP_ROWS / TILE_ROWS; tile++) {
      const at = sums.byteOffset + tile * TILE_ROWS * stride;
      const [row0, row1, row2, row3] = [0, 1, 2, 3].map((i) => at + i * stride + begin);
      const from = factors.byteOffset + tile * factorBytes;
      kernel.addProducts(row0, row1, row2, row3, at + end, lines.byteOffset + begin * r, from, from + factorBytes);
    }
  }
}

/** Sums to rows of the result. */
function store({ columns, stride, halves, sums }: Room, to: 'F16' | 'BF16', bytes: Uint8Array, name: string): void {
  const rows = bytes.length / columns / 2;
  for (let row = 0; row < rows; row++) {
    const [at, from] = [row * columns, sums.byteOffset + row * stride];
    if (to === 'BF16') kernel.narrow(from, halves.byteOffset + 2 * at, halves.byteOffset + 2 * at + stride / 2);
    else {
      const values = rowOf(sums, stride, row, columns);
      refuseOverflow(values, float32ToFloat16(values, halves.subarray(at, at + columns)), name);
    }
  }
  bytes.set(asBytes(halves).subarray(0, bytes.length));
}

function rowOf(sums: Float32Array<ArrayBuffer>, stride: number, row: number, columns: number) {
  return sums.subarray((row * stride) / 4, (row * stride) / 4 + columns);
}

function asBytes({ buffer, byteOffset, byteLength }: Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

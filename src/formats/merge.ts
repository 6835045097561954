import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from './half.js';
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

/**
 * W + s·B·A of a piece: two rows at a time are widened to f32, added to, and rounded to nearest even. Throws InputError
 * naming the tensor when a finite value has no F16.
 */
export function mergePiece({ name, from, to, columns, bytes, lora }: MergePiece): Uint8Array {
  // Typed arrays want aligned offsets; a copy has offset 0.
  const { buffer, byteOffset } = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  const size = from === 'F32' ? 4 : 2;
  const elements = bytes.length / size;
  const result = new Uint16Array(elements);
  const two = new Float32Array(2 * columns);
  const lines = lora ? paddedLines(lora.A, lora.r, columns) : [];
  for (let row = 0; row * columns < elements; row += 2) {
    const at = row * columns;
    const count = Math.min(2 * columns, elements - at);
    const values = two.subarray(0, count);
    if (from === 'F32') values.set(new Float32Array(buffer, byteOffset + 4 * at, count));
    else {
      const halves = new Uint16Array(buffer, byteOffset + 2 * at, count);
      if (from === 'F16') float16ToFloat32(halves, values);
      else bfloat16ToFloat32(halves, values);
    }
    if (lora) addRows(two, lines, lora, row);
    const into = result.subarray(at, at + count);
    if (to === 'F16') refuseOverflow(values, float32ToFloat16(values, into), name);
    else float32ToBfloat16(values, into);
  }
  return new Uint8Array(result.buffer);
}

/** The rows of A, and zeros up to a multiple of four. */
function paddedLines(A: Float32Array, r: number, columns: number): Float32Array[] {
  const none = new Float32Array(columns);
  return Array.from({ length: Math.ceil(r / 4) * 4 }, (_, k) =>
    k < r ? A.subarray(k * columns, (k + 1) * columns) : none,
  );
}

/** two [2, columns] += s·B·A of rows `row` and `row` + 1; four ranks at a time keep a core's registers full. */
function addRows(two: Float32Array, lines: readonly Float32Array[], { B, r, scale }: LoraShare, row: number): void {
  const columns = two.length / 2;
  const [upper, lower] = [two.subarray(0, columns), two.subarray(columns)];
  const factors = (at: number, k: number) =>
    [0, 1, 2, 3].map((i) => (k + i < r && at * r < B.length ? scale * B[at * r + k + i] : 0));
  for (let k = 0; k < r; k += 4) addProducts(upper, lower, lines, k, factors(row, k), factors(row + 1, k));
}

/** upper += Σ u[i]·lines[k + i], lower += Σ l[i]·lines[k + i], over four lines. */
function addProducts(
  upper: Float32Array,
  lower: Float32Array,
  lines: readonly Float32Array[],
  k: number,
  [u0, u1, u2, u3]: readonly number[],
  [l0, l1, l2, l3]: readonly number[],
): void {
  const [a0, a1, a2, a3] = [lines[k], lines[k + 1], lines[k + 2], lines[k + 3]];
  for (let j = 0; j < upper.length; j++) {
    const x0 = a0[j];
    const x1 = a1[j];
    const x2 = a2[j];
    const x3 = a3[j];
    upper[j] += u0 * x0 + u1 * x1 + u2 * x2 + u3 * x3;
    lower[j] += l0 * x0 + l1 * x1 + l2 * x2 + l3 * x3;
  }
}

import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.js';
import { type MergePiece, mergePiece } from '../../src/formats/merge.js';
import { fromFloat32, toFloat32 } from '../../src/formats/safetensors.js';
import { randomNormal, relativeError } from '../reference/random.js';

/** rows × columns with a share of rank r; r 0 for none. */
function makePiece(
  from: MergePiece['from'],
  to: MergePiece['to'],
  rows: number,
  columns: number,
  r: number,
): MergePiece {
  const weight = Float32Array.from(randomNormal(rows * columns, 1, 0.05));
  const random = (length: number, seed: number) => Float32Array.from(randomNormal(length, seed, 0.3));
  const lora = r === 0 ? null : { A: random(r * columns, 2), B: random(rows * r, 3), r, scale: 1.7 };
  // At an odd offset, as a piece of a file may lie.
  const bytes = fromFloat32(from, weight, 'w');
  const shifted = new Uint8Array(bytes.length + 1).subarray(1);
  shifted.set(bytes);
  return { name: 'some.weight', from, to, columns, bytes: shifted, lora };
}

/** W + s·B·A in float64. */
function expected({ from, bytes, columns, lora }: MergePiece): Float64Array {
  return Float64Array.from(toFloat32(from, bytes.slice()), (w, at) => {
    const [row, column] = [Math.floor(at / columns), at % columns];
    let sum = w;
    for (let k = 0; k < (lora?.r ?? 0); k++)
      sum += lora!.scale * lora!.B[row * lora!.r + k] * lora!.A[k * columns + column];
    return sum;
  });
}

const halfStep = { F16: 2 ** -11, BF16: 2 ** -8 };

describe.each(['F32', 'F16', 'BF16'] as const)('a weight in %s', (from) => {
  it.each([
    ['F16', 5, 7, 3],
    ['F16', 2, 8, 4],
    ['BF16', 1, 3, 1],
    ['BF16', 7, 33, 9],
    ['F16', 1, 20, 0],
    ['BF16', 3, 5, 0],
  ] as const)('becomes the nearest %s: %i rows of %i, rank %i', (to, rows, columns, r) => {
    const piece = makePiece(from, to, rows, columns, r);
    const exact = expected(piece);
    const merged = toFloat32(to, mergePiece(piece));
    expect(merged.length).toBe(rows * columns);
    // Half a step of the type; and what f32 leaves of a sum, which an element near zero feels more.
    for (const [i, value] of merged.entries())
      expect(Math.abs(value - exact[i])).toBeLessThanOrEqual(halfStep[to] * Math.abs(exact[i]) + 1e-7);
    const rounded = toFloat32(to, fromFloat32(to, Float32Array.from(exact), 'w'));
    expect(relativeError(merged, rounded)).toBeLessThan(halfStep[to] / 8);
  });
});

it('keeps what is infinite or no number, and refuses what overflows F16 by name', () => {
  const values = Float32Array.of(1, Number.POSITIVE_INFINITY, Number.NaN, -65504);
  const piece: MergePiece = {
    name: 'w',
    from: 'F32',
    to: 'F16',
    columns: 2,
    bytes: fromFloat32('F32', values, 'w'),
    lora: null,
  };
  expect([...toFloat32('F16', mergePiece(piece))]).toEqual([...values]);
  const large = { ...piece, lora: { A: Float32Array.of(1, 1), B: Float32Array.of(0, -100), r: 1, scale: 1 } };
  expect(() => mergePiece(large)).toThrow(InputError);
  expect(() => mergePiece(large)).toThrow(/^tensor w holds values over 65,504/);
  expect([...toFloat32('BF16', mergePiece({ ...large, to: 'BF16' }))]).toEqual([
    1,
    Number.POSITIVE_INFINITY,
    Number.NaN,
    -65536,
  ]);
});

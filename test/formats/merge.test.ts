import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.js';
import { float32ToBfloat16 } from '../../src/formats/half.js';
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

/** W + s·B·A in float64, and the magnitudes that are added up. */
function expected({ from, bytes, columns, lora }: MergePiece) {
  const exact = Float64Array.from(toFloat32(from, bytes.slice()));
  const magnitudes = exact.map(Math.abs);
  for (let at = 0; at < exact.length; at++) {
    const [row, column] = [Math.floor(at / columns), at % columns];
    for (let k = 0; k < (lora?.r ?? 0); k++) {
      const product = lora!.scale * lora!.B[row * lora!.r + k] * lora!.A[k * columns + column];
      exact[at] += product;
      magnitudes[at] += Math.abs(product);
    }
  }
  return { exact, magnitudes };
}

const halfStep = { F16: 2 ** -11, BF16: 2 ** -8 };

describe.each(['F32', 'F16', 'BF16'] as const)('a weight in %s', (from) => {
  it.each([
    ['F16', 5, 7, 3],
    ['F16', 2, 8, 4],
    ['BF16', 1, 3, 1],
    ['BF16', 7, 33, 9],
    ['BF16', 19, 1030, 5],
    ['F16', 8, 512, 16],
    ['F16', 1, 20, 0],
    ['BF16', 3, 5, 0],
  ] as const)('becomes the nearest %s: %i rows of %i, rank %i', (to, rows, columns, r) => {
    const piece = makePiece(from, to, rows, columns, r);
    const { exact, magnitudes } = expected(piece);
    const merged = toFloat32(to, mergePiece(piece).slice());
    expect(merged.length).toBe(rows * columns);
    // Half a step of the type; and of f32 half a step for s·B, for each product and for each addition (r + 3 in a row),
    // of magnitudes and not of their sum, so that an element near zero feels it more. F16 has no step below 2^-24.
    for (const [i, value] of merged.entries()) {
      const sums = r === 0 ? 0 : (r + 3) * 2 ** -24 * magnitudes[i];
      const least = to === 'F16' ? 2 ** -25 : 0;
      expect(Math.abs(value - exact[i])).toBeLessThanOrEqual(
        Math.max(halfStep[to] * Math.abs(exact[i]), least) + 1.01 * sums,
      );
    }
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
  // Merging overwrites.
  const merge = (changed: MergePiece) => mergePiece({ ...changed, bytes: changed.bytes.slice() }).slice();
  expect([...toFloat32('F16', merge(piece))]).toEqual([...values]);
  const large = { ...piece, lora: { A: Float32Array.of(1, 1), B: Float32Array.of(0, -100), r: 1, scale: 1 } };
  expect(() => merge(large)).toThrow(InputError);
  expect(() => merge(large)).toThrow(/^tensor w holds values over 65,504/);
  expect([...toFloat32('BF16', merge({ ...large, to: 'BF16' }))]).toEqual([
    1,
    Number.POSITIVE_INFINITY,
    Number.NaN,
    -65536,
  ]);
});

it('leaves every BF16 as it is, and rounds ties to even', () => {
  const all = Uint16Array.from({ length: 1 << 16 }, (_, i) => i);
  const piece = { name: 'w', columns: 256, to: 'BF16', lora: null } as const;
  const kept = new Uint16Array(
    mergePiece({ ...piece, from: 'BF16', bytes: new Uint8Array(all.slice().buffer) }).slice().buffer,
  );
  // What is no number becomes a quiet one.
  const quiet = (half: number) => ((half & 0x7fff) > 0x7f80 ? half | 0x40 : half);
  expect(kept).toEqual(all.map(quiet));
  const between = new Uint32Array(1 << 16).map((_, i) => (i << 16) | [0x7fff, 0x8000, 0x8001][i % 3]);
  const values = new Float32Array(between.buffer);
  const rounded = mergePiece({ ...piece, from: 'F32', bytes: new Uint8Array(between.slice().buffer) }).slice();
  expect(new Uint16Array(rounded.buffer)).toEqual(float32ToBfloat16(values));
});

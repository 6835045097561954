import { expect } from 'vitest';

/** Codes and scales of a flattened matrix, and how far each number is from where its code would change. */
export interface Quantized {
  readonly codes: Uint8Array;
  /** Of each group. */
  readonly scales: Float64Array;
  /** Of each group; 0 for NF4. */
  readonly offsets: Float64Array;
  /** Of each number, in units of its group's range: where it is tiny, rounding may pick the neighbour. */
  readonly margins: Float64Array;
}

/** NormalFloat of 4 bits (QLoRA, Dettmers et al. 2023, appendix E), as bitsandbytes stores it in F32. */
export const nf4Levels = Float32Array.of(
  -1.0,
  -0.6961928009986877,
  -0.5250730514526367,
  -0.39491748809814453,
  -0.28444138169288635,
  -0.18477343022823334,
  -0.09105003625154495,
  0.0,
  0.07958029955625534,
  0.16093020141124725,
  0.24611230194568634,
  0.33791524171829224,
  0.44070982933044434,
  0.5626170039176941,
  0.7229568362236023,
  1.0,
);

/**
 * NF4 as bitsandbytes quantises: of each block of the flattened matrix the largest magnitude is the scale, and a number
 * gets the highest level whose lower neighbour is less near to number / scale. A block of zeros gets code 0.
 */
export function quantizeNf4(weights: ArrayLike<number>, block = 64): Quantized {
  const count = weights.length;
  const codes = new Uint8Array(count);
  const margins = new Float64Array(count);
  const scales = new Float64Array(Math.ceil(count / block));
  for (let i = 0; i < count; i++)
    scales[Math.floor(i / block)] = Math.max(scales[Math.floor(i / block)], Math.abs(weights[i]));
  for (let i = 0; i < count; i++) {
    const scale = scales[Math.floor(i / block)];
    const x = scale === 0 ? -1 : weights[i] / scale;
    margins[i] = Number.POSITIVE_INFINITY;
    for (let level = 1; level < 16; level++) {
      const middle = (nf4Levels[level - 1] + nf4Levels[level]) / 2;
      if (x > middle) codes[i] = level;
      margins[i] = Math.min(margins[i], Math.abs(x - middle));
    }
  }
  return { codes, scales, offsets: new Float64Array(scales.length), margins };
}

/**
 * The affine quantisation of MLX (mx.quantize, CPU backend): code · scale + offset, where the offset is the extreme of
 * the group with the larger magnitude and the scale is such that zero has a code. Scale and offset are not rounded.
 */
export function quantizeAffine(weights: ArrayLike<number>, group: number, bits: 4 | 8): Quantized {
  const steps = 2 ** bits - 1;
  const count = weights.length;
  const codes = new Uint8Array(count);
  const margins = new Float64Array(count);
  const scales = new Float64Array(count / group);
  const offsets = new Float64Array(count / group);
  for (let g = 0; g < scales.length; g++) {
    const numbers = Array.from({ length: group }, (_, i) => weights[g * group + i]);
    const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
    const edge = Math.abs(low) > Math.abs(high) ? low : high;
    const even = Math.max((high - low) / steps, 1e-7) * (edge === high ? -1 : 1);
    const codeOfZero = Math.round(-edge / even);
    scales[g] = codeOfZero === 0 ? even : -edge / codeOfZero;
    offsets[g] = codeOfZero === 0 ? 0 : edge;
    numbers.forEach((number, i) => {
      const exact = (number - offsets[g]) / scales[g];
      codes[g * group + i] = Math.min(Math.max(Math.round(exact), 0), steps);
      margins[g * group + i] = Math.min(distanceToTie(exact), distanceToTie(edge / even)) / steps;
    });
  }
  return { codes, scales, offsets, margins };
}

/** To the nearest integer and a half. */
function distanceToTie(x: number): number {
  return Math.abs(Math.abs(x - Math.floor(x)) - 0.5);
}

/**
 * bitsandbytes' 8-bit blockwise quantisation of absmaxes: each minus the offset, over the largest magnitude of its block
 * of 256, to the nearest of `levels`, tried one by one.
 */
export function quantizeBlockwise(absmax: ArrayLike<number>, offset: number, levels: Float32Array): Quantized {
  const count = absmax.length;
  const codes = new Uint8Array(count);
  const margins = new Float64Array(count);
  const scales = new Float64Array(Math.ceil(count / 256));
  for (let i = 0; i < count; i++) scales[i >> 8] = Math.max(scales[i >> 8], Math.abs(absmax[i] - offset));
  for (let i = 0; i < count; i++) {
    const distances = Array.from(levels, (level) => Math.abs((absmax[i] - offset) / scales[i >> 8] - level));
    const [first, second] = [...distances].sort((a, b) => a - b);
    codes[i] = distances.indexOf(first);
    margins[i] = second - first;
  }
  return { codes, scales, offsets: new Float64Array(scales.length).fill(offset), margins };
}

/** Holds codes to the reference's but for numbers that lie within `margin` of where their code would change. */
export function expectCodes({ codes, margins }: Quantized, margin: number, actual: (i: number) => number): void {
  const wrong = Array.from(codes.keys()).filter((i) => margins[i] > margin && actual(i) !== codes[i]);
  expect(wrong.map((i) => ({ i, actual: actual(i), expected: codes[i], margin: margins[i] }))).toEqual([]);
}

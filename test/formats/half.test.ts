import { expect, test } from 'vitest';
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from '../../src/formats/half.js';

const ALL = Uint16Array.from({ length: 65536 }, (_, i) => i);

/** The value of an f16 by its definition. */
function definedValue(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 0x1f;
  const mantissa = half & 0x3ff;
  if (exponent === 31) return mantissa ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0 ? sign * mantissa * 2 ** -24 : sign * (1024 + mantissa) * 2 ** (exponent - 25);
}

test('every f16 becomes the f32 of its definition and comes back bit for bit', () => {
  const values = float16ToFloat32(ALL);
  const back = float32ToFloat16(values);
  for (const half of ALL) {
    if (!Object.is(values[half], definedValue(half))) expect.fail(`f16 ${half} gives ${values[half]}`);
    if (Number.isNaN(values[half])) {
      if (!Number.isNaN(definedValue(back[half]))) expect.fail(`NaN ${half} comes back as ${back[half]}`);
    } else if (back[half] !== half) expect.fail(`f16 ${half} comes back as ${back[half]}`);
  }
});

test('rounds to the nearest, ties to the even one, at every boundary between two f16', () => {
  const next = (x: number, towards: 1 | -1) => {
    const f = new Float32Array([x]);
    new Uint32Array(f.buffer)[0] += towards;
    return f[0];
  };
  for (let half = 0; half < 0x7bff; half++) {
    const middle = (definedValue(half) + definedValue(half + 1)) / 2;
    const [below, tie, above, negative] = float32ToFloat16(
      new Float32Array([next(middle, -1), middle, next(middle, 1), -middle]),
    );
    const even = half % 2 === 0 ? half : half + 1;
    if (below !== half || tie !== even || above !== half + 1 || negative !== (even | 0x8000))
      expect.fail(`around ${middle}: ${[below, tie, above, negative]}`);
  }
});

test('overflows to infinity from 65520, underflows to zero', () => {
  const values = new Float32Array([65519.996, 65520, -65520, 3.4e38, Number.POSITIVE_INFINITY, 2 ** -25, 1e-40, -0]);
  expect([...float32ToFloat16(values)]).toEqual([0x7bff, 0x7c00, 0xfc00, 0x7c00, 0x7c00, 0, 0, 0x8000]);
});

test('bf16 is the upper half of an f32', () => {
  expect([...bfloat16ToFloat32(Uint16Array.of(0x3f80, 0xc049, 0x0001, 0x7f80))]).toEqual([
    1,
    -3.140625,
    2 ** -133,
    Number.POSITIVE_INFINITY,
  ]);
});

test('bf16 rounds to the nearest, ties to the even one, over to infinity; NaN stays NaN', () => {
  const rounded = (bits: number) => float32ToBfloat16(new Float32Array(Uint32Array.of(bits).buffer))[0];
  for (let half = 0; half < 0x7f80; half++) {
    const even = half % 2 === 0 ? half : half + 1;
    const got = [0x0000, 0x7fff, 0x8000, 0x8001].map((low) => rounded(half * 0x10000 + low));
    if (got.join() !== [half, half, even, half + 1].join()) expect.fail(`around ${half}: ${got}`);
  }
  expect(rounded(0xbf80ffff)).toBe(0xbf81);
  expect(rounded(0x7f800000)).toBe(0x7f80);
  expect(bfloat16ToFloat32(Uint16Array.of(rounded(0x7f800001), rounded(0xffffffff)))).toEqual(
    Float32Array.of(Number.NaN, Number.NaN),
  );
});

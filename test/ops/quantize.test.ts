import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bfloat16ToFloat32, float16ToFloat32, float32ToFloat16 } from '../../src/formats/half.js';
import { createTensor, upload } from '../../src/gpu/tensor.js';
import type { PackedMatrix } from '../../src/ops/dequantize.js';
import { quantize } from '../../src/ops/quantize.js';
import { OpRun, openTestGpu, type TestGpu } from '../gpu.js';
import { expectCodes, quantizeAffine, quantizeNf4 } from '../reference/quantize.js';
import { randomNormal } from '../reference/random.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

type From = 'bf16' | 'f16' | 'f32';

/** File bytes of numbers, and what they mean. */
function stored(from: From, numbers: Float64Array): { bits: Uint16Array | Uint32Array; values: Float32Array } {
  const singles = Float32Array.from(numbers);
  const bits = new Uint32Array(singles.buffer);
  if (from === 'f32') return { bits, values: singles };
  const halves = from === 'f16' ? float32ToFloat16(singles) : Uint16Array.from(bits, (word) => word >>> 16);
  return { bits: halves, values: from === 'f16' ? float16ToFloat32(halves) : bfloat16ToFloat32(halves) };
}

/** Codes and scales that the device makes of `bits`, the first `cut` of them and the rest apart. */
async function run(
  format: PackedMatrix['format'],
  from: From,
  bits: Uint16Array | Uint32Array,
  group: number,
  cut = 0,
) {
  const op = new OpRun(gpu, 'f32');
  const count = bits.length;
  const perWord = format === 'affine8' ? 4 : 8;
  const codes = op.output('codes', 'u32', [count / perWord]);
  const scales = op.output('scales', 'f32', [Math.ceil(count / group) * (format === 'nf4' ? 1 : 2)]);
  const matrix: PackedMatrix = { format, n: count / 8, k: 8, codes, scales, group, columnGroup: null };
  for (const [first, end] of [
    [0, cut],
    [cut, count],
  ]) {
    if (first === end) continue;
    const part = bits.slice(first, end);
    const raw = createTensor(gpu.device, 'raw', 'u32', [Math.ceil(part.byteLength / 4)]);
    upload(gpu.device, raw, part);
    quantize(op.ctx, { raw, matrix, from, count: part.length, first });
  }
  await op.run({});
  const words = await op.read(codes);
  const width = 32 / perWord;
  const unpacked = Uint8Array.from(
    { length: count },
    (_, i) => Math.floor(words[Math.floor(i / perWord)] / 2 ** (width * (i % perWord))) % 2 ** width,
  );
  return { codes: unpacked, scales: await op.read(scales) };
}

/** Normal numbers; groups of zeros, of one sign, with one large number, and tiny ones. */
function weights(group: number, groups: number): Float64Array {
  const numbers = randomNormal(group * groups, 3, 0.02);
  const change = (index: number, to: (x: number, i: number) => number) => {
    for (let i = index * group; i < (index + 1) * group; i++) numbers[i] = to(numbers[i], i);
  };
  change(1, () => 0);
  change(2, (x) => Math.abs(x) + 0.01);
  change(3, (x) => -Math.abs(x) - 0.01);
  change(4, (x, i) => (i % group === 5 ? -3 : x));
  change(5, (x) => x * 1e-4);
  return numbers;
}

describe.each(['bf16', 'f16', 'f32'] as const)('quantize from %s', (from) => {
  it('to NF4 agrees code for code, a short last block included', async () => {
    const { bits, values } = stored(from, weights(64, 9).subarray(0, 64 * 9 - 24));
    const expected = quantizeNf4(values);
    const actual = await run('nf4', from, bits, 64, 128);
    expect(actual.scales).toEqual(expected.scales);
    expect(expected.margins.filter((margin) => margin < 1e-6).length).toBeLessThan(3);
    expectCodes(expected, 1e-6, (i) => actual.codes[i]);
  });

  it.each([
    [4, 32],
    [4, 64],
    [8, 64],
    [8, 128],
  ] as const)('to %i bits of groups of %i agrees', async (bits, group) => {
    const source = stored(from, weights(group, 9));
    const expected = quantizeAffine(source.values, group, bits);
    const actual = await run(bits === 4 ? 'affine4' : 'affine8', from, source.bits, group, 3 * group);
    // Division may be off by 2.5 ulp in WGSL; a code of 8 bits has 255 steps, and scale and offset add their share.
    const close = 2e-6;
    expect(expected.margins.filter((margin) => margin < close).length).toBeLessThan(group);
    expectCodes(expected, close, (i) => actual.codes[i]);
    const ulp = { bf16: 2 ** -7, f16: 2 ** -10, f32: 2 ** -21 }[from];
    expected.scales.forEach((scale, g) => {
      // Subnormals of f16 lie 2^-24 apart.
      expect(Math.abs(actual.scales[2 * g] - scale)).toBeLessThan(
        Math.max(ulp * Math.abs(scale), from === 'f16' ? 2 ** -24 : 0),
      );
      expect(actual.scales[2 * g + 1]).toBe(expected.offsets[g]);
      const asStored = stored(from, actual.scales.subarray(2 * g, 2 * g + 1)).values[0];
      expect(actual.scales[2 * g]).toBe(asStored);
    });
  });

  it.each(['nf4', 'affine4'] as const)('marks groups of %s with a NaN or an infinity', async (format) => {
    const source = stored(from, weights(32, 4));
    const infinity = { bf16: 0x7f80, f16: 0x7c00, f32: 0x7f800000 }[from];
    source.bits[5] = infinity + 1;
    source.bits[127] = infinity;
    const { scales } = await run(format, from, source.bits, 32);
    const first = format === 'nf4' ? scales : scales.filter((_, i) => i % 2 === 0);
    expect([...first].map((scale) => scale > 1e38)).toEqual([true, false, false, true]);
  });
});

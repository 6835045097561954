import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bfloat16ToFloat32, float16ToFloat32, float32ToFloat16 } from '../../src/formats/half.js';
import { createTensor, type DType, upload } from '../../src/gpu/tensor.js';
import { convert } from '../../src/ops/convert.js';
import { OpRun, openTestGpu, type TestGpu } from '../gpu.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

/** Element bits after converting `bits`, behind `first` poisoned elements and before three more. */
async function run(from: 'bf16' | 'f16' | 'f32', to: DType, bits: Uint16Array | Uint32Array, first: number) {
  const op = new OpRun(gpu, 'f16');
  const raw = createTensor(gpu.device, 'raw', 'u32', [Math.ceil(bits.byteLength / 4)]);
  upload(gpu.device, raw, bits);
  const y = op.output('y', to, [first + bits.length + 3]);
  convert(op.ctx, { raw, y, from, count: bits.length, first });
  await op.run({});
  const bytes = await gpu.device.read(y.buffer!, 0, y.elements * (to === 'f16' ? 2 : 4));
  const all = to === 'f16' ? new Uint16Array(bytes) : new Uint32Array(bytes);
  const untouched = [...all.subarray(0, first), ...all.subarray(first + bits.length)];
  expect(untouched.every((element) => (element & 0xffff) === 0x7fff)).toBe(true);
  return all.subarray(first, first + bits.length);
}

const bitsOf = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length);

/** Zeros, ones, the ends of the range, odd mantissas; no subnormals, which drivers may flush. */
const halves = new Uint16Array([0, 0x8000, 0x3c00, 0xbc00, 0x0400, 0x7bff, 0xfbff, 0x3555, 0x1234, 0xd678, 0x4001]);
const brains = new Uint16Array([0, 0x8000, 0x3f80, 0xbf80, 0x0080, 0x7f7f, 0xff7f, 0x3eab, 0x1234, 0xd678, 0x4049]);
const singles = new Uint32Array([
  0, 0x80000000, 0x3f800000, 0x00800000, 0x7f7fffff, 0xff7fffff, 0x40490fdb, 0xb5555555,
]);

describe('convert', () => {
  it.each([0, 5])('to f32 keeps every bit, %i elements in', async (first) => {
    for (const count of [1, 2, 7, 8]) {
      expect(await run('f32', 'f32', singles.subarray(0, count), first)).toEqual(singles.subarray(0, count));
    }
    expect(await run('f16', 'f32', halves, first)).toEqual(bitsOf(float16ToFloat32(halves)));
    expect(await run('bf16', 'f32', brains, first)).toEqual(bitsOf(bfloat16ToFloat32(brains)));
  });

  it.each([0, 5])('of f16 to f16 keeps every bit, %i elements in', async (first) => {
    for (const count of [1, 2, 11]) {
      expect(await run('f16', 'f16', halves.subarray(0, count), first)).toEqual(halves.subarray(0, count));
    }
  });

  it('of wider numbers to f16 is exact where f16 holds them, else within an ulp', async () => {
    const exact = new Float32Array([0, -0, 1, -2.5, 65504, 2 ** -14, 0.333251953125]);
    expect(await run('f32', 'f16', bitsOf(exact), 1)).toEqual(float32ToFloat16(exact));
    const brainBits = new Uint16Array([0x3f80, 0xc120, 0x3eab, 0x4049, 0xbc5a]);
    expect(await run('bf16', 'f16', brainBits, 1)).toEqual(float32ToFloat16(bfloat16ToFloat32(brainBits)));
    const between = new Float32Array([Math.PI, -Math.E, 1 / 3, 1000.3, 1e-3]);
    const bits = await run('f32', 'f16', bitsOf(between), 0);
    float32ToFloat16(between).forEach((half, i) => {
      expect(Math.abs(bits[i] - half)).toBeLessThanOrEqual(1);
    });
  });

  it('converts more than a workgroup of elements', async () => {
    const many = Uint16Array.from({ length: 1001 }, (_, i) => 0x3c00 + i);
    expect(await run('f16', 'f32', many, 3)).toEqual(bitsOf(float16ToFloat32(many)));
  });
});

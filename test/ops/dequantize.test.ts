import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { dequantize, type PackedMatrix } from '../../src/ops/dequantize.js';
import { OpRun, openTestGpu, type TestGpu, tiers, tolerance } from '../gpu.js';
import { randomNormal, relativeError } from '../reference/random.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

/** The table of bitsandbytes' NF4, from the quantiles of a normal distribution. */
const nf4 = [
  -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
  -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
];

const cases = [
  { format: 'nf4', n: 3, k: 64, group: 64, ordered: true },
  // Blocks of NF4 lie across rows.
  { format: 'nf4', n: 6, k: 96, group: 64, ordered: true },
  { format: 'affine4', n: 5, k: 8, group: 8, ordered: true },
  { format: 'affine4', n: 33, k: 256, group: 128, ordered: true },
  { format: 'affine4', n: 7, k: 96, group: 32, ordered: false },
  { format: 'affine8', n: 9, k: 192, group: 64, ordered: true },
] as const;

describe.each(tiers)('dequantize into %s', (tier) => {
  it.each(cases)('unpacks %o', async ({ format, n, k, group, ordered }) => {
    const bits = format === 'affine8' ? 8 : 4;
    const perWord = 32 / bits;
    const code = Array.from({ length: n * k }, (_, i) => (i * 7 + (i >> 4) * 3) % 2 ** bits);
    const words = new Uint32Array((n * k) / perWord);
    code.forEach((value, i) => {
      words[Math.floor(i / perWord)] |= value << (bits * (i % perWord));
    });
    const groups = (n * k) / group;
    const scales = Float32Array.from(randomNormal(groups * (format === 'nf4' ? 1 : 2), 1));
    const columnGroup = Array.from({ length: k }, (_, i) => (i * 5 + 1) % (k / group));
    const op = new OpRun(gpu, tier);
    const matrix: PackedMatrix = {
      format,
      n,
      k,
      codes: op.input('codes', 'u32', [words.length], words),
      scales: op.input('scales', 'f32', [scales.length], scales),
      group,
      columnGroup: ordered ? null : op.input('columnGroup', 'u32', [k], columnGroup),
    };
    const y = op.output('y', tier, [n, k]);
    dequantize(op.ctx, matrix, y);
    await op.run({});
    const expected = Float64Array.from(code, (value, i) => {
      const of = ordered ? Math.floor(i / group) : Math.floor(i / k) * (k / group) + columnGroup[i % k];
      return format === 'nf4' ? nf4[value] * scales[of] : value * scales[2 * of] + scales[2 * of + 1];
    });
    expect(relativeError(await op.read(y), expected)).toBeLessThan(tolerance[tier]);
  });
});

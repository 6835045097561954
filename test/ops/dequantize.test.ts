import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { dequantize } from '../../src/ops/dequantize.js';
import { matmul } from '../../src/ops/matmul.js';
import type { MatmulProblem, MatmulSettings } from '../../src/ops/matmul-tile.js';
import { OpRun, openTestGpu, rounded, type TestGpu, tiers, tolerance } from '../gpu.js';
import { matmulNN, matmulNT } from '../reference/matmul.js';
import { randomNormal, relativeError } from '../reference/random.js';
import { noMatrices, skip } from '../skip.js';
import { type PackedCase, packedMatrix } from './packed.js';
import { smallTile } from './random-shapes/products.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

const cases: PackedCase[] = [
  { format: 'nf4', n: 4, k: 64, group: 64, ordered: true },
  // Blocks of NF4 lie across rows.
  { format: 'nf4', n: 8, k: 96, group: 64, ordered: true },
  { format: 'affine4', n: 12, k: 8, group: 8, ordered: true },
  { format: 'affine4', n: 36, k: 256, group: 128, ordered: true },
  { format: 'affine4', n: 20, k: 96, group: 32, ordered: false },
  { format: 'affine8', n: 8, k: 192, group: 64, ordered: true },
];

describe.each(tiers)('packed matrices, %s', (tier) => {
  it.each(cases)('are unpacked: %o', async (packed) => {
    const op = new OpRun(gpu, tier);
    const { matrix, values } = packedMatrix(op, packed);
    const y = op.output('y', tier, [packed.n, packed.k]);
    dequantize(op.ctx, matrix, y);
    await op.run({});
    expect(relativeError(await op.read(y), values)).toBeLessThan(tolerance[tier]);
  });

  describe.each(['direct', 'rows', 'tiled', ...(tier === 'f16' ? ['matrices'] : [])])('multiply, %s form', (form) => {
    it.each([
      ...cases,
      // Three parts, the last of 4 rows, where the device binds 8 rows at once.
      { ...cases[4], parts: 3 },
      { ...cases[1], n: 24, parts: 3 },
    ])('%o', async ({ parts = 1, ...packed }: PackedCase & { parts?: number }) => {
      const [matrixUnits] = gpu.device.matrixUnits;
      if (form === 'matrices' && !matrixUnits) skip(noMatrices);
      const onMatrices = form === 'matrices' ? { matrix: matrixUnits, tuned: () => smallTile } : {};
      const op = new OpRun(gpu, tier, { cpu: form === 'direct', subgroups: form === 'rows', ...onMatrices });
      const { matrix, values } = packedMatrix(op, packed);
      const { n, k } = packed;
      const maxBinding = parts > 1 ? 9 * k * (tier === 'f16' ? 2 : 4) : undefined;
      const ctx = { ...op.ctx, maxBinding };
      const [m, live, rank] = form === 'rows' ? [7, 5, 8] : [19, 18, 8];
      const x = rounded(tier, randomNormal(m * k, 2));
      const dy = rounded(tier, randomNormal(m * n, 3));
      const u = rounded(tier, randomNormal(m * rank, 4));
      const v = rounded(tier, randomNormal(n * rank, 5));
      const bias = rounded('f32', randomNormal(n, 6));
      const y = op.output('y', 'f32', [m, n]);
      const before = randomNormal(m * k, 7);
      const dx = op.input('dx', 'f32', [m, k], before);
      const a = rounded(tier, randomNormal(rank * k, 8));
      const common = { label: 'test', w: matrix, count: 'batch.rows' } as const;
      const lora = { u: op.input('u', tier, [m, rank], u), v: op.input('v', tier, [n, rank], v), rank };
      matmul(ctx, {
        ...common,
        form: 'nt',
        x: op.input('x', tier, [m, k], x),
        c: y,
        n,
        k,
        lora,
        bias: op.input('bias', 'f32', [n], bias),
      });
      // In f16 a few rows unpack the weights as they read them.
      expect(op.kernels.has('dequantize')).toBe(form !== 'rows' || tier === 'f32');
      matmul(ctx, {
        ...common,
        form: 'nn',
        x: op.input('dy', tier, [m, n], dy),
        c: dx,
        n: k,
        k: n,
        lora: { ...lora, v: op.input('a', tier, [rank, k], a) },
        accumulate: true,
      });
      const forward = form === 'rows' && tier === 'f16' ? 1 : 2 * parts;
      expect(op.ctx.recorder.dispatchCount).toBe(forward + 2 * parts);
      if (form === 'matrices' && n % 8 === 0) expect([...op.kernels].sort()).toEqual(['dequantize', 'matmul-tensor']);
      await op.run({ rows: live });
      const share = matmulNT(u, v, m, n, rank);
      const expected = matmulNT(x, values, m, n, k).map((sum, i) => sum + share[i] + bias[i % n]);
      const take = (result: Float64Array, width: number) => result.subarray(0, live * width);
      expect(relativeError(take(await op.read(y), n), take(expected, n))).toBeLessThan(tolerance[tier]);
      const adapter = matmulNN(u, a, m, rank, k);
      const back = matmulNN(dy, values, m, n, k).map((sum, i) => sum + adapter[i] + before[i]);
      expect(relativeError(take(await op.read(dx), k), take(back, k))).toBeLessThan(tolerance[tier]);
    });
  });
});

it('packed matrices are multiplied, once unpacked, as was measured of them, else as of plain ones', () => {
  const [matrix] = gpu.device.matrixUnits;
  if (!matrix) skip(noMatrices);
  const kernelsWith = (measured: { packed?: MatmulSettings; plain: MatmulSettings }) => {
    const tuned = ({ packed }: MatmulProblem) => (packed ? measured.packed : measured.plain);
    const op = new OpRun(gpu, 'f16', { cpu: true, matrix, tuned });
    const { matrix: w } = packedMatrix(op, { format: 'nf4', n: 64, k: 64, group: 64, ordered: true });
    const [x, c] = [op.output('x', 'f16', [40, 64]), op.output('c', 'f32', [40, 64])];
    matmul(op.ctx, { label: 'test', form: 'nt', x, w, c, n: 64, k: 64, count: 'batch.rows' });
    return [...op.kernels];
  };
  expect(kernelsWith({ packed: 'registers', plain: smallTile })).toEqual(['dequantize', 'matmul-direct']);
  expect(kernelsWith({ packed: smallTile, plain: 'registers' })).toEqual(['dequantize', 'matmul-tensor']);
  expect(kernelsWith({ plain: 'registers' })).toEqual(['dequantize', 'matmul-direct']);
});

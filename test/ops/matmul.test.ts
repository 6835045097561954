import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { matmul } from '../../src/ops/matmul.js';
import { OpRun, openTestGpu, rounded, type TestGpu, tiers, tolerance } from '../gpu.js';
import { matmulNN, matmulNT } from '../reference/matmul.js';
import { randomNormal, relativeError } from '../reference/random.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

const shapes = [
  { m: 1, n: 4, k: 4, rank: 0 },
  { m: 17, n: 68, k: 36, rank: 4 },
  { m: 3, n: 132, k: 20, rank: 8 },
  { m: 70, n: 300, k: 100, rank: 12 },
];

/** For the form of few rows. */
const fewRows = [
  { m: 1, n: 4, k: 8, rank: 0 },
  { m: 3, n: 132, k: 72, rank: 8 },
  { m: 8, n: 52, k: 1032, rank: 16 },
  { m: 13, n: 20, k: 520, rank: 8 },
];

describe.each(tiers)('matmul, %s', (tier) => {
  describe.each(['direct', 'tiled', 'rows'])('%s form', (form) => {
    const rows = form === 'rows';
    const start = () =>
      new OpRun(gpu, tier, { cpu: form === 'direct', subgroups: rows, tuned: () => (rows ? 'rows' : undefined) });

    it.each(form === 'rows' ? fewRows : shapes)(
      'x·wᵀ with adapter, bias and residual: %o',
      async ({ m, n, k, rank }) => {
        const op = start();
        const live = Math.max(1, m - 2);
        const x = rounded(tier, randomNormal(m * k, 1));
        const w = rounded(tier, randomNormal(n * k, 2, 1 / Math.sqrt(k)));
        const bias = rounded('f32', randomNormal(n, 3));
        const residual = rounded('f32', randomNormal(m * n, 4));
        const u = rounded(tier, randomNormal(m * rank, 5));
        const v = rounded(tier, randomNormal(n * rank, 6));
        const c = op.output('c', 'f32', [m, n]);
        matmul(op.ctx, {
          label: 'test',
          form: 'nt',
          x: op.input('x', tier, [m, k], x),
          w: op.input('w', tier, [n, k], w),
          c,
          n,
          k,
          lora: rank ? { u: op.input('u', tier, [m, rank], u), v: op.input('v', tier, [n, rank], v), rank } : undefined,
          bias: op.input('bias', 'f32', [n], bias),
          residual: op.input('residual', 'f32', [m, n], residual),
          alpha: 0.5,
          count: 'batch.rows',
        });
        expect(op.kernels.has('matmul-rows')).toBe(form === 'rows');
        await op.run({ rows: live });
        const base = matmulNT(x, w, m, n, k);
        const lora = rank ? matmulNT(u, v, m, n, rank) : new Float64Array(m * n);
        const expected = base.map((value, i) => 0.5 * (value + lora[i]) + bias[i % n] + residual[i]);
        const actual = await op.read(c);
        expect(relativeError(actual.subarray(0, live * n), expected.subarray(0, live * n))).toBeLessThan(1e-5);
        expect(actual.subarray(live * n).every(Number.isNaN)).toBe(true);
      },
    );

    if (form === 'rows') return; // x·wᵀ alone
    it.each(shapes)('dy·w with adapter, accumulated, and in operand type: %o', async ({ m, n, k, rank }) => {
      const op = start();
      const dy = rounded(tier, randomNormal(m * k, 1));
      const w = rounded(tier, randomNormal(k * n, 2, 1 / Math.sqrt(k)));
      const du = rounded(tier, randomNormal(m * rank, 5));
      const a = rounded(tier, randomNormal(rank * n, 6));
      const before = rounded(tier, randomNormal(m * n, 7));
      const c = op.input('c', tier, [m, n], before);
      matmul(op.ctx, {
        label: 'test',
        form: 'nn',
        x: op.input('dy', tier, [m, k], dy),
        w: op.input('w', tier, [k, n], w),
        c,
        n,
        k,
        lora: rank ? { u: op.input('du', tier, [m, rank], du), v: op.input('a', tier, [rank, n], a), rank } : undefined,
        accumulate: true,
        count: 'batch.rows',
      });
      await op.run({ rows: m });
      const base = matmulNN(dy, w, m, k, n);
      const lora = rank ? matmulNN(du, a, m, rank, n) : new Float64Array(m * n);
      const expected = base.map((value, i) => value + lora[i] + before[i]);
      expect(relativeError(await op.read(c), expected)).toBeLessThan(tolerance[tier]);
    });
  });
});

it('names the shape that no kernel takes', () => {
  const op = new OpRun(gpu, 'f32');
  const make = (shape: number[]) => op.output('t', 'f32', shape);
  const wrong = () =>
    matmul(op.ctx, {
      label: 'odd',
      form: 'nt',
      x: make([5, 6]),
      w: make([7, 6]),
      c: make([5, 7]),
      n: 7,
      k: 6,
      count: 'batch.rows',
    });
  expect(wrong).toThrow(/odd of 5x7x6 .*no kernel takes this shape/);
});

import { expect, it } from 'vitest';
import { matmul } from '../../src/ops/matmul.js';
import { type OpRun, rounded, tolerance } from '../gpu.js';
import { matmulNN, matmulNT } from '../reference/matmul.js';
import { randomNormal, relativeError } from '../reference/random.js';

const shapes = [
  { m: 70, n: 136, k: 104, rank: 16 },
  { m: 17, n: 72, k: 40, rank: 8 },
];

/** Tests the forms of a matmul on matrix units, `brief` those of layers alone; `start` skips where the device has none. */
export function testTensorMatmul(
  start: () => OpRun,
  { staged, brief = false }: { staged: boolean; brief?: boolean },
): void {
  it.each(brief ? shapes.slice(1) : shapes)('x·wᵀ with adapter, bias and residual: %o', async ({ m, n, k, rank }) => {
    const op = start();
    const live = m - 2;
    // The adapter reads columns 8 to 8 + rank of a wider u.
    const width = rank + 16;
    const x = rounded('f16', randomNormal(m * k, 1));
    const w = rounded('f16', randomNormal(n * k, 2, 1 / Math.sqrt(k)));
    const bias = rounded('f32', randomNormal(n, 3));
    const residual = rounded('f32', randomNormal(m * n, 4));
    const wideU = rounded('f16', randomNormal(m * width, 5)).map((value, i) =>
      i % width < 8 || i % width >= 8 + rank ? Number.NaN : value,
    );
    const u = Float64Array.from({ length: m * rank }, (_, i) => wideU[Math.floor(i / rank) * width + 8 + (i % rank)]);
    const v = rounded('f16', randomNormal(n * rank, 6));
    // Rows past the live ones hold NaN: they must not reach a result.
    x.fill(Number.NaN, live * k);
    const c = op.output('c', 'f32', [m, n]);
    matmul(op.ctx, {
      label: 'test',
      form: 'nt',
      x: op.input('x', 'f16', [m, k], x),
      w: op.input('w', 'f16', [n, k], w),
      c,
      n,
      k,
      lora: { u: op.input('u', 'f16', [m, width], wideU), v: op.input('v', 'f16', [n, rank], v), rank, column: 8 },
      bias: op.input('bias', 'f32', [n], bias),
      residual: op.input('residual', 'f32', [m, n], residual),
      alpha: 0.5,
      count: 'batch.rows',
    });
    await op.run({ rows: live });
    const base = matmulNT(x, w, m, n, k);
    const lora = matmulNT(u, v, m, n, rank);
    const expected = base.map((value, i) => 0.5 * (value + lora[i]) + bias[i % n] + residual[i]);
    const actual = await op.read(c);
    expect(relativeError(actual.subarray(0, live * n), expected.subarray(0, live * n))).toBeLessThan(1e-5);
    expect(actual.subarray(live * n).every(Number.isNaN)).toBe(true);
  });

  it.each(brief ? shapes.slice(1) : shapes)('dy·w, accumulated in operand type: %o', async ({ m, n, k }) => {
    const op = start();
    const dy = rounded('f16', randomNormal(m * k, 1));
    const w = rounded('f16', randomNormal(k * n, 2, 1 / Math.sqrt(k)));
    const before = rounded('f16', randomNormal(m * n, 7));
    const c = op.input('c', 'f16', [m, n], before);
    matmul(op.ctx, {
      label: 'test',
      form: 'nn',
      x: op.input('dy', 'f16', [m, k], dy),
      w: op.input('w', 'f16', [k, n], w),
      c,
      n,
      k,
      accumulate: true,
      count: 'batch.rows',
    });
    await op.run({ rows: m });
    const base = matmulNN(dy, w, m, k, n);
    const expected = base.map((value, i) => value + before[i]);
    expect(relativeError(await op.read(c), expected)).toBeLessThan(tolerance.f16);
  });

  if (brief) return;
  it.each([
    { form: 'nt', accumulate: false },
    { form: 'nn', accumulate: true },
  ] as const)('splits a long sum with few results: %o', async ({ form, accumulate }) => {
    const op = start();
    const [m, n, k, live, rank] = [23, 16, 1096, 19, 8];
    const x = rounded('f16', randomNormal(m * k, 1)).fill(Number.NaN, live * k);
    const w = rounded('f16', randomNormal(k * n, 2, 1 / Math.sqrt(k)));
    const u = rounded('f16', randomNormal(m * rank, 3)).fill(Number.NaN, live * rank);
    const v = rounded('f16', randomNormal(rank * n, 4));
    const bias = rounded('f32', randomNormal(n, 5));
    const residual = rounded('f32', randomNormal(m * n, 6)).fill(Number.NaN, live * n);
    const before = rounded('f16', randomNormal(m * n, 7)).fill(Number.NaN, live * n);
    const c = accumulate ? op.input('c', 'f16', [m, n], before) : op.output('c', 'f16', [m, n]);
    matmul(op.ctx, {
      label: 'test',
      form,
      x: op.input('x', 'f16', [m, k], x),
      w: op.input('w', 'f16', form === 'nt' ? [n, k] : [k, n], w),
      c,
      n,
      k,
      lora: {
        u: op.input('u', 'f16', [m, rank], u),
        v: op.input('v', 'f16', form === 'nt' ? [n, rank] : [rank, n], v),
        rank,
      },
      bias: op.input('bias', 'f32', [n], bias),
      residual: op.input('residual', 'f32', [m, n], residual),
      accumulate,
      alpha: 3,
      count: 'batch.rows',
    });
    expect(op.kernels.has('sum-splits')).toBe(staged);
    await op.run({ rows: live });
    const base = form === 'nt' ? matmulNT(x, w, m, n, k) : matmulNN(x, w, m, k, n);
    const share = form === 'nt' ? matmulNT(u, v, m, n, rank) : matmulNN(u, v, m, rank, n);
    const expected = base.map(
      (sum, i) => 3 * (sum + share[i]) + bias[i % n] + residual[i] + (accumulate ? before[i] : 0),
    );
    const actual = await op.read(c);
    expect(relativeError(actual.subarray(0, live * n), expected.subarray(0, live * n))).toBeLessThan(tolerance.f16);
    expect(actual.subarray(live * n).every(Number.isNaN)).toBe(true);
  });

  // Matrices of the tensors' rows cannot end at any live row, so these forms stage.
  if (!staged) return;

  it.each([
    { m: 16, n: 88, k: 53, live: 51, splits: 1 },
    { m: 24, n: 40, k: 70, live: 35, splits: 3 },
  ])('xᵀ·w, sums over live rows in splits: %o', async ({ m, n, k, live, splits }) => {
    const op = start();
    const x = rounded('f16', randomNormal(k * m, 1)).fill(Number.NaN, live * m);
    const w = rounded('f16', randomNormal(k * n, 2)).fill(Number.NaN, live * n);
    const c = op.output('c', 'f32', [splits, m, n]);
    matmul(op.ctx, {
      label: 'test',
      form: 'tn',
      x: op.input('x', 'f16', [k, m], x),
      w: op.input('w', 'f16', [k, n], w),
      c,
      m,
      n,
      k,
      alpha: 2,
      splits,
      count: 'batch.rows',
    });
    await op.run({ rows: live });
    const expected = new Float64Array(m * n);
    for (let row = 0; row < live; row++)
      for (let i = 0; i < m; i++)
        for (let j = 0; j < n; j++) expected[i * n + j] += 2 * x[row * m + i] * w[row * n + j];
    const parts = await op.read(c);
    const actual = expected.map((_, i) => {
      let sum = 0;
      for (let z = 0; z < splits; z++) sum += parts[z * m * n + i];
      return sum;
    });
    expect(relativeError(actual, expected)).toBeLessThan(1e-5);
  });

  it('xᵀ·wᵀ', async () => {
    const op = start();
    const [m, n, k] = [24, 43 * 8, 56];
    const x = rounded('f16', randomNormal(k * m, 1));
    const w = rounded('f16', randomNormal(n * k, 2));
    const c = op.output('c', 'f32', [m, n]);
    matmul(op.ctx, {
      label: 'test',
      form: 'tt',
      x: op.input('x', 'f16', [k, m], x),
      w: op.input('w', 'f16', [n, k], w),
      c,
      n,
      k,
      count: 'batch.rows',
    });
    await op.run({ rows: k });
    const transposed = Float64Array.from({ length: m * k }, (_, i) => x[(i % k) * m + Math.floor(i / k)]);
    expect(relativeError(await op.read(c), matmulNT(transposed, w, m, n, k))).toBeLessThan(1e-5);
  });
}

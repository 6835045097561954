import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { OpContext } from '../../src/ops/context.js';
import { matmul } from '../../src/ops/matmul.js';
import { OpRun, openTestGpu, rounded, type TestGpu, tolerance } from '../gpu.js';
import { matmulNN, matmulNT } from '../reference/matmul.js';
import { randomNormal, relativeError } from '../reference/random.js';
import { noMatrices, skip } from '../skip.js';
import { smallTile } from './random-shapes/products.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

const forms: Record<string, () => Partial<OpContext>> = {
  direct: () => ({ cpu: true }),
  tiled: () => ({ cpu: false }),
  rows: () => ({ cpu: false, subgroups: true }),
  // Tiles as GPUs have them take minutes to compile on CPU cores.
  matrices: () => ({ cpu: false, subgroups: true, matrix: gpu.device.matrixUnits[0], tuned: () => smallTile }),
  'direct matrices': () => ({ cpu: true, subgroups: true, matrix: gpu.device.matrixUnits[0] }),
};

describe.each(Object.keys(forms))('matmul, %s form', (form) => {
  const lacksMatrices = () => form.endsWith('matrices') && !gpu.device.matrixUnits[0];

  it('writes parts side by side into a wider matrix, and nothing else', async () => {
    if (lacksMatrices()) skip(noMatrices);
    const [m, k, wide] = [5, 64, 100];
    const x = rounded('f16', randomNormal(m * k, 1));
    const parts = [
      { column: 0, n: 40 },
      { column: 40, n: 24 },
      { column: 72, n: 16 },
    ].map((part, i) => ({ ...part, w: rounded('f16', randomNormal(part.n * k, 2 + i)) }));
    const op = new OpRun(gpu, 'f16', forms[form]());
    const c = op.output('c', 'f32', [m, wide]);
    for (const { column, n, w } of parts)
      matmul(op.ctx, {
        ...{ label: 'test', form: 'nt', c, n, k, cColumn: column, count: 'batch.rows' },
        x: op.input('x', 'f16', [m, k], x),
        w: op.input('w', 'f16', [n, k], w),
      });
    await op.run({ rows: m - 1 });
    const actual = await op.read(c);
    const expected = new Float64Array(m * wide).fill(Number.NaN);
    for (const { column, n, w } of parts) {
      const product = matmulNT(x, w, m, n, k);
      for (let row = 0; row < m - 1; row++) expected.set(product.subarray(row * n, (row + 1) * n), row * wide + column);
    }
    const written = [...expected.keys()].filter((i) => !Number.isNaN(expected[i]));
    const pick = (values: Float64Array) => Float64Array.from(written, (i) => values[i]);
    expect(relativeError(pick(actual), pick(expected))).toBeLessThan(1e-5);
    expect([...actual.keys()].filter((i) => !Number.isNaN(actual[i]))).toEqual(written);
  });

  it('sums narrow products of long rows side by side', async () => {
    if (lacksMatrices()) skip(noMatrices);
    const [m, k, wide, n] = [9, 520, 40, 8];
    const x = rounded('f16', randomNormal(m * k, 1));
    const op = new OpRun(gpu, 'f16', forms[form]());
    const c = op.output('c', 'f16', [m, wide]);
    const parts = [8, 24].map((column, i) => ({ column, w: rounded('f16', randomNormal(k * n, 2 + i)) }));
    for (const { column, w } of parts)
      matmul(op.ctx, {
        ...{ label: 'test', form: 'nn', c, n, k, cColumn: column, count: 'batch.rows' },
        x: op.input('x', 'f16', [m, k], x),
        w: op.input('w', 'f16', [k, n], w),
      });
    expect(op.kernels.has('sum-splits')).toBe(form.endsWith('matrices'));
    await op.run({ rows: m - 1 });
    const actual = await op.read(c);
    const expected = new Float64Array(m * wide).fill(Number.NaN);
    for (const { column, w } of parts) {
      const product = matmulNN(x, w, m, k, n);
      for (let row = 0; row < m - 1; row++) expected.set(product.subarray(row * n, (row + 1) * n), row * wide + column);
    }
    const written = [...expected.keys()].filter((i) => !Number.isNaN(expected[i]));
    const pick = (values: Float64Array) => Float64Array.from(written, (i) => values[i]);
    expect(relativeError(pick(actual), pick(expected))).toBeLessThan(tolerance.f16);
    expect([...actual.keys()].filter((i) => !Number.isNaN(actual[i]))).toEqual(written);
  });

  it("takes a part of x's columns, and of a wide c's with adapter, bias and residual", async () => {
    if (lacksMatrices()) skip(noMatrices);
    const [m, wide, rank] = [form === 'rows' ? 5 : 40, 96, 8];
    const [x, residual] = [randomNormal(m * wide, 1), randomNormal(m * wide, 2)];
    const w = rounded('f16', randomNormal(wide * wide, 3));
    const [u, v] = [randomNormal(m * rank, 4), randomNormal(wide * rank, 5)].map((values) => rounded('f16', values));
    const bias = randomNormal(wide, 6);
    const op = new OpRun(gpu, 'f16', forms[form]());
    const wideX = op.input('x', 'f16', [m, wide], x);
    const [forward, backward] = ['forward', 'backward'].map((label) => op.output(label, 'f32', [m, wide]));
    const common = { label: 'test', x: wideX, count: 'batch.rows' } as const;
    const lora = { u: op.input('u', 'f16', [m, rank], u), v: op.input('v', 'f16', [wide, rank], v), rank };
    const parts = [0, 40, 64].map((first, i, all) => ({ first, count: (all[i + 1] ?? wide) - first }));
    for (const { first, count } of parts) {
      const rows = op.input('w', 'f16', [count, wide], w.subarray(first * wide, (first + count) * wide));
      matmul(op.ctx, {
        ...{ ...common, form: 'nt', w: rows, c: forward, n: count, k: wide, cColumn: first, lora, alpha: 0.5 },
        bias: op.input('bias', 'f32', [wide], bias),
        residual: op.input('residual', 'f32', [m, wide], residual),
      });
      const accumulate = first > 0;
      matmul(op.ctx, { ...common, form: 'nn', w: rows, c: backward, n: wide, k: count, xColumn: first, accumulate });
    }
    await op.run({ rows: m });
    const operand = rounded('f16', x);
    const share = matmulNT(u, v, m, wide, rank);
    const expected = matmulNT(operand, w, m, wide, wide).map(
      (sum, i) => 0.5 * (sum + share[i]) + bias[i % wide] + residual[i],
    );
    expect(relativeError(await op.read(forward), expected)).toBeLessThan(1e-5);
    expect(relativeError(await op.read(backward), matmulNN(operand, w, m, wide, wide))).toBeLessThan(1e-5);
  });

  it('adds a long sum of some rows to those of a taller matrix, and nothing else', async () => {
    if (lacksMatrices()) skip(noMatrices);
    const [tall, first, m, live, n, k] = [90, 40, 40, 70, 64, 1024];
    const [x, w, before] = [m * k, k * n, tall * n].map((size, i) => rounded('f16', randomNormal(size, i)));
    const op = new OpRun(gpu, 'f16', forms[form]());
    const c = op.input('c', 'f32', [tall, n], before);
    matmul(op.ctx, {
      ...{ label: 'test', form: 'nn', c, n, k, m, firstRow: first, cRow: first, accumulate: true, count: 'batch.rows' },
      x: op.input('x', 'f16', [m, k], x),
      w: op.input('w', 'f16', [k, n], w),
    });
    expect(op.kernels.has('sum-splits')).toBe(form === 'matrices');
    await op.run({ rows: live });
    const expected = before.slice();
    const product = matmulNN(x, w, m, k, n);
    for (let i = 0; i < (live - first) * n; i++) expected[first * n + i] += product[i];
    expect(relativeError(await op.read(c), expected)).toBeLessThan(1e-5);
  });

  it('with tileRows, gives a row the same bits whatever the others are and wherever it stands', async () => {
    if (lacksMatrices()) skip(noMatrices);
    // Long sums of few columns: on matrix units their parts are added up apart.
    const [n, k, rank, tileRows] = [64, 1024, 8, 64];
    const [x, u] = [k, rank].map((width) => rounded('f16', randomNormal(20 * width, width)));
    const [w, v] = [k, rank].map((width) => rounded('f16', randomNormal(n * width, 1 + width)));
    const run = async (m: number, at: number, live: number) => {
      const op = new OpRun(gpu, 'f16', forms[form]());
      const placed = (rows: Float64Array, width: number) => {
        const values = randomNormal(m * width, m);
        values.set(rows, at * width);
        return op.input('x', 'f16', [m, width], values);
      };
      const c = op.output('c', 'f32', [m, n]);
      matmul(
        { ...op.ctx, tileRows },
        {
          ...{ label: 'test', form: 'nt', c, n, k, count: 'batch.rows' },
          x: placed(x, k),
          w: op.input('w', 'f16', [n, k], w),
          lora: { u: placed(u, rank), v: op.input('v', 'f16', [n, rank], v), rank },
        },
      );
      expect(op.kernels).not.toContain('matmul-rows');
      if (form === 'matrices') expect(op.kernels).toContain('sum-splits');
      await op.run({ rows: live });
      return (await op.read(c)).subarray(at * n, (at + 20) * n);
    };
    const few = await run(64, 0, 20);
    expect(await run(64, 37, 60)).toEqual(few);
    expect(await run(300, 209, 300)).toEqual(few);
    const lora = matmulNT(u, v, 20, n, rank);
    const exact = matmulNT(x, w, 20, n, k).map((value, i) => value + lora[i]);
    expect(relativeError(few, exact)).toBeLessThan(1e-5);
  });
});

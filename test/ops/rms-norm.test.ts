import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DType } from '../../src/gpu/tensor.js';
import { rmsNorm, rmsNormBackward } from '../../src/ops/rms-norm.js';
import { OpRun, openTestGpu, rounded, type TestGpu, tiers, tolerance } from '../gpu.js';
import { randomNormal, relativeError } from '../reference/random.js';
import * as reference from '../reference/rms-norm.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

const epsilon = 1e-5;

describe.each(tiers)('rms-norm, %s', (tier) => {
  // The residual stream is f32; the queries and keys that Qwen3 normalises head by head are operands.
  const shapes: { rows: number; dim: number; perRow: number; x: DType; count: 'batch.rows' | 'batch.logitRows' }[] = [
    { rows: 1, dim: 4, perRow: 1, x: 'f32', count: 'batch.rows' },
    { rows: 17, dim: 260, perRow: 1, x: 'f32', count: 'batch.rows' },
    { rows: 9, dim: 516, perRow: 1, x: 'f32', count: 'batch.logitRows' },
    { rows: 5, dim: 20, perRow: 3, x: tier, count: 'batch.rows' },
  ];

  it.each(shapes)('forward: %o', async ({ rows, dim, perRow, x: dtype, count }) => {
    const total = rows * perRow * dim;
    const x = rounded(dtype, [...randomNormal(total, 1, 3), ...new Array(2 * perRow * dim).fill(Number.NaN)]);
    const w = rounded('f32', randomNormal(dim, 2));
    const op = new OpRun(gpu, tier);
    const shape = [(rows + 2) * perRow, dim];
    const y = op.output('y', tier, shape);
    const args = { x: op.input('x', dtype, shape, x), w: op.input('w', 'f32', [dim], w), y };
    rmsNorm(op.ctx, { dim, perRow, epsilon, count }, args);
    await op.run(count === 'batch.rows' ? { rows } : { rows: 99, logitRows: rows });
    const actual = await op.read(y);
    const expected = reference.rmsNorm(x.subarray(0, total), w, rows * perRow, dim, epsilon);
    expect(relativeError(actual.subarray(0, total), expected)).toBeLessThan(tolerance[tier]);
    expect(actual.subarray(total).every(Number.isNaN)).toBe(true);
  });

  it('normalises rows smaller than epsilon and rows of zeros', async () => {
    const dim = 260;
    const x = rounded('f32', [...randomNormal(dim, 1, 1e-4), ...new Array(dim).fill(0)]);
    const w = rounded('f32', randomNormal(dim, 2));
    const op = new OpRun(gpu, tier);
    const y = op.output('y', tier, [2, dim]);
    const args = { x: op.input('x', 'f32', [2, dim], x), w: op.input('w', 'f32', [dim], w), y };
    rmsNorm(op.ctx, { dim, perRow: 1, epsilon, count: 'batch.rows' }, args);
    await op.run({ rows: 2 });
    expect(relativeError(await op.read(y), reference.rmsNorm(x, w, 2, dim, epsilon))).toBeLessThan(tolerance[tier]);
  });

  // dy comes out of a matmul: f32 for the norms of the residual stream, operands for those of the heads.
  it.each([
    { rows: 1, dim: 4, perRow: 1, x: 'f32', accumulate: true, copy: true, count: 'batch.rows' },
    { rows: 17, dim: 260, perRow: 1, x: 'f32', accumulate: true, copy: true, count: 'batch.rows' },
    { rows: 9, dim: 516, perRow: 1, x: 'f32', accumulate: false, copy: false, count: 'batch.logitRows' },
    { rows: 5, dim: 20, perRow: 3, x: tier, accumulate: false, copy: false, count: 'batch.rows' },
  ] as const)('backward: %o', async ({ rows, dim, perRow, x: dtype, accumulate, copy, count }) => {
    const total = rows * perRow * dim;
    const unused = new Array(2 * perRow * dim).fill(Number.NaN);
    const x = rounded(dtype, [...randomNormal(total, 1, 3), ...unused]);
    const dy = rounded(dtype, [...randomNormal(total, 3), ...unused]);
    const start = rounded(dtype, [...randomNormal(total, 4), ...unused]);
    const w = rounded('f32', randomNormal(dim, 2));
    const op = new OpRun(gpu, tier);
    const shape = [(rows + 2) * perRow, dim];
    const dx = accumulate ? op.input('dx', dtype, shape, start) : op.output('dx', dtype, shape);
    const dxCopy = copy ? op.output('dxCopy', tier, shape) : undefined;
    rmsNormBackward(
      op.ctx,
      { dim, perRow, epsilon, count },
      {
        x: op.input('x', dtype, shape, x),
        w: op.input('w', 'f32', [dim], w),
        dy: op.input('dy', dtype, shape, dy),
        dx,
        dxCopy,
        accumulate,
      },
    );
    await op.run(count === 'batch.rows' ? { rows } : { rows: 99, logitRows: rows });
    const expected = reference
      .rmsNormBackward(dy.subarray(0, total), x.subarray(0, total), w, rows * perRow, dim, epsilon)
      .map((value, i) => value + (accumulate ? start[i] : 0));
    const actual = await op.read(dx);
    expect(relativeError(actual.subarray(0, total), expected)).toBeLessThan(tolerance[dtype === 'f32' ? 'f32' : tier]);
    expect(actual.subarray(total).every(Number.isNaN)).toBe(true);
    if (dxCopy && tier === 'f16') {
      const copied = await op.read(dxCopy);
      expect(relativeError(copied.subarray(0, total), expected)).toBeLessThan(tolerance.f16);
      expect(copied.subarray(total).every(Number.isNaN)).toBe(true);
    }
  });
});

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gatherRows, gatherRowsBackward } from '../../src/ops/gather-rows.js';
import { OpRun, openTestGpu, rounded, type TestGpu, tiers } from '../gpu.js';
import { randomNormal } from '../reference/random.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

const rows = 17;
const capacity = 20;
const index = [0, 3, 7, 8, 16];
const logitCapacity = 9;

describe.each([4, 260])('gather-rows of width %i', (dim) => {
  it('takes the rows that the index names', async () => {
    const x = rounded('f32', randomNormal(capacity * dim, 1));
    const op = new OpRun(gpu, 'f32');
    const y = op.output('y', 'f32', [logitCapacity, dim]);
    const padded = [...index, ...new Array(logitCapacity - index.length).fill(0)];
    gatherRows(op.ctx, {
      index: op.input('index', 'u32', [logitCapacity], padded),
      x: op.input('x', 'f32', [capacity, dim], x),
      y,
    });
    await op.run({ rows, logitRows: index.length });
    const actual = await op.read(y);
    index.forEach((row, i) => {
      expect(actual.subarray(i * dim, (i + 1) * dim)).toEqual(x.subarray(row * dim, (row + 1) * dim));
    });
    expect(actual.subarray(index.length * dim).every(Number.isNaN)).toBe(true);
  });

  it.each(tiers)('puts gradients back, zero elsewhere, with a copy in operand type: %s', async (tier) => {
    const dy = rounded('f32', randomNormal(logitCapacity * dim, 2)).fill(Number.NaN, index.length * dim);
    const inverse = Array.from({ length: capacity }, (_, row) => index.indexOf(row));
    const op = new OpRun(gpu, tier);
    const dx = op.output('dx', 'f32', [capacity, dim]);
    const dxCopy = op.output('dxCopy', tier, [capacity, dim]);
    gatherRowsBackward(op.ctx, {
      inverse: op.input('inverse', 'i32', [capacity], inverse),
      dy: op.input('dy', 'f32', [logitCapacity, dim], dy),
      dx,
      dxCopy,
    });
    await op.run({ rows, logitRows: index.length });
    const expected = new Float64Array(capacity * dim).fill(Number.NaN, rows * dim);
    index.forEach((row, i) => {
      expected.set(dy.subarray(i * dim, (i + 1) * dim), row * dim);
    });
    expect(await op.read(dx)).toEqual(expected);
    // Rounding to f16 may go either way, so half an ulp is not promised: one ulp is.
    const copy = await op.read(dxCopy);
    if (tier === 'f32') expect(copy.every(Number.isNaN)).toBe(true);
    else {
      const wrong = copy.filter(
        (value, i) => !(Math.abs(value - expected[i]) <= Math.abs(expected[i]) * 2 ** -10 + 1e-7),
      );
      expect(wrong.length).toBe((capacity - rows) * dim);
    }
  });
});

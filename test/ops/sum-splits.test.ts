import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sumSplits } from '../../src/ops/sum-splits.js';
import { OpRun, openTestGpu, rounded, type TestGpu, tiers, tolerance } from '../gpu.js';
import { randomNormal, relativeError } from '../reference/random.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

describe.each(tiers)('sum-splits into %s', (tier) => {
  it.each([
    { splits: 1, rows: 1, columns: 4, live: 1 },
    { splits: 3, rows: 37, columns: 20, live: 30 },
    { splits: 7, rows: 5, columns: 260, live: 5 },
  ])('sums the parts, of live rows or of all: %o', async ({ splits, rows, columns, live }) => {
    const size = rows * columns;
    const parts = rounded('f32', randomNormal(splits * size, 1));
    const before = rounded(tier, randomNormal(size, 2));
    const op = new OpRun(gpu, tier);
    const sums = op.input('sums', 'f32', [splits, rows, columns], parts);
    const y = op.output('y', tier, [rows, columns]);
    const added = op.input('added', tier, [rows, columns], before);
    sumSplits(op.ctx, { label: 'test', sums, y, count: 'batch.rows' });
    sumSplits(op.ctx, { label: 'test', sums, y: added, accumulate: true });
    await op.run({ rows: live });
    const expected = Float64Array.from({ length: size }, (_, i) => {
      let sum = 0;
      for (let z = 0; z < splits; z++) sum += parts[z * size + i];
      return sum;
    });
    const actual = await op.read(y);
    const end = live * columns;
    expect(relativeError(actual.subarray(0, end), expected.subarray(0, end))).toBeLessThan(tolerance[tier]);
    expect(actual.subarray(end).every(Number.isNaN)).toBe(true);
    const both = expected.map((value, i) => value + before[i]);
    expect(relativeError(await op.read(added), both)).toBeLessThan(tolerance[tier]);
  });
});

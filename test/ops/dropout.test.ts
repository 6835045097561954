import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { dropout, dropoutBackward } from '../../src/ops/dropout.js';
import { OpRun, openTestGpu, rounded, type TestGpu, type Tier, tiers, tolerance } from '../gpu.js';
import { randomNormal, relativeError } from '../reference/random.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

/** The mask of a [rows, dim] tensor: what ones come out as. */
async function mask(tier: Tier, { rows = 100, dim = 64, p = 0.25, seed = 1, site = 0 }): Promise<Float64Array> {
  const op = new OpRun(gpu, tier);
  const y = op.output('y', tier, [rows, dim]);
  dropout(op.ctx, { x: op.input('x', tier, [rows, dim], new Float64Array(rows * dim).fill(1)), y }, site);
  await op.run({ rows, seed, dropout: p });
  return op.read(y);
}

const share = (values: Float64Array, test: (value: number, i: number) => boolean) =>
  values.filter(test).length / values.length;

describe.each(tiers)('dropout, %s', (tier) => {
  it.each([0.05, 0.5, 0.9])('drops a share of %d and scales what it keeps', async (p) => {
    const values = await mask(tier, { p });
    const dropped = share(values, (value) => value === 0);
    expect(Math.abs(dropped - p)).toBeLessThan(4 * Math.sqrt((p * (1 - p)) / values.length));
    for (const value of values) if (value !== 0) expect(Math.abs(value * (1 - p) - 1)).toBeLessThan(tolerance[tier]);
  });

  it('is the identity at p = 0', async () => {
    expect((await mask(tier, { p: 0 })).every((value) => value === 1)).toBe(true);
  });

  it('draws unrelated masks for other seeds, sites and neighbouring elements', async () => {
    const p = 0.5;
    const base = await mask(tier, { p });
    const kept = (values: Float64Array) => share(values, (value, i) => value === base[i]);
    const bound = 4 * Math.sqrt(0.25 / base.length);
    expect(kept(await mask(tier, { p }))).toBe(1);
    expect(Math.abs(kept(await mask(tier, { p, seed: 2 })) - 0.5)).toBeLessThan(bound);
    expect(Math.abs(kept(await mask(tier, { p, site: 1 })) - 0.5)).toBeLessThan(bound);
    // A seed that counts up must not shift the mask of the site that counts up.
    const [seeded, sited] = [await mask(tier, { p, seed: 5, site: 6 }), await mask(tier, { p, seed: 6, site: 5 })];
    expect(Math.abs(share(seeded, (value, i) => value === sited[i]) - 0.5)).toBeLessThan(bound);
    for (const lag of [1, 64]) {
      expect(Math.abs(share(base, (value, i) => i >= lag && value === base[i - lag]) - 0.5)).toBeLessThan(2 * bound);
    }
  });

  it('passes gradients back through the mask of the forward pass', async () => {
    const [rows, capacity, dim, p] = [17, 20, 36, 0.25];
    const unused = new Array((capacity - rows) * dim).fill(Number.NaN);
    const dy = rounded(tier, [...randomNormal(rows * dim, 1), ...unused]);
    const start = rounded(tier, [...randomNormal(rows * dim, 2), ...unused]);
    const op = new OpRun(gpu, tier);
    const dx = op.input('dx', tier, [capacity, dim], start);
    dropoutBackward(op.ctx, { dy: op.input('dy', tier, [capacity, dim], dy), dx }, 3);
    await op.run({ rows, seed: 9, dropout: p });
    const masked = await mask(tier, { rows, dim, p, seed: 9, site: 3 });
    const expected = masked.map((value, i) => start[i] + (value === 0 ? 0 : dy[i] / (1 - p)));
    const actual = await op.read(dx);
    expect(relativeError(actual.subarray(0, rows * dim), expected)).toBeLessThan(tolerance[tier]);
    expect(actual.subarray(rows * dim).every(Number.isNaN)).toBe(true);
  });

  it('takes f32 to operands, rows past the live ones left alone', async () => {
    const [rows, capacity, dim] = [3, 5, 12];
    const x = rounded('f32', randomNormal(capacity * dim, 1));
    const op = new OpRun(gpu, tier);
    const y = op.output('y', tier, [capacity, dim]);
    dropout(op.ctx, { x: op.input('x', 'f32', [capacity, dim], x), y }, 0);
    await op.run({ rows, dropout: 0 });
    const actual = await op.read(y);
    expect(relativeError(actual.subarray(0, rows * dim), x.subarray(0, rows * dim))).toBeLessThan(tolerance[tier]);
    expect(actual.subarray(rows * dim).every(Number.isNaN)).toBe(true);
  });
});

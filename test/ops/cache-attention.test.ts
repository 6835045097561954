import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { appendToCache, cacheAttention } from '../../src/ops/cache-attention.js';
import { leastWorkgroupBytes, OpRun, openTestGpu, rounded, type TestGpu, tiers, tolerance } from '../gpu.js';
import { attention } from '../reference/attention.js';
import { randomNormal, relativeError } from '../reference/random.js';
import { decodeTable, placesOf, type RowPlaces } from './decode-table.js';

let gpu: TestGpu;
beforeAll(async () => {
  // Its kernels have one form for all devices.
  gpu = await openTestGpu({ workgroupBytes: leastWorkgroupBytes });
});
afterAll(() => gpu.close());

const places = 300;

describe.each(tiers)('cache-attention, %s', (tier) => {
  it.each([
    { heads: 1, kvHeads: 1, headDim: 4, window: null, lengths: [1] },
    { heads: 4, kvHeads: 2, headDim: 20, window: null, lengths: [1, 64, 65, 150, 17] },
    { heads: 8, kvHeads: 1, headDim: 128, window: 70, lengths: [69, 70, 71, 150] },
    { heads: 14, kvHeads: 2, headDim: 128, window: null, lengths: [5, 90] }, // Qwen2.5-7B's
    { heads: 8, kvHeads: 1, headDim: 256, window: null, lengths: [66] },
    { heads: 24, kvHeads: 2, headDim: 80, window: null, lengths: [3, 65, 130] },
    { heads: 2, kvHeads: 2, headDim: 256, window: 1, lengths: [1, 2, 66] },
  ])('equals attention over the chain of each path: %o', async ({ heads, kvHeads, headDim, window, lengths }) => {
    const shape = { heads, kvHeads, headDim, window };
    const width = kvHeads * headDim;
    const rows = lengths.length;
    const capacity = rows + 2;
    // What rows share wanders over the cache; rows own nothing, one token, or half of what they see.
    const about = lengths.map((length, row): RowPlaces => {
      const owned = [0, 1, Math.floor(length / 2)][row % 3];
      const shared = Array.from({ length: length - owned }, (_, i) => (i * 7 + row) % 150);
      return { shared, own: 150 + 20 * row, owned };
    });
    const paths = about.map(placesOf);
    const keys = rounded(tier, randomNormal(places * width, 1));
    const values = rounded(tier, randomNormal(places * width, 2));
    const q = rounded(tier, randomNormal(capacity * heads * headDim, 3)).fill(Number.NaN, rows * heads * headDim);
    const op = new OpRun(gpu, tier);
    const o = op.output('o', tier, [capacity, heads * headDim]);
    cacheAttention(
      op.ctx,
      shape,
      {
        keys: op.input('keys', tier, [places, width], keys),
        values: op.input('values', tier, [places, width], values),
      },
      {
        q: op.input('q', tier, [capacity, heads * headDim], q),
        o,
        ...decodeTable(op, about, capacity, 160),
      },
    );
    await op.run({ rows });
    const actual = await op.read(o);
    const size = heads * headDim;
    paths.forEach((path, row) => {
      const pick = (all: Float64Array) =>
        Float64Array.from(
          { length: path.length * width },
          (_, i) => all[path[Math.floor(i / width)] * width + (i % width)],
        );
      const chain = {
        positions: Uint32Array.from(path.keys()),
        subtreeEnd: new Uint32Array(path.length).fill(path.length),
      };
      const query = q.subarray(row * size, (row + 1) * size);
      const expected = attention(query, pick(keys), pick(values), chain, shape, path.length - 1).o;
      expect(relativeError(actual.subarray(row * size, (row + 1) * size), expected), `row ${row}`).toBeLessThan(
        tolerance[tier],
      );
    });
    expect(actual.subarray(rows * size).every(Number.isNaN)).toBe(true);
  });

  it('stores keys and values at their places and nowhere else', async () => {
    const [rows, capacity, width] = [3, 5, 260];
    const place = [7, 0, 4, 1, 1];
    const [k, v] = [1, 2].map((seed) => rounded(tier, randomNormal(capacity * width, seed)));
    const op = new OpRun(gpu, tier);
    const keys = op.output('keys', tier, [9, width]);
    const values = op.output('values', tier, [9, width]);
    appendToCache(
      op.ctx,
      { keys, values },
      {
        k: op.input('k', tier, [capacity, width], k),
        v: op.input('v', tier, [capacity, width], v),
        place: op.input('place', 'u32', [capacity], place),
      },
    );
    await op.run({ rows });
    for (const [cache, from] of [
      [keys, k],
      [values, v],
    ] as const) {
      const expected = new Float64Array(9 * width).fill(Number.NaN);
      for (let row = 0; row < rows; row++)
        expected.set(from.subarray(row * width, (row + 1) * width), place[row] * width);
      expect(await op.read(cache)).toEqual(expected);
    }
  });

  it('weighs scores of thousands without overflow', async () => {
    const shape = { heads: 1, kvHeads: 1, headDim: 4, window: null };
    const path = Array.from({ length: 130 }, (_, i) => i);
    const keys = rounded(tier, randomNormal(130 * 4, 1, 60));
    const values = rounded(tier, randomNormal(130 * 4, 2));
    const q = rounded(tier, [60, -60, 30, 90]);
    const op = new OpRun(gpu, tier);
    const o = op.output('o', tier, [1, 4]);
    cacheAttention(
      op.ctx,
      shape,
      { keys: op.input('keys', tier, [130, 4], keys), values: op.input('values', tier, [130, 4], values) },
      {
        q: op.input('q', tier, [1, 4], q),
        o,
        ...decodeTable(op, [{ shared: path, own: 0, owned: 0 }], 1, 130),
      },
    );
    await op.run({ rows: 1 });
    const chain = { positions: Uint32Array.from(path), subtreeEnd: new Uint32Array(130).fill(130) };
    expect(relativeError(await op.read(o), attention(q, keys, values, chain, shape, 129).o)).toBeLessThan(
      tolerance[tier],
    );
  });
});

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RopeConfig } from '../../models/config.js';
import { rope, ropeBackward } from '../../src/ops/rope.js';
import { ropeTable } from '../../src/ops/rope-table.js';
import { OpRun, openTestGpu, rounded, type TestGpu, tiers, tolerance } from '../gpu.js';
import { randomNormal, relativeError } from '../reference/random.js';
import * as reference from '../reference/rope.js';

const configs: [string, RopeConfig][] = [
  ['default', { theta: 10000, llama3: null }],
  ['llama3', { theta: 500000, llama3: { factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 8192 } }],
];

describe.each(configs)('rope table, %s', (_, config) => {
  it('equals the reference to half an ulp of f32, at far positions too', () => {
    const table = ropeTable(config, 128, 9000);
    const expected = reference.ropeTable(config, 128, 9000);
    let worst = 0;
    for (let i = 0; i < expected.cos.length; i++) {
      worst = Math.max(worst, Math.abs(table[2 * i] - expected.cos[i]), Math.abs(table[2 * i + 1] - expected.sin[i]));
    }
    expect(table.length).toBe(9000 * 128);
    expect(worst).toBeLessThan(2 ** -24);
  });
});

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

describe.each(tiers)('rope, %s', (tier) => {
  it.each(
    [
      { rows: 1, heads: 1, kvHeads: 1, headDim: 4 },
      { rows: 17, heads: 3, kvHeads: 2, headDim: 20 },
      { rows: 5, heads: 2, kvHeads: 1, headDim: 128 },
    ].flatMap((shape) => configs.map(([name, config]) => ({ ...shape, name, config }))),
  )('forward and backward: $rows rows, $heads and $kvHeads heads of $headDim, $name', async ({ config, ...shape }) => {
    const { rows, heads, kvHeads, headDim } = shape;
    // Positions of a trie: neither ascending nor distinct.
    const positions = Array.from({ length: rows }, (_, i) => (i * 37) % 50);
    const op = new OpRun(gpu, tier);
    const shared = {
      positions: op.input('positions', 'u32', [rows + 1], [...positions, 0]),
      table: op.input('table', 'f32', [50, headDim / 2, 2], ropeTable(config, headDim, 50)),
    };
    const table = reference.ropeTable(config, headDim, 50);
    const checks = ([rope, ropeBackward] as const).flatMap((turn, i) => {
      const rotate = i === 0 ? reference.rope : reference.ropeBackward;
      const sides = [heads, kvHeads].map((count, side) => {
        const total = rows * count * headDim;
        const unused = new Array(count * headDim).fill(Number.NaN);
        const x = rounded(tier, [...randomNormal(total, 1 + side), ...unused]);
        const tensor = op.input(`${side}`, tier, [rows + 1, count, headDim], x);
        return { tensor, total, expected: rotate(x.subarray(0, total), positions, count, headDim, table) };
      });
      turn(op.ctx, shape, { q: sides[0].tensor, k: sides[1].tensor, ...shared });
      return sides;
    });
    await op.run({ rows });
    for (const { tensor, total, expected } of checks) {
      const actual = await op.read(tensor);
      expect(relativeError(actual.subarray(0, total), expected)).toBeLessThan(tolerance[tier]);
      expect(actual.subarray(total).every(Number.isNaN)).toBe(true);
    }
  });
});

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
      { rows: 1, heads: 1, headDim: 4 },
      { rows: 17, heads: 3, headDim: 20 },
      { rows: 5, heads: 2, headDim: 128 },
    ].flatMap((shape) => configs.map(([name, config]) => ({ ...shape, name, config }))),
  )('forward and backward: $rows rows, $heads heads of $headDim, $name', async ({ rows, heads, headDim, config }) => {
    // Positions of a trie: neither ascending nor distinct.
    const positions = Array.from({ length: rows }, (_, i) => (i * 37) % 50);
    const total = rows * heads * headDim;
    const unused = new Array(heads * headDim).fill(Number.NaN);
    const x = rounded(tier, [...randomNormal(total, 1), ...unused]);
    const op = new OpRun(gpu, tier);
    const shape = [rows + 1, heads, headDim];
    const forward = op.input('x', tier, shape, x);
    const backward = op.input('dx', tier, shape, x);
    const shared = {
      positions: op.input('positions', 'u32', [rows + 1], [...positions, 0]),
      table: op.input('table', 'f32', [50, headDim / 2, 2], ropeTable(config, headDim, 50)),
    };
    rope(op.ctx, { heads, headDim }, { x: forward, ...shared });
    ropeBackward(op.ctx, { heads, headDim }, { x: backward, ...shared });
    await op.run({ rows });
    const table = reference.ropeTable(config, headDim, 50);
    for (const [tensor, rotate] of [
      [forward, reference.rope],
      [backward, reference.ropeBackward],
    ] as const) {
      const actual = await op.read(tensor);
      const expected = rotate(x.subarray(0, total), positions, heads, headDim, table);
      expect(relativeError(actual.subarray(0, total), expected)).toBeLessThan(tolerance[tier]);
      expect(actual.subarray(total).every(Number.isNaN)).toBe(true);
    }
  });
});

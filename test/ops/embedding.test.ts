import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { embedding } from '../../src/ops/embedding.js';
import { OpRun, openTestGpu, rounded, type TestGpu, tiers } from '../gpu.js';
import { embed } from '../reference/embedding.js';
import { randomNormal, relativeError } from '../reference/random.js';
import { packedMatrix } from './packed.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

describe.each(tiers)('embedding, %s', (tier) => {
  it.each([
    { vocab: 13, dim: 4, partSize: 13, reversed: false },
    { vocab: 83, dim: 300, partSize: 32, reversed: false },
    { vocab: 83, dim: 300, partSize: 32, reversed: true },
  ])('copies rows out of every part: %o', async ({ vocab, dim, partSize, reversed }) => {
    const values = rounded(tier, randomNormal(vocab * dim, 1));
    // Row 0, the last row, both sides of each border between parts, and one that repeats.
    const tokens = [
      0,
      vocab - 1,
      partSize - 1,
      Math.min(partSize, vocab - 1),
      2 * partSize - 1,
      2 * partSize,
      5,
      5,
    ].map((token) => token % vocab);
    const op = new OpRun(gpu, tier);
    const parts = [];
    for (let first = 0; first < vocab; first += partSize) {
      const count = Math.min(partSize, vocab - first);
      const padded = new Float64Array(Math.ceil(count / 8) * 8 * dim);
      padded.set(values.subarray(first * dim, (first + count) * dim));
      const rows = padded.length / dim;
      parts.push({ first, count, rows, weight: op.input('table', tier, [rows, dim], padded) });
    }
    if (reversed) parts.reverse(); // a row that a wrong part writes is not always mended by the next
    const capacity = tokens.length + 3;
    const y = op.output('y', 'f32', [capacity, dim]);
    embedding(op.ctx, {
      tokens: op.input('tokens', 'u32', [capacity], [...tokens, 0, 0, 0]),
      table: { dim, vocab, parts },
      y,
    });
    await op.run({ rows: tokens.length });
    const actual = await op.read(y);
    expect(actual.subarray(0, tokens.length * dim)).toEqual(embed(values, tokens, dim));
    expect(actual.subarray(tokens.length * dim).every(Number.isNaN)).toBe(true);
  });
});

describe('embedding, packed', () => {
  it.each(['nf4', 'affine4', 'affine8'] as const)('unpacks rows of every part, %s', async (format) => {
    const op = new OpRun(gpu, 'f32');
    const dim = 96;
    const packed = [16, 8].map((n) => packedMatrix(op, { format, n, k: dim, group: 32, ordered: true }));
    const [first, second] = packed.map(({ matrix }) => matrix);
    const parts = [
      { first: 0, count: 16, rows: 16, weight: first },
      { first: 16, count: 3, rows: 8, weight: second },
    ];
    const values = Float64Array.from(packed.flatMap((part) => [...part.values]));
    const tokens = [0, 15, 16, 18, 7];
    const y = op.output('y', 'f32', [tokens.length + 1, dim]);
    const rows = op.input('tokens', 'u32', [tokens.length + 1], [...tokens, 0]);
    embedding(op.ctx, { tokens: rows, table: { dim, vocab: 19, parts }, y });
    await op.run({ rows: tokens.length });
    const actual = await op.read(y);
    const expected = embed(values, tokens, dim);
    expect(relativeError(actual.subarray(0, expected.length), expected)).toBeLessThan(1e-6);
    expect(actual.subarray(expected.length).every(Number.isNaN)).toBe(true);
  });
});

import { expect, test } from 'vitest';
import { averageRanks, bootstrapGain, bootstrapMean, quantile, spearman } from '../../src/evaluate/statistics.js';
import { createRandom } from '../../src/random.js';

test('ranks share ties', () => {
  expect(averageRanks([10, 20, 20, 5, 20])).toEqual([2, 4, 4, 1, 4]);
});

test('spearman equals the textbook formula without ties and Pearson of ranks with them', () => {
  // 1 − 6 Σd² / n(n² − 1), d = 1, −1, 2, −2, 0
  expect(spearman([1, 2, 3, 4, 5], [2, 1, 5, 2.5, 4.5])).toBeCloseTo(1 - (6 * (1 + 1 + 4 + 1 + 1)) / 120, 12);
  // ranks 1.5, 1.5, 3 against 1, 2, 3: 1.5 / √(1.5 · 2)
  expect(spearman([1, 1, 2], [1, 2, 3])).toBeCloseTo(1.5 / Math.sqrt(3), 12);
  expect(spearman([3, 2, 1], [10, 20, 30])).toBe(-1);
  expect(spearman([1, 1, 1], [1, 2, 3])).toBeNull();
});

test('quantiles are linear between neighbours', () => {
  expect(quantile([0, 10, 20, 30], 0.5)).toBe(15);
  expect(quantile([0, 10], 0.025)).toBeCloseTo(0.25, 12);
  expect(quantile([4], 0.975)).toBe(4);
});

test('the bootstrap interval is that of the normal approximation for a mild sample, and repeatable', () => {
  const random = createRandom(3);
  const values = Array.from({ length: 400 }, () => random.below(1000) / 1000);
  const estimate = bootstrapMean(values, 42);
  const mean = values.reduce((a, b) => a + b) / 400;
  const deviation = Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / 400);
  expect(estimate.n).toBe(400);
  expect(estimate.mean).toBeCloseTo(mean, 12);
  expect(estimate.low).toBeCloseTo(mean - (1.96 * deviation) / 20, 2);
  expect(estimate.high).toBeCloseTo(mean + (1.96 * deviation) / 20, 2);
  expect(bootstrapMean(values, 42)).toEqual(estimate);
  expect(bootstrapMean(values, 43)).not.toEqual(estimate);
});

test('a paired gain is free of what cues have by themselves', () => {
  const before = Array.from({ length: 60 }, (_, i) => (i * 37) % 11);
  const after = before.map((value) => value + 1);
  expect(bootstrapGain(before, after)).toEqual({ mean: 1, low: 1, high: 1, n: 60 });
  expect(() => bootstrapGain([1], [1, 2])).toThrow(RangeError);
});

test('nothing has no mean', () => {
  expect(bootstrapMean([])).toEqual({ mean: Number.NaN, low: Number.NaN, high: Number.NaN, n: 0 });
});

import { describe, expect, it, test } from 'vitest';
import {
  attainableCorrelation,
  averageRanks,
  bootstrapGain,
  bootstrapMean,
  bootstrapSeeds,
  pairedGain,
  quantile,
  seedGain,
  spearman,
  wilcoxonSignedRank,
} from '../../src/evaluate/statistics.js';
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
  // Of 10 ranks 82.5 is the sum of squares; t that tie take (t³ − t) / 12 from it.
  expect(attainableCorrelation([20, 1, 5, 1, 2, 1, 1, 1, 1, 1])).toBeCloseTo(Math.sqrt(54.5 / 82.5), 12);
  expect(attainableCorrelation([3, 1, 1, 1, 1, 1, 1, 1, 1, 1])).toBeCloseTo(Math.sqrt(22.5 / 82.5), 12);
  expect(attainableCorrelation([4, 9, 1])).toBe(1);
  expect(attainableCorrelation([2, 2, 2])).toBeNull();
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
  expect(bootstrapGain(before, after)).toMatchObject({ mean: 1, low: 1, high: 1, n: 60, test: { n: 60, effect: 1 } });
  expect(() => bootstrapGain([1], [1, 2])).toThrow(RangeError);
});

test('a weighted mean is a ratio of sums, in every draw too', () => {
  // (1·2 + 3·4) / (1 + 3); a draw holds one value twice in half of the cases.
  expect(bootstrapMean([2, 4], 42, [1, 3])).toEqual({ mean: 3.5, low: 2, high: 4, n: 2 });
  expect(bootstrapMean([2, 4, 9], 42, [5, 5, 5])).toEqual(bootstrapMean([2, 4, 9], 42));
  expect(pairedGain([2, 4], 42, [1, 3])).toMatchObject({ mean: 3.5, test: wilcoxonSignedRank([2, 4]) });
});

test('nothing has no mean', () => {
  expect(bootstrapMean([])).toEqual({ mean: Number.NaN, low: Number.NaN, high: Number.NaN, n: 0 });
});

test('the signed-rank test equals published figures', () => {
  // Darwin's maize, as in the documentation of SciPy's wilcoxon: statistic 24, p 0.041259765625.
  const maize = [6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75];
  expect(wilcoxonSignedRank(maize)).toEqual({
    ...{ n: 15, zeros: 0, statistic: 24 },
    ...{ p: 0.041259765625, effect: (2 * 96 - 120) / 120 },
  });
  // All five signs alike: 2 of 32.
  expect(wilcoxonSignedRank([1, 2, 3, 4, 5])).toEqual({ n: 5, zeros: 0, statistic: 0, p: 2 / 32, effect: 1 });
  expect(wilcoxonSignedRank([-1, 0, -2, 0]).effect).toBe(-1);
  expect(wilcoxonSignedRank([-1, 0, -2, 0])).toMatchObject({ n: 2, zeros: 2, p: 2 / 4 });
  expect(wilcoxonSignedRank([0, 0])).toEqual({ n: 0, zeros: 2, statistic: 0, p: 1, effect: 0 });
});

test('with ties the test counts out every sign', () => {
  const differences = [1, -1, 2, 2, -2, 3, 5, 5];
  const ranks = averageRanks(differences.map(Math.abs));
  const sums = Array.from({ length: 256 }, (_, signs) =>
    ranks.reduce((sum, rank, i) => sum + ((signs >> i) & 1 ? rank : 0), 0),
  );
  const { statistic, p } = wilcoxonSignedRank(differences);
  // 1.5 of the 1s, 4 of the 2s
  expect(statistic).toBe(1.5 + 4);
  expect(p).toBeCloseTo((2 * sums.filter((sum) => sum <= statistic).length) / 256, 12);
});

test('many differences: the normal approximation joins the exact test', () => {
  const random = createRandom(5);
  const differences = Array.from({ length: 130 }, () => random.below(21) - 8);
  const kept = differences.filter((difference) => difference !== 0);
  expect(kept.length).toBeGreaterThan(101);
  const exact = wilcoxonSignedRank(kept.slice(0, 100));
  const approximate = wilcoxonSignedRank(kept.slice(0, 101));
  expect(Math.abs(Math.log(approximate.p / exact.p))).toBeLessThan(0.3);
  // Symmetric: z = 0, p = 1. All alike, n = 120: z = −√(120 · 121² / 4 · …) by hand below.
  expect(wilcoxonSignedRank([...kept.slice(0, 60), ...kept.slice(0, 60).map((x) => -x)]).p).toBeCloseTo(1, 12);
  // n = 120 of one size: every rank is 60.5, sum 7260 split as 70 to 50, z = (3025 − 3630) / √(120 · 60.5² / 4) = −1.8257.
  const split = Array.from({ length: 120 }, (_, i) => (i < 70 ? 2 : -2));
  expect(wilcoxonSignedRank(split).p).toBeCloseTo(0.067889, 5);
  // Far out, 120 of 120: z = −√120 = −10.954, two-sided p = 6.3e-28.
  expect(wilcoxonSignedRank(split.map(Math.abs)).p / 6.33e-28).toBeCloseTo(1, 1);
});

test('what floats add to a difference is neither a difference nor a rank', () => {
  // 0.19999999999999996, 0.2, −0.20000000000000007 and −5.6e-17: three ties, of rank 2 each, and a zero.
  const differences = [0.6 - 0.4, 0.4 - 0.2, 0.6 - 0.8, 0.6 - 0.2 - 0.4];
  expect(new Set(differences.map(Math.abs)).size).toBe(4);
  expect(wilcoxonSignedRank(differences)).toEqual({ n: 3, zeros: 1, statistic: 2, p: 1, effect: (4 - 2) / 6 });
  expect(wilcoxonSignedRank([0, 0])).toMatchObject({ n: 0, p: 1 });
  expect(wilcoxonSignedRank([1e-300, 2e-300, -3e-300])).toMatchObject({ n: 3, statistic: 3 });
});

test('a gain of one run has a test, a mean over several has none', () => {
  const run = [0.5, 0.25, 0, 0.125];
  expect(pairedGain(run)).toEqual({ ...bootstrapMean(run), test: wilcoxonSignedRank(run) });
  expect(seedGain([run])).toEqual({
    ...bootstrapSeeds([run]),
    test: { n: 3, zeros: 1, statistic: 0, p: 2 / 8, effect: 1 },
  });
  expect(seedGain([run, run])).toEqual({ ...bootstrapSeeds([run, run]), test: null });
});

/** Bounds of the plain bootstrap: 10,000 draws of as many items with replacement. */
function overItems(values: number[], seed: number, weights: number[]) {
  const random = createRandom(seed);
  const means = Array.from({ length: 10_000 }, () => {
    const drawn = values.map(() => random.below(values.length));
    const total = drawn.reduce((sum, i) => sum + weights[i], 0);
    return drawn.reduce((sum, i) => sum + weights[i] * values[i], 0) / total;
  }).sort((x, y) => x - y);
  return { low: quantile(means, 0.025), high: quantile(means, 0.975) };
}

describe('the hierarchical bootstrap', () => {
  const bounds = (runs: (number | null)[][]) => {
    const { mean, low, high } = bootstrapSeeds(runs);
    return [mean, low, high];
  };

  it('draws seeds and items: a worked example', () => {
    // Seed effect 0 or 4, item effect 0 or 2, added. A resample means 0, 2 or 4 over seeds and 0, 1 or 2 over items, with
    // shares 1/4, 1/2, 1/4 each; so it is 0 or 6 in 1/16 of the cases each, which passes 2.5 % on either side.
    const runs = [
      [0, 2],
      [4, 6],
    ];
    expect(bounds(runs)).toEqual([3, 0, 6]);
    expect(bootstrapSeeds(runs)).toMatchObject({ n: 2, seeds: [1, 5] });
    // Of items alone, the four values as one sample: 0 in 1/256 of the cases.
    expect(bootstrapMean(runs.flat()).low).toBeGreaterThan(0);
  });

  it('draws items once for all seeds, which answered the same ones', () => {
    // Four equal runs tell no more than one: 0 in a quarter of the cases. Items drawn in each run by itself: 1/256.
    expect(bounds([...Array(4)].map(() => [0, 1]))).toEqual([0.5, 0, 1]);
    // Two seeds that differ in every item: half of the cases have but one of them, however many items there are.
    expect(bounds([Array(50).fill(0), Array(50).fill(1)])).toEqual([0.5, 0, 1]);
  });

  it('of one seed is the bootstrap over items', () => {
    const values = [0.2, 0.4, 0.1, 0.9, 0.6];
    const { seeds, ...estimate } = bootstrapSeeds([values], 7);
    expect(estimate).toMatchObject(overItems(values, 7, [1, 1, 1, 1, 1]));
    expect(bootstrapMean(values, 7)).toEqual(estimate);
    expect(seeds).toEqual([estimate.mean]);
    expect(bootstrapSeeds([[null, ...values]], 7)).toMatchObject(bootstrapMean(values, 7));
  });

  it('weighs items', () => {
    // (1·0 + 3·4) / 4 and (1·2 + 3·6) / 4; as above, 0 and 6 stand in 1/16 of the cases each.
    const runs = [
      [0, 4],
      [2, 6],
    ];
    expect(bootstrapSeeds(runs, 42, [1, 3])).toEqual({ mean: 4, low: 0, high: 6, n: 2, seeds: [3, 5] });
    expect(bootstrapSeeds([[0, null, 4]], 7, [1, 9, 3]).mean).toBe(3);
    expect(bootstrapMean([2, 4, 9], 7, [1, 2, 3])).toMatchObject({
      mean: 37 / 6,
      ...overItems([2, 4, 9], 7, [1, 2, 3]),
    });
  });

  it('leaves out what has no value, and counts the items of which any run has one', () => {
    const estimate = bootstrapSeeds([
      [1, null, 3],
      [null, null, 5],
      [null, null, null],
    ]);
    expect(estimate).toMatchObject({ mean: 3.5, n: 2, seeds: [2, 5, Number.NaN] });
    expect([estimate.low, estimate.high]).toEqual([1, 5]);
    expect(bootstrapSeeds([[null]])).toMatchObject({ mean: Number.NaN, n: 0 });
  });
});

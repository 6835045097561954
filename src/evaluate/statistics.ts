import { createRandom } from '../random.js';

/** A mean over `n` cues with its 95 % interval. */
export interface Estimate {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
  readonly n: number;
}

/** The arithmetic mean; NaN of nothing. */
export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The same; null of nothing. */
export function meanOrNull(values: readonly number[]): number | null {
  return values.length === 0 ? null : mean(values);
}

/** Σ w·v / Σ w over the values that are there; NaN of none. */
function weightedMean(values: readonly (number | null)[], weights: readonly number[]): number {
  const all = values.reduce((sum: number, value, i) => (value === null ? sum : sum + weights[i]), 0);
  return values.reduce((sum: number, value, i) => (value === null ? sum : sum + weights[i] * value), 0) / all;
}

/** Draws with replacement of a bootstrap. */
const resamples = 10_000;

/**
 * The mean and its percentile bootstrap 95 % interval (Efron and Tibshirani 1993, chapter 13): the 2.5 % and 97.5 %
 * quantiles of the means of 10,000 draws with replacement. Same seed, same interval.
 * @param weights for the mean Σ w·v / Σ w, of which a draw takes each value with its own weight (a ratio of sums); by
 *   default all are 1
 */
export function bootstrapMean(values: readonly number[], seed = 42, weights?: readonly number[]): Estimate {
  const { seeds: _, ...estimate } = bootstrapSeeds([values], seed, weights);
  return estimate;
}

/** A mean of paired differences. */
export interface Gain extends Estimate {
  /** Whether they lie around zero. */
  readonly test: SignedRankTest;
}

/**
 * The mean of paired differences with its interval, whole pairs drawn, so what a cue has by itself cancels; and its test.
 * `weights` are those of `bootstrapMean`; in the test all differences count alike.
 */
export function pairedGain(differences: readonly number[], seed = 42, weights?: readonly number[]): Gain {
  return { ...bootstrapMean(differences, seed, weights), test: wilcoxonSignedRank(differences) };
}

/** The gain `after[i] − before[i]`. */
export function bootstrapGain(
  before: readonly number[],
  after: readonly number[],
  seed = 42,
  weights?: readonly number[],
): Gain {
  if (before.length !== after.length) throw new RangeError('a paired bootstrap needs two series of one length');
  return pairedGain(
    after.map((value, i) => value - before[i]),
    seed,
    weights,
  );
}

/** A mean over `seeds.length` runs of one training and `n` cues. */
export interface SeedEstimate extends Estimate {
  /** Each run's own mean; NaN of a run without any value. */
  readonly seeds: readonly number[];
}

/**
 * The mean over runs of one training, each with a seed of its own, that answered the same items, and its hierarchical
 * bootstrap 95 % interval: each resample draws runs with replacement, then items with replacement, and means over the runs
 * drawn their means over the items drawn (Davison and Hinkley 1997, section 3.8). As all runs answered the same items, these
 * are drawn once for all of them, not anew in each run: what an item has by itself does not average out over runs (Owen
 * 2007, "The pigeonhole bootstrap"). Of one run it is `bootstrapMean`.
 * @param runs a row a run, a column an item; null where a run has no value, which is left out of its mean
 * @param weights of the items, as of `bootstrapMean`
 */
export function bootstrapSeeds(
  runs: readonly (readonly (number | null)[])[],
  seed = 42,
  weights: readonly number[] = (runs[0] ?? []).map(() => 1),
): SeedEstimate {
  const items = (runs[0] ?? []).map((_, i) => i).filter((i) => runs.some((run) => run[i] !== null));
  const seeds = runs.map((run) => weightedMean(run, weights));
  const known = seeds.filter((own) => !Number.isNaN(own));
  const n = items.length;
  if (n === 0) return { mean: Number.NaN, low: Number.NaN, high: Number.NaN, n, seeds };
  const random = createRandom(seed);
  const times = new Uint32Array(runs.length);
  const drawn = new Uint32Array(n);
  const means = new Float64Array(resamples);
  for (let r = 0; r < resamples; ) {
    times.fill(0);
    for (let s = 0; s < runs.length; s++) times[runs.length === 1 ? 0 : random.below(runs.length)]++;
    for (let i = 0; i < n; i++) drawn[i] = items[random.below(n)];
    const own = meanOfRuns(runs, times, drawn, weights);
    if (own !== null) means[r++] = own; // else all that was drawn is without a value: draw again
  }
  means.sort();
  return { mean: mean(known), low: quantile(means, 0.025), high: quantile(means, 0.975), n, seeds };
}

/** A mean over runs of one training of paired differences, on the same items. */
export interface SeedGain extends SeedEstimate {
  /** Whether they lie around zero; null of several runs, whose differences on one item are not independent of each other. */
  readonly test: SignedRankTest | null;
}

/** `bootstrapSeeds` of paired differences, null where a run has none, and their test where there is one run. */
export function seedGain(runs: readonly (readonly (number | null)[])[], seed = 42): SeedGain {
  const [only, ...others] = runs;
  const known = (only ?? []).filter((difference) => difference !== null);
  return { ...bootstrapSeeds(runs, seed), test: others.length === 0 ? wilcoxonSignedRank(known) : null };
}

/** Mean over runs, each counted so many times, of their means over the drawn items; null where these have no value. */
function meanOfRuns(
  runs: readonly (readonly (number | null)[])[],
  times: Uint32Array,
  drawn: Uint32Array,
  weights: readonly number[],
): number | null {
  let total = 0;
  let counted = 0;
  for (const [s, run] of runs.entries()) {
    if (times[s] === 0) continue;
    let sum = 0;
    let weight = 0;
    for (const i of drawn) {
      const value = run[i];
      if (value === null) continue;
      sum += weights[i] * value;
      weight += weights[i];
    }
    if (weight === 0) continue;
    total += (times[s] * sum) / weight;
    counted += times[s];
  }
  return counted === 0 ? null : total / counted;
}

/** The value at share `p` of ascending numbers, linear between neighbours (Hyndman and Fan's type 7). */
export function quantile(ascending: ArrayLike<number>, p: number): number {
  const at = p * (ascending.length - 1);
  const below = Math.floor(at);
  const above = Math.min(below + 1, ascending.length - 1);
  return ascending[below] + (at - below) * (ascending[above] - ascending[below]);
}

/** Ranks from 1, ties sharing the average of theirs. */
export function averageRanks(values: readonly number[]): number[] {
  const order = values.map((_, i) => i).sort((i, j) => values[i] - values[j]);
  const ranks = new Array<number>(values.length);
  for (let start = 0; start < order.length; ) {
    let end = start + 1;
    while (end < order.length && values[order[end]] === values[order[start]]) end++;
    for (let i = start; i < end; i++) ranks[order[i]] = (start + 1 + end) / 2;
    start = end;
  }
  return ranks;
}

/** Spearman's correlation: Pearson's of the average ranks; null where a side does not vary. */
export function spearman(x: readonly number[], y: readonly number[]): number | null {
  if (x.length !== y.length) throw new RangeError('a correlation needs two series of one length');
  const a = averageRanks(x);
  const b = averageRanks(y);
  const middle = (x.length + 1) / 2;
  let ab = 0;
  let aa = 0;
  let bb = 0;
  for (let i = 0; i < a.length; i++) {
    ab += (a[i] - middle) * (b[i] - middle);
    aa += (a[i] - middle) ** 2;
    bb += (b[i] - middle) ** 2;
  }
  return aa === 0 || bb === 0 ? null : ab / Math.sqrt(aa * bb);
}

/** The most that an order without ties can have of Spearman's correlation with `x`: less than 1 where that has ties. */
export function attainableCorrelation(x: readonly number[]): number | null {
  const ascending = x.toSorted((a, b) => a - b);
  return spearman(ascending, [...ascending.keys()]);
}

/** A paired test of whether differences lie around zero. */
export interface SignedRankTest {
  /** Differences that are not zero. */
  readonly n: number;
  /** Those that are, which the test leaves out. */
  readonly zeros: number;
  /** The smaller of the two sums of ranks. */
  readonly statistic: number;
  /** Two-sided. */
  readonly p: number;
  /** (R+ − R−) / (R+ + R−): −1 where all differences are below zero, 1 where all are above (Kerby 2014). */
  readonly effect: number;
}

/**
 * Differences below this share of the largest are zero, and so close ones equal: 0.6 − 0.4 and 0.4 − 0.2 differ in their last
 * bit, which must not break a tie (R's wilcox.test has digits.rank for it).
 */
const equalTo = 1e-9;

/** Differences up to which the distribution of the statistic is counted out. */
const exactUpTo = 100;

/**
 * Wilcoxon's signed-rank test of paired differences, zeros left out, ties sharing the average of their ranks (Wilcoxon
 * 1945). Up to 100 differences p is exact, given the ranks: the share of the 2^n signs with as small a statistic or a
 * smaller one, twice. Above that it is the normal approximation with the correction for ties, without one for
 * continuity (Hollander and Wolfe 1999, section 3.1).
 */
export function wilcoxonSignedRank(differences: readonly number[]): SignedRankTest {
  const unit = equalTo * differences.reduce((most, difference) => Math.max(most, Math.abs(difference)), 0);
  const kept = differences.map((difference) => Math.round(difference / unit)).filter((units) => Math.abs(units) > 0);
  const n = kept.length;
  const zeros = differences.length - n;
  if (n === 0) return { n, zeros, statistic: 0, p: 1, effect: 0 };
  const ranks = averageRanks(kept.map(Math.abs));
  const above = ranks.reduce((sum, rank, i) => sum + (kept[i] > 0 ? rank : 0), 0);
  const all = (n * (n + 1)) / 2;
  const statistic = Math.min(above, all - above);
  const effect = (2 * above - all) / all;
  const p = n <= exactUpTo ? 2 * exactTail(ranks, statistic) : 2 * normalTail(ranks, statistic);
  return { n, zeros, statistic, p: Math.min(1, p), effect };
}

/** The share of all signs whose sum of positive ranks is at most `statistic`. Average ranks are halves. */
function exactTail(ranks: readonly number[], statistic: number): number {
  const total = ranks.reduce((sum, rank) => sum + 2 * rank, 0);
  let share = new Float64Array(total + 1);
  share[0] = 1;
  for (const rank of ranks) {
    const next = new Float64Array(total + 1);
    for (let sum = 0; sum <= total; sum++) next[sum] = (share[sum] + (share[sum - 2 * rank] ?? 0)) / 2;
    share = next;
  }
  return share.subarray(0, 2 * statistic + 1).reduce((sum, value) => sum + value, 0);
}

function normalTail(ranks: readonly number[], statistic: number): number {
  const n = ranks.length;
  const variance = ranks.reduce((sum, rank) => sum + rank * rank, 0) / 4;
  return normalCdf((statistic - (n * (n + 1)) / 4) / Math.sqrt(variance));
}

/** Φ(z) for z ≤ 0, by the continued fraction of the upper tail or its power series (Abramowitz and Stegun 26.2). */
function normalCdf(z: number): number {
  const x = Math.abs(z);
  const density = Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
  if (x > 3) {
    let fraction = x;
    for (let i = 60; i >= 1; i--) fraction = x + i / fraction;
    return density / fraction;
  }
  let term = x;
  let sum = x;
  for (let i = 1; i < 60; i++) {
    term *= (x * x) / (2 * i + 1);
    sum += term;
  }
  return 0.5 - density * sum;
}

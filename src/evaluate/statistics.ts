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

/**
 * The mean and its percentile bootstrap 95 % interval (Efron and Tibshirani 1993, chapter 13): the 2.5 % and 97.5 %
 * quantiles of the means of `resamples` draws with replacement. Same seed, same interval.
 */
export function bootstrapMean(values: readonly number[], seed = 42, resamples = 10_000): Estimate {
  const n = values.length;
  if (n === 0) return { mean: Number.NaN, low: Number.NaN, high: Number.NaN, n };
  const random = createRandom(seed);
  const means = new Float64Array(resamples);
  for (let r = 0; r < resamples; r++) {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += values[random.below(n)];
    means[r] = sum / n;
  }
  means.sort();
  return { mean: mean(values), low: quantile(means, 0.025), high: quantile(means, 0.975), n };
}

/** The mean gain `after[i] − before[i]` and its interval: whole pairs are drawn, so what a cue has by itself cancels. */
export function bootstrapGain(
  before: readonly number[],
  after: readonly number[],
  seed = 42,
  resamples = 10_000,
): Estimate {
  if (before.length !== after.length) throw new RangeError('a paired bootstrap needs two series of one length');
  return bootstrapMean(
    after.map((value, i) => value - before[i]),
    seed,
    resamples,
  );
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

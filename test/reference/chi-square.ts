/**
 * Probability that a chi-square variable of so many degrees of freedom is at least `statistic`: the upper regularised
 * incomplete gamma function Q(degrees / 2, statistic / 2) by the series of the lower one (Abramowitz and Stegun 6.5.29);
 * good to about 1e-12, so not for tails far below that.
 */
export function chiSquareTail(statistic: number, degrees: number): number {
  const a = degrees / 2;
  const x = statistic / 2;
  let term = 1 / a;
  let sum = term;
  for (let n = 1; term > 1e-16 * sum; n++) {
    term *= x / (a + n);
    sum += term;
  }
  return 1 - sum * Math.exp(a * Math.log(x) - x - logGamma(a));
}

/** log Γ of a half or whole number, by Γ(x + 1) = x·Γ(x). */
function logGamma(x: number): number {
  if (x === 1) return 0;
  if (x === 0.5) return Math.log(Math.PI) / 2;
  return Math.log(x - 1) + logGamma(x - 1);
}

/** The tail for counts of draws against probabilities; counts where the probability is 0 make it 0. */
export function fitTail(counts: ArrayLike<number>, probability: ArrayLike<number>): number {
  const draws = Array.from(counts).reduce((a, b) => a + b, 0);
  let statistic = 0;
  let cells = 0;
  for (let i = 0; i < probability.length; i++) {
    const expected = draws * probability[i];
    if (expected === 0) {
      if (counts[i] > 0) return 0;
      continue;
    }
    statistic += (counts[i] - expected) ** 2 / expected;
    cells++;
  }
  return cells > 1 ? chiSquareTail(statistic, cells - 1) : 1;
}

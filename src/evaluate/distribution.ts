/** Distances between two distributions over the same options, given as weights that need not sum to 1. */

/** Weights scaled to sum to 1. Throws RangeError where they don't make a distribution. */
export function normalize(weights: readonly number[]): number[] {
  const sum = weights.reduce((total, weight) => total + weight, 0);
  if (!(sum > 0) || weights.some((weight) => !(weight >= 0))) {
    throw new RangeError('a distribution needs weights of at least 0, one of them above it');
  }
  return weights.map((weight) => weight / sum);
}

function pair(p: readonly number[], q: readonly number[]): [number[], number[]] {
  if (p.length !== q.length) throw new RangeError('two distributions of different lengths have no distance');
  return [normalize(p), normalize(q)];
}

/**
 * Ordinal earth mover's distance over N − 1, from 0 to 1: how far mass has to move along the options in their order,
 * neighbours being 1 apart (Rubner, Tomasi and Guibas 2000; in one dimension the sum of |P − Q| of the cumulated).
 */
export function ordinalEmd(p: readonly number[], q: readonly number[]): number {
  const [a, b] = pair(p, q);
  let carried = 0;
  let moved = 0;
  for (let i = 0; i < a.length - 1; i++) {
    carried += a[i] - b[i];
    moved += Math.abs(carried);
  }
  return moved / (a.length - 1);
}

/**
 * Total variation distance, from 0 to 1: the share that differs. It is the earth mover's distance of options without an order,
 * all 1 apart from each other.
 */
export function totalVariation(p: readonly number[], q: readonly number[]): number {
  const [a, b] = pair(p, q);
  return a.reduce((sum, share, i) => sum + Math.abs(share - b[i]), 0) / 2;
}

/** Kullback and Leibler's divergence of q from p, in nats; infinite where q is 0 and p is not. */
export function klDivergence(p: readonly number[], q: readonly number[]): number {
  const [a, b] = pair(p, q);
  return a.reduce((sum, share, i) => (share > 0 ? sum + share * Math.log(share / b[i]) : sum), 0);
}

/** Jensen-Shannon distance, the root of the divergence in bits (Endres and Schindelin 2003): from 0 to 1. */
export function jensenShannonDistance(p: readonly number[], q: readonly number[]): number {
  const [a, b] = pair(p, q);
  const middle = a.map((share, i) => (share + b[i]) / 2);
  const divergence = (klDivergence(a, middle) + klDivergence(b, middle)) / 2;
  // Rounding can take the divergence of two equal distributions below zero.
  return Math.sqrt(Math.max(0, divergence) / Math.LN2);
}

/** Whether the largest option is the same; of several largest, whether one is shared. */
export function sameMode(p: readonly number[], q: readonly number[]): boolean {
  const [a, b] = pair(p, q);
  const [most, other] = [Math.max(...a), Math.max(...b)];
  return a.some((share, i) => share === most && b[i] === other);
}

/** How far apart two countries are on a question: the mean of Jensen-Shannon distance (base 2) and normalised EMD. */
export function tension(p: readonly number[], q: readonly number[], ordinal = true): number {
  return (jensenShannonDistance(p, q) + (ordinal ? ordinalEmd(p, q) : totalVariation(p, q))) / 2;
}

/**
 * The same by the code of the ALIGN paper, which hands the two lists of probabilities to SciPy's `wasserstein_distance` as
 * if they were samples: they are sorted, and which option has which share is lost. Two countries that answer the exact
 * opposite of each other come out equal in this half.
 */
export function tensionOfSortedShares(p: readonly number[], q: readonly number[]): number {
  const [a, b] = pair(p, q).map((shares) => shares.sort((x, y) => x - y));
  const sorted = a.reduce((sum, share, i) => sum + Math.abs(share - b[i]), 0) / a.length;
  return (jensenShannonDistance(p, q) + sorted) / 2;
}

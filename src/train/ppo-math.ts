// Proximal policy optimisation (Schulman et al. 2017) over sampled sequences, in plain numbers. A value per token comes
// as one array a sequence, response tokens alone; log-probabilities are natural.

/** Numbers of one sequence, a token each. */
export type PerToken = readonly number[] | Float32Array | Float64Array;

/** k1 = r, k3 = e^−r − 1 + r of r = log π − log π_ref (Schulman 2020, "Approximating KL divergence"). */
export type KlEstimator = 'k1' | 'k3';

export function estimateKl(estimator: KlEstimator, logRatio: number): number {
  return estimator === 'k1' ? logRatio : Math.expm1(-logRatio) + logRatio;
}

/** −β·KL(π ‖ π_ref) at each token, estimated from the sampled one, and the sequence's score added at the last. */
export function tokenRewards(
  logprobs: PerToken,
  reference: PerToken,
  score: number,
  klCoef: number,
  estimator: KlEstimator,
): Float64Array {
  const rewards = Float64Array.from(logprobs, (logprob, t) => -klCoef * estimateKl(estimator, logprob - reference[t]));
  rewards[rewards.length - 1] += score;
  return rewards;
}

/**
 * Generalised advantage estimation (Schulman et al. 2016): δ_t = r_t + γV_{t+1} − V_t with V = 0 behind the end,
 * A_t = δ_t + γλA_{t+1}; returns A + V.
 */
export function estimateAdvantages(
  rewards: PerToken,
  values: PerToken,
  gamma: number,
  lam: number,
): { advantages: Float64Array; returns: Float64Array } {
  const advantages = new Float64Array(rewards.length);
  let next = 0;
  for (let t = rewards.length - 1; t >= 0; t--) {
    const nextValue = t + 1 < values.length ? values[t + 1] : 0;
    next = rewards[t] + gamma * nextValue - values[t] + gamma * lam * next;
    advantages[t] = next;
  }
  return { advantages, returns: advantages.map((advantage, t) => advantage + values[t]) };
}

/**
 * (x − mean) / √(variance + 1e-8) over all tokens of all sequences, by the population's variance as OpenRLHF has it;
 * without `shift` the mean is put back.
 */
export function whiten(sequences: readonly PerToken[], options: { shift: boolean } = { shift: true }): Float64Array[] {
  const count = sequences.reduce((n, sequence) => n + sequence.length, 0);
  const sum = (of: (x: number) => number) =>
    sequences.reduce((total, sequence) => (sequence as number[]).reduce((s, x) => s + of(x), total), 0);
  const mean = sum((x) => x) / count;
  const variance = sum((x) => (x - mean) ** 2) / count;
  const factor = 1 / Math.sqrt(variance + 1e-8);
  const back = options.shift ? 0 : mean;
  return sequences.map((sequence) => Float64Array.from(sequence, (x) => (x - mean) * factor + back));
}

/** Means over all tokens, but for `largest`. Gradients are the device's (kernels/policy-gradient.wgsl). */
export interface PolicyLoss {
  /** Of max(−A·ρ, −A·clip(ρ, 1 − ε, 1 + ε)), ρ = π / π_old. */
  readonly loss: number;
  /** Share of tokens where the clipped term is the larger. */
  readonly clipFraction: number;
  /** Estimates of KL(π_old ‖ π) from d = log π − log π_old: d²/2, e^d − 1 − d (Schulman 2020). */
  readonly approxKl: { readonly k2: number; readonly k3: number };
  /** Of ρ. */
  readonly ratio: number;
  /** Largest |log ρ|. */
  readonly largest: number;
}

/** The clipped policy loss. */
export function policyLoss(
  logprobs: readonly PerToken[],
  old: readonly PerToken[],
  advantages: readonly PerToken[],
  cliprange: number,
): PolicyLoss {
  let [tokens, loss, clipped, ratioSum, largest, k2, k3] = [0, 0, 0, 0, 0, 0, 0];
  for (const [i, sequence] of logprobs.entries()) {
    tokens += sequence.length;
    for (const [t, logprob] of sequence.entries()) {
      const d = logprob - old[i][t];
      const ratio = Math.exp(d);
      const plain = -advantages[i][t] * ratio;
      const bounded = -advantages[i][t] * Math.min(Math.max(ratio, 1 - cliprange), 1 + cliprange);
      loss += Math.max(plain, bounded);
      if (bounded > plain) clipped++;
      ratioSum += ratio;
      largest = Math.max(largest, Math.abs(d));
      k2 += d ** 2 / 2;
      k3 += Math.expm1(d) - d;
    }
  }
  const approxKl = { k2: k2 / tokens, k3: k3 / tokens };
  return { loss: loss / tokens, clipFraction: clipped / tokens, approxKl, ratio: ratioSum / tokens, largest };
}

/** Means over all tokens. Gradients are the device's (kernels/value-head.wgsl). */
export interface ValueLoss {
  /** Of ½·max((V − R)², (V_old + clip(V − V_old, ±ε) − R)²). */
  readonly loss: number;
  /** Share of tokens where the clipped term is the larger. */
  readonly clipFraction: number;
}

/** The clipped value loss. */
export function valueLoss(
  values: readonly PerToken[],
  old: readonly PerToken[],
  returns: readonly PerToken[],
  cliprange: number,
): ValueLoss {
  let [tokens, loss, clipped] = [0, 0, 0];
  for (const [i, sequence] of values.entries()) {
    tokens += sequence.length;
    for (const [t, value] of sequence.entries()) {
      const change = value - old[i][t];
      const plain = value - returns[i][t];
      const bounded = old[i][t] + Math.min(Math.max(change, -cliprange), cliprange) - returns[i][t];
      // Within the range the two are equal, but for rounding.
      const isClipped = Math.abs(change) > cliprange && bounded ** 2 > plain ** 2;
      loss += (isClipped ? bounded : plain) ** 2 / 2;
      if (isClipped) clipped++;
    }
  }
  return { loss: loss / tokens, clipFraction: clipped / tokens };
}

/** β after `episodes` sequences whose mean KL was `kl` (Ziegler et al. 2019, section 2.2): drawn to a target. */
export function adaptKlCoef(
  klCoef: number,
  kl: number,
  options: { target: number; horizon: number; episodes: number },
): number {
  const error = Math.min(Math.max(kl / options.target - 1, -0.2), 0.2);
  return klCoef * (1 + (error * options.episodes) / options.horizon);
}

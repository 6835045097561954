/** What was sampled at each edge (row): start[i] .. start[i + 1] of [old, advantage] or [old value, return]. */
export interface Samples {
  readonly start: ArrayLike<number>;
  readonly numbers: readonly (readonly [number, number])[];
}

/** Weight of each edge in the policy gradient: −d/d(log p) of Σ max(−A·ρ, −A·clip(ρ, 1 ± ε)) over its samples. */
export function policyWeights(logprobs: ArrayLike<number>, { start, numbers }: Samples, epsilon: number): Float64Array {
  return Float64Array.from(logprobs, (logprob, edge) => {
    let weight = 0;
    for (const [old, advantage] of numbers.slice(start[edge], start[edge + 1])) {
      const ratio = Math.exp(logprob - old);
      const clipped = advantage > 0 ? ratio > 1 + epsilon : ratio < 1 - epsilon;
      if (!clipped) weight += advantage * ratio;
    }
    return weight;
  });
}

/** hidden·w + b. hidden [rows, dim], parameters (w, b) [dim + 1] → [rows] */
export function valueHead(hidden: Float64Array, parameters: Float64Array): Float64Array {
  const dim = parameters.length - 1;
  return Float64Array.from({ length: hidden.length / dim }, (_, row) => {
    let sum = parameters[dim];
    for (let i = 0; i < dim; i++) sum += hidden[row * dim + i] * parameters[i];
    return sum;
  });
}

/** Clipped value loss summed over all samples: ½·max((V − R)², (V_old + clip(V − V_old, ±ε) − R)²). */
export function valueLoss(values: ArrayLike<number>, { start, numbers }: Samples, epsilon: number): number {
  let loss = 0;
  for (let row = 0; row < values.length; row++) {
    for (const [old, target] of numbers.slice(start[row], start[row + 1])) {
      const bounded = old + Math.min(Math.max(values[row] - old, -epsilon), epsilon);
      loss += Math.max((values[row] - target) ** 2, (bounded - target) ** 2) / 2;
    }
  }
  return loss;
}

/** Gradients of valueLoss() of valueHead(), times `scale`. */
export function valueHeadBackward(
  hidden: Float64Array,
  parameters: Float64Array,
  { start, numbers }: Samples,
  epsilon: number,
  scale: number,
): { dHidden: Float64Array; dParameters: Float64Array } {
  const dim = parameters.length - 1;
  const dHidden = new Float64Array(hidden.length);
  const dParameters = new Float64Array(dim + 1);
  valueHead(hidden, parameters).forEach((value, row) => {
    let d = 0;
    for (const [old, target] of numbers.slice(start[row], start[row + 1])) {
      const within = Math.abs(value - old) <= epsilon;
      const bounded = old + Math.sign(value - old) * epsilon;
      if (within || (bounded - target) ** 2 <= (value - target) ** 2) d += scale * (value - target);
    }
    for (let i = 0; i < dim; i++) {
      dHidden[row * dim + i] = d * parameters[i];
      dParameters[i] += d * hidden[row * dim + i];
    }
    dParameters[dim] += d;
  });
  return { dHidden, dParameters };
}

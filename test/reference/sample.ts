import type { SamplingOptions } from '../../src/ops/sample.js';

/** What may be drawn, and with which probability; `lse` and `entropy` are those of the whole softmax. */
export interface Distribution {
  /** [vocab] 0 where top-k or top-p leaves a token out. */
  readonly probability: Float64Array;
  /** [vocab] log of the whole softmax. */
  readonly logprob: Float64Array;
  readonly entropy: number;
}

/** softmax(logits / temperature), top-k, then top-p of what that left; of equal logits the lower id comes first. */
export function distribution(
  logits: ArrayLike<number>,
  { temperature, topK, topP }: Pick<SamplingOptions, 'temperature' | 'topK' | 'topP'>,
): Distribution {
  const scaled = Float64Array.from(logits, (x) => x / (temperature || 1));
  const top = scaled.reduce((a, b) => Math.max(a, b));
  const lse = top + Math.log(scaled.reduce((sum, x) => sum + Math.exp(x - top), 0));
  const logprob = scaled.map((x) => x - lse);
  const order = Array.from(scaled.keys()).sort((a, b) => scaled[b] - scaled[a] || a - b);
  let kept = order.slice(0, temperature === 0 ? 1 : topK || order.length);
  const mass = (ids: readonly number[]) => ids.reduce((sum, id) => sum + Math.exp(logprob[id]), 0);
  if (topP < 1) {
    const wanted = topP * mass(kept);
    let held = 0;
    const end = kept.findIndex((id) => {
      held += Math.exp(logprob[id]);
      return held >= wanted;
    });
    kept = kept.slice(0, end + 1);
  }
  const all = mass(kept);
  const probability = new Float64Array(scaled.length);
  for (const id of kept) probability[id] = Math.exp(logprob[id]) / all;
  return { probability, logprob, entropy: -logprob.reduce((sum, x) => sum + Math.exp(x) * x, 0) };
}

/** As PCG4D of Jarzynski and Olano 2020. */
function pcg4d(counter: readonly [number, number, number, number]): number[] {
  const v = counter.map((x) => (Math.imul(x, 1664525) + 1013904223) | 0);
  const mix = () => {
    v[0] += Math.imul(v[1], v[3]);
    v[1] += Math.imul(v[2], v[0]);
    v[2] += Math.imul(v[0], v[1]);
    v[3] += Math.imul(v[1], v[2]);
  };
  mix();
  for (let i = 0; i < 4; i++) v[i] ^= v[i] >>> 16;
  mix();
  return v.map((x) => x >>> 0);
}

/**
 * The draw by Gumbel-max: the greatest logit / temperature − log e, e = −log(1 − v), v from the hash of seed, length and
 * token. Gives the token and by how much it leads.
 */
export function draw(
  logits: ArrayLike<number>,
  options: SamplingOptions,
  seed: number,
  length: number,
): { id: number; lead: number } {
  const { probability, logprob } = distribution(logits, options);
  const scores = Array.from(probability, (p, id) => {
    if (p === 0) return Number.NEGATIVE_INFINITY;
    if (options.temperature === 0) return logprob[id];
    const hash = pcg4d([seed % 2 ** 32, Math.floor(seed / 2 ** 32), length, id >> 2])[id & 3];
    const v = Math.min((hash + 0.5) / 2 ** 32, 0.99999994);
    return logprob[id] - Math.log(-Math.log1p(-v));
  });
  const id = scores.reduce((best, score, i) => (score > scores[best] ? i : best), 0);
  const next = scores.reduce((most, score, i) => (i === id ? most : Math.max(most, score)), Number.NEGATIVE_INFINITY);
  return { id, lead: scores[id] - next };
}

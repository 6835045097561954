import { createRandom, type Random, splitmix64 } from '../random.js';

export interface SamplingOptions {
  /** 0: greedy. */
  readonly temperature: number;
  /** Keep the most likely tokens whose probabilities add up to this; 1: all. */
  readonly topP: number;
  /** Keep this many of the most likely tokens; 0: all. */
  readonly topK: number;
  /** Subtracted from the logit of every token already generated. */
  readonly presencePenalty: number;
  /** Tokens that the penalty spares, such as separators of a list. */
  readonly unpenalised: ReadonlySet<number>;
}

export const greedySampling: SamplingOptions = {
  temperature: 0,
  topP: 1,
  topK: 0,
  presencePenalty: 0,
  unpenalised: new Set(),
};

/** The seed of the sequence of this index in a run of this seed (below 2^32). */
export function sequenceSeed(seed: number, index: number): number {
  return Number(splitmix64((BigInt(seed) << 32n) | BigInt(index), 1)[0] >> 11n);
}

export interface Sampled {
  readonly id: number;
  readonly logprob: number;
}

/** Picks tokens for one sequence; its random numbers depend on the seed alone. */
export class Sampler {
  readonly #options: SamplingOptions;
  readonly #random: Random;
  readonly #given = new Set<number>();

  constructor(options: SamplingOptions, seed: number) {
    this.#options = options;
    this.#random = createRandom(seed);
  }

  /** The next token for these logits [vocab], which are changed on the way. Of equal logits the lowest id wins. */
  pick(logits: Float32Array): Sampled {
    const { temperature, topP, topK, presencePenalty, unpenalised } = this.#options;
    if (presencePenalty !== 0) {
      for (const id of this.#given) if (!unpenalised.has(id)) logits[id] -= presencePenalty;
    }
    const id = temperature === 0 ? argmax(logits) : draw(logits, temperature, topK, topP, this.#random);
    this.#given.add(id);
    return { id, logprob: logprobOf(logits, temperature || 1, id) };
  }
}

/** log softmax(logits / temperature)[id] */
function logprobOf(logits: Float32Array, temperature: number, id: number): number {
  const top = logits[argmax(logits)];
  const sum = logits.reduce((total, x) => total + Math.exp((x - top) / temperature), 0);
  return (logits[id] - top) / temperature - Math.log(sum);
}

function argmax(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[best]) best = i;
  return best;
}

function draw(logits: Float32Array, temperature: number, topK: number, topP: number, random: Random): number {
  const top = logits[argmax(logits)];
  const weights = Float64Array.from(logits, (x) => Math.exp((x - top) / temperature));
  const uniform = random.uint32() / 2 ** 32;
  if (topK === 0 && topP >= 1) {
    let target = uniform * weights.reduce((a, b) => a + b, 0);
    for (let i = 0; i < weights.length; i++) {
      target -= weights[i];
      if (target < 0) return i;
    }
    return argmax(logits);
  }
  const order = Array.from(weights.keys()).sort((a, b) => weights[b] - weights[a] || a - b);
  let kept = topK > 0 ? Math.min(topK, order.length) : order.length;
  if (topP < 1) {
    const total = order.slice(0, kept).reduce((sum, id) => sum + weights[id], 0);
    let sum = 0;
    for (let i = 0; i < kept; i++) {
      sum += weights[order[i]];
      if (sum >= topP * total) {
        kept = i + 1;
        break;
      }
    }
  }
  let target = uniform * order.slice(0, kept).reduce((sum, id) => sum + weights[id], 0);
  for (let i = 0; i < kept; i++) {
    target -= weights[order[i]];
    if (target < 0) return order[i];
  }
  return order[0];
}

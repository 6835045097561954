import type { SampledResult } from '../model/loss-program.js';
import { createRandom, sequenceSeed, shuffle } from '../random.js';
import type { Learner, SampledBatch } from './learner.js';
import type { PpoOptions } from './ppo.js';
import {
  cutEvenly,
  edgePlaces,
  heaviestPlace,
  listSamples,
  packSequences,
  rowPlaces,
  type Sequence,
  type SequenceTrie,
  scatter,
} from './ppo-batch.js';
import { type PerToken, policyLoss, valueLoss } from './ppo-math.js';

/** A rollout with all that its updates need, by sequence and token. */
export interface Experience {
  readonly sequences: readonly Sequence[];
  /** log π at sampling. */
  readonly logprobs: readonly PerToken[];
  /** The critic's before the updates. */
  readonly values: readonly PerToken[];
  readonly advantages: readonly PerToken[];
  readonly returns: readonly PerToken[];
}

/** Means over the tokens of all mini-batches, each before its update; 0 of what there was none of. */
export interface UpdateMetrics {
  /** ½·(log π − log π_old)² */
  readonly 'policy/approxkl_avg': number;
  readonly 'policy/clipfrac_avg': number;
  /** Of the whole softmax, a token. */
  readonly 'policy/entropy_avg': number;
  readonly 'loss/policy_avg': number;
  readonly 'loss/value_avg': number;
  readonly 'val/clipfrac_avg': number;
  /** π / π_old */
  readonly 'val/ratio': number;
  /** Variance of the mini-batches' means. */
  readonly 'val/ratio_var': number;
  /** Of the first mini-batch, whose policy is the one that sampled: 1 but for rounding. */
  readonly 'val/ratio_first': number;
  /** Largest |log π − log π_old| of a token of the first mini-batch: rounding alone, which cancels out in a mean. */
  readonly 'val/logprob_diff_max_first': number;
  /** Before clipping, mean over the updates made. */
  readonly policy_grad_norm: number;
  readonly critic_grad_norm: number;
  /** Of the policy, made. */
  readonly updates: number;
  /** Of policy or critic, left out for want of a finite gradient. */
  readonly skipped_updates: number;
}

/** A micro-batch that knows where its tokens stand. */
interface Placed extends SampledBatch {
  readonly part: SequenceTrie;
  readonly places: readonly Int32Array[];
}

/** Minibatch epochs of the clipped losses over a rollout. */
export class PpoUpdater {
  readonly #policy: Learner;
  readonly #critic: Learner;
  readonly #options: PpoOptions;

  constructor({ policy, critic }: { policy: Learner; critic: Learner }, options: PpoOptions) {
    this.#policy = policy;
    this.#critic = critic;
    this.#options = options;
  }

  /** Ends early where the policy has moved `maxUpdateKl` away. */
  async update(
    experience: Experience,
    { step, rates }: { step: number; rates: { policy: number; critic: number } },
  ): Promise<UpdateMetrics> {
    const { numPpoEpochs, numMiniBatches, seed } = this.#options;
    const sums = new Sums();
    for (let epoch = 0; epoch < numPpoEpochs; epoch++) {
      const random = createRandom(sequenceSeed(seed, 2 ** 31 + step * numPpoEpochs + epoch));
      const order = shuffle([...experience.sequences.keys()], random);
      for (const members of cutEvenly(order, numMiniBatches)) {
        const policy = await this.#updatePolicy(experience, members, rates.policy, sums);
        if (policy.refused) return sums.metrics();
        await this.#updateCritic(experience, members, rates.critic, sums);
      }
    }
    return sums.metrics();
  }

  async #updatePolicy(experience: Experience, members: readonly number[], rate: number, sums: Sums) {
    const { sequences, logprobs: old, advantages } = experience;
    const { microBatchTokens, cliprange, maxUpdateKl } = this.#options;
    const tokens = countTokens(sequences, members);
    const batches: Placed[] = [];
    for (const part of packSequences(sequences, members, microBatchTokens)) {
      const { batch, program } = await this.#policy.prepare(part.trie, tokens);
      const places = edgePlaces(part, sequences);
      const [olds, targets] = [pick(old, part.members), pick(advantages, part.members)];
      const samples = listSamples(places, batch.edgeTarget.length, olds, targets);
      const rows = listSamples(rowPlaces(part, sequences, batch), batch.logitRows.length, olds, targets);
      const heaviest = heaviestPlace(rows, (_, advantage) => Math.abs(advantage));
      batches.push({ part, places, batch, program, samples, heaviest });
    }
    const look = (results: readonly SampledResult[]) => {
      const fresh = collect(batches, sequences.length, results);
      const loss = policyLoss(pick(fresh, members), pick(old, members), pick(advantages, members), cliprange);
      sums.addPolicy(tokens, loss, meanEntropy(batches, sequences, results));
      return maxUpdateKl === 0 || !(loss.approxKl.k3 > maxUpdateKl); // what is not a number is skipped, not too far
    };
    const update = await this.#policy.update(batches, rate, tokens, look);
    if (!update.refused) sums.addUpdate('policy', update);
    return update;
  }

  async #updateCritic(experience: Experience, members: readonly number[], rate: number, sums: Sums) {
    const { sequences, values: old, returns } = experience;
    const { microBatchTokens, cliprangeValue: cliprange, vfCoef } = this.#options;
    const tokens = countTokens(sequences, members);
    const batches: Placed[] = [];
    for (const part of packSequences(sequences, members, microBatchTokens)) {
      const { batch, program } = await this.#critic.prepare(part.trie, tokens);
      const places = rowPlaces(part, sequences, batch);
      const [olds, targets] = [pick(old, part.members), pick(returns, part.members)];
      const samples = listSamples(places, batch.logitRows.length, olds, targets);
      const heaviest = heaviestPlace(samples, (value, target) => Math.abs(value - target));
      batches.push({ part, places, batch, program, samples, heaviest });
    }
    const look = (results: readonly SampledResult[]) => {
      const fresh = collect(batches, sequences.length, results);
      sums.addValue(tokens, valueLoss(pick(fresh, members), pick(old, members), pick(returns, members), cliprange));
      return true;
    };
    sums.addUpdate('critic', await this.#critic.update(batches, rate, tokens / vfCoef, look));
  }
}

/** Sums of what the mini-batches of one rollout gave. */
class Sums {
  readonly #policy = {
    tokens: 0,
    loss: 0,
    kl: 0,
    clipped: 0,
    entropy: 0,
    ratios: [] as number[],
    largest: [] as number[],
  };
  readonly #value = { tokens: 0, loss: 0, clipped: 0 };
  /** Of the updates made. */
  readonly #norms = { policy: [] as number[], critic: [] as number[] };
  #skipped = 0;

  addPolicy(
    tokens: number,
    { loss, approxKl, clipFraction, ratio, largest }: ReturnType<typeof policyLoss>,
    entropy: number,
  ) {
    const sums = this.#policy;
    sums.tokens += tokens;
    sums.loss += tokens * loss;
    sums.kl += tokens * approxKl.k2;
    sums.clipped += tokens * clipFraction;
    sums.entropy += tokens * entropy;
    sums.ratios.push(ratio);
    sums.largest.push(largest);
  }

  addValue(tokens: number, { loss, clipFraction }: ReturnType<typeof valueLoss>) {
    this.#value.tokens += tokens;
    this.#value.loss += tokens * loss;
    this.#value.clipped += tokens * clipFraction;
  }

  addUpdate(of: 'policy' | 'critic', { norm, finite }: { norm: number; finite: boolean }) {
    if (finite) this.#norms[of].push(norm);
    else this.#skipped++;
  }

  metrics(): UpdateMetrics {
    const { tokens, loss, kl, clipped, entropy, ratios, largest } = this.#policy;
    const value = this.#value;
    const ratio = average(ratios);
    return {
      'policy/approxkl_avg': kl / tokens,
      'policy/clipfrac_avg': clipped / tokens,
      'policy/entropy_avg': entropy / tokens,
      'loss/policy_avg': loss / tokens,
      'loss/value_avg': value.loss / Math.max(1, value.tokens),
      'val/clipfrac_avg': value.clipped / Math.max(1, value.tokens),
      'val/ratio': ratio,
      'val/ratio_var': average(ratios.map((one) => (one - ratio) ** 2)),
      'val/ratio_first': ratios[0],
      'val/logprob_diff_max_first': largest[0],
      policy_grad_norm: average(this.#norms.policy),
      critic_grad_norm: average(this.#norms.critic),
      updates: this.#norms.policy.length,
      skipped_updates: this.#skipped,
    };
  }
}

function average(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / Math.max(1, values.length);
}

function countTokens(sequences: readonly Sequence[], members: readonly number[]): number {
  return members.reduce((n, index) => n + sequences[index].response.length, 0);
}

function pick<T>(all: readonly T[], members: readonly number[]): T[] {
  return members.map((index) => all[index]);
}

function collect(batches: readonly Placed[], count: number, results: readonly SampledResult[]): Float64Array[] {
  const fresh: Float64Array[] = new Array(count);
  batches.forEach(({ part, places }, i) => {
    scatter(fresh, part, places, results[i].result);
  });
  return fresh;
}

/** Mean entropy over the tokens of all members. */
function meanEntropy(
  batches: readonly Placed[],
  sequences: readonly Sequence[],
  results: readonly SampledResult[],
): number {
  let [sum, count] = [0, 0];
  batches.forEach(({ part, batch }, i) => {
    for (const member of rowPlaces(part, sequences, batch)) {
      for (const row of member) sum += results[i].entropy![row];
      count += member.length;
    }
  });
  return sum / count;
}

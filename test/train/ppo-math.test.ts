import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  adaptKlCoef,
  estimateAdvantages,
  estimateKl,
  type KlEstimator,
  policyLoss,
  tokenRewards,
  valueLoss,
  whiten,
} from '../../src/train/ppo-math.js';
import { policyWeights, type Samples, valueHeadBackward } from '../reference/ppo.js';

type Table = number[][];
interface GoldenCase {
  readonly input: {
    readonly [name in 'logprobs_old' | 'logprobs_ref' | 'logprobs_new' | 'values_old' | 'values_new' | 'mask']: Table;
  } & {
    readonly scores: number[];
    readonly kl_coef: number;
    readonly gamma: number;
    readonly lam: number;
    readonly cliprange: number;
    readonly cliprange_value: number | null;
    readonly vf_coef: number;
    readonly whiten: boolean;
    readonly style: 'openrlhf' | 'trl';
    readonly reduction: 'token' | 'sequence';
    readonly kl_estimator: KlEstimator;
  };
  readonly expected: {
    readonly [name in
      | 'rewards'
      | 'kl'
      | 'advantages'
      | 'advantages_used'
      | 'returns'
      | 'grad_logprobs_new'
      | 'grad_values_new']: Table;
  } & Readonly<Record<string, number>>;
}
const golden: GoldenCase[] = JSON.parse(readFileSync(new URL('../fixtures/ppo.json', import.meta.url), 'utf8'));

/** Each token as a row of its own, as the reference of the kernels has samples. */
function samplesOf(olds: Table, targets: ArrayLike<number>[]): Samples {
  const numbers = olds.flatMap((row, i) => row.map((old, t) => [old, targets[i][t]] as const));
  return { start: [...numbers.keys(), numbers.length], numbers };
}

function near(actual: readonly ArrayLike<number>[], expected: Table, masks: Table): void {
  actual.forEach((sequence, i) => {
    const live = expected[i].slice(0, masks[i].filter(Boolean).length);
    expect(sequence.length).toBe(live.length);
    for (let t = 0; t < live.length; t++) expect(Math.abs(sequence[t] - live[t])).toBeLessThan(1e-6);
  });
}

describe.each(golden.map((one, i) => [i, one] as const))('golden case %d', (_, { input, expected }) => {
  const lengths = input.mask.map((mask) => mask.filter(Boolean).length);
  const live = (table: Table) => table.map((row, i) => row.slice(0, lengths[i]));
  const [old, ref, fresh] = [live(input.logprobs_old), live(input.logprobs_ref), live(input.logprobs_new)];
  const [oldValues, values] = [live(input.values_old), live(input.values_new)];
  const { mask, reduction, cliprange, cliprange_value: valueRange, kl_estimator: estimator } = input;
  const rewards = old.map((row, i) => tokenRewards(row, ref[i], input.scores[i], input.kl_coef, estimator));
  const estimates = rewards.map((row, i) => estimateAdvantages(row, oldValues[i], input.gamma, input.lam));
  const advantages = estimates.map((one) => one.advantages);
  const returns = estimates.map((one) => one.returns);
  const tokens = old.flat().length;
  // TRL whitens by the unbiased variance.
  const factor = Math.sqrt(input.style === 'trl' ? 1 - 1 / tokens : 1);
  const used = input.whiten ? whiten(advantages).map((row) => row.map((x) => x * factor)) : advantages;

  it('rewards and KL', () => {
    near(rewards, expected.rewards, mask);
    const kl = old.map((row, i) => row.map((logprob, t) => estimateKl(estimator, logprob - ref[i][t])));
    near(kl, expected.kl, mask);
    const mean = kl.flat().reduce((a, b) => a + b, 0) / kl.flat().length;
    expect(mean).toBeCloseTo(expected.kl_to_reference, 6);
  });

  it('advantages and returns', () => {
    near(advantages, expected.advantages, mask);
    near(used, expected.advantages_used, mask);
    near(returns, expected.returns, mask);
  });

  if (reduction === 'sequence' || valueRange === null) return; // losses that are not ours

  it('losses, KL estimates and clip fraction', () => {
    const policy = policyLoss(fresh, old, used, cliprange);
    const value = valueLoss(values, oldValues, returns, valueRange);
    const close = (actual: number, wanted: number) => expect(Math.abs(actual - wanted)).toBeLessThan(1e-6);
    close(policy.loss, expected.policy_loss);
    close(value.loss, expected.value_loss);
    close(policy.loss + input.vf_coef * value.loss, expected.total_loss);
    close(policy.approxKl.k2, expected.approx_kl_k2);
    close(policy.approxKl.k3, expected.approx_kl_k3);
    close(policy.clipFraction, expected.clip_fraction);
    const ratios = fresh.flatMap((row, i) => row.map((logprob, t) => Math.abs(logprob - old[i][t])));
    expect(policy.largest).toBe(Math.max(...ratios));
  });

  it('gradients, of the reference that kernels are held to', () => {
    const flatNear = (actual: Float64Array, wanted: Table) =>
      near([actual], [live(wanted).flat()], [mask.flat().filter(Boolean)]);
    const weights = policyWeights(fresh.flat(), samplesOf(old, used), cliprange);
    flatNear(
      weights.map((weight) => -weight / tokens),
      expected.grad_logprobs_new,
    );
    // A head of value = 1 · hidden + 0.
    const flat = Float64Array.from(values.flat());
    const samples = samplesOf(oldValues, returns);
    const back = valueHeadBackward(flat, Float64Array.of(1, 0), samples, valueRange, input.vf_coef / tokens);
    flatNear(back.dHidden, expected.grad_values_new);
  });
});

describe('whitening', () => {
  it('can keep the mean', () => {
    const [row] = whiten([[1, 2, 3]], { shift: false });
    expect(row.reduce((a, b) => a + b) / 3).toBeCloseTo(2, 6);
    expect(row[2] - row[0]).toBeCloseTo(2 / Math.sqrt(2 / 3), 6);
  });
});

describe('the adaptive KL coefficient', () => {
  it('rises above the target, falls below it, by a bounded share', () => {
    const options = { target: 6, horizon: 1000, episodes: 100 };
    expect(adaptKlCoef(0.1, 6, options)).toBe(0.1);
    expect(adaptKlCoef(0.1, 6.6, options)).toBeCloseTo(0.1 * 1.01, 12);
    expect(adaptKlCoef(0.1, 60, options)).toBeCloseTo(0.1 * 1.02, 12);
    expect(adaptKlCoef(0.1, -5, options)).toBeCloseTo(0.1 * 0.98, 12);
  });
});

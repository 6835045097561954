import { describe, expect, it } from 'vitest';
import { greedySampling, Sampler, type SamplingOptions, sequenceSeed } from '../../src/model/sampling.js';

const logits = [2, 1.5, 1, 0.5, 0, -0.5, -1, 2];
const draws = 20_000;

/** How often each token is drawn first, over as many sequences. */
function count(options: Partial<SamplingOptions>): number[] {
  const counts = logits.map(() => 0);
  for (let i = 0; i < draws; i++) {
    const sampler = new Sampler({ ...greedySampling, temperature: 1, ...options }, i);
    counts[sampler.pick(Float32Array.from(logits)).id]++;
  }
  return counts;
}

/** softmax(logits / temperature) over the kept tokens. */
function distribution(temperature: number, kept: readonly number[]): number[] {
  const weights = logits.map((x, id) => (kept.includes(id) ? Math.exp(x / temperature) : 0));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / total);
}

/** Pearson's statistic; 0.999 quantiles of chi-square with 1 to 7 degrees of freedom. */
const critical = [10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32];

function expectDistribution(counts: readonly number[], expected: readonly number[]): void {
  let statistic = 0;
  expected.forEach((p, id) => {
    if (p === 0) expect(counts[id], `token ${id}`).toBe(0);
    else statistic += (counts[id] - draws * p) ** 2 / (draws * p);
  });
  const degrees = expected.filter((p) => p > 0).length - 1;
  expect(statistic).toBeLessThan(critical[degrees - 1]);
}

const all = logits.map((_, id) => id);

describe('Sampler', () => {
  it.each([0.5, 1, 2])('draws from the softmax at temperature %s', (temperature) => {
    expectDistribution(count({ temperature }), distribution(temperature, all));
  });

  it('keeps the k most likely, of equal ones the lowest ids', () => {
    expectDistribution(count({ topK: 4 }), distribution(1, [0, 7, 1, 2]));
    expect(count({ topK: 1 })[0]).toBe(draws);
    expectDistribution(count({ topK: 100 }), distribution(1, all));
  });

  it('keeps the fewest tokens that reach top-p, after top-k', () => {
    const p = distribution(1, all);
    const three = p[0] + p[7] + p[1];
    expectDistribution(count({ topP: three - 1e-6 }), distribution(1, [0, 7, 1]));
    expectDistribution(count({ topP: three + 1e-6 }), distribution(1, [0, 7, 1, 2]));
    // Among the first four, 0 and 7 alone hold 64 %.
    expectDistribution(count({ topK: 4, topP: 0.6 }), distribution(1, [0, 7]));
    expect(count({ topP: 1e-9 })[0]).toBe(draws);
  });

  it('gives the same tokens for the same seed and sequence, others for others', () => {
    const text = (seed: number, index: number) => {
      const sampler = new Sampler({ ...greedySampling, temperature: 1 }, sequenceSeed(seed, index));
      return Array.from({ length: 40 }, () => sampler.pick(Float32Array.from(logits)).id).join();
    };
    expect(text(1, 0)).toBe(text(1, 0));
    expect(new Set([text(1, 0), text(1, 1), text(2, 0), text(2, 1)]).size).toBe(4);
  });

  it('is greedy at temperature 0, the lowest id first', () => {
    const sampler = new Sampler(greedySampling, 0);
    expect(sampler.pick(Float32Array.from(logits)).id).toBe(0);
    expect(sampler.pick(Float32Array.of(-3, -1, -1)).id).toBe(1);
  });

  it('subtracts the penalty once from tokens already given, but for the spared', () => {
    const options = { ...greedySampling, presencePenalty: 0.75, unpenalised: new Set([1]) };
    const sampler = new Sampler(options, 0);
    const picks = Array.from({ length: 5 }, () => sampler.pick(Float32Array.from(logits)).id);
    // 0 and 7 fall to 1.25; then 1 at 1.5 is best and, being spared, stays so.
    expect(picks).toEqual([0, 7, 1, 1, 1]);
    const penalised = new Sampler({ ...options, unpenalised: new Set() }, 0);
    expect(Array.from({ length: 5 }, () => penalised.pick(Float32Array.from(logits)).id)).toEqual([0, 7, 1, 0, 0]);
  });
});

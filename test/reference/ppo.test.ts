import { describe, expect, it } from 'vitest';
import { policyWeights, valueHead, valueHeadBackward, valueLoss } from './ppo.js';
import { numericGradient, randomNormal, relativeError } from './random.js';

const start = [0, 2, 3, 3, 6];
const numbers = [...randomNormal(6, 1)].map((old, i) => [old, 2 * randomNormal(6, 2)[i]] as const);

describe('references of PPO', () => {
  it('policy weights are the negative gradient of the clipped loss', () => {
    const logprobs = randomNormal(4, 3, 0.3);
    const loss = () => {
      let sum = 0;
      logprobs.forEach((logprob, edge) => {
        for (const [old, advantage] of numbers.slice(start[edge], start[edge + 1])) {
          const ratio = Math.exp(logprob - old);
          sum += Math.max(-advantage * ratio, -advantage * Math.min(Math.max(ratio, 0.8), 1.2));
        }
      });
      return sum;
    };
    const expected = numericGradient(loss, logprobs).map((g) => -g);
    expect(relativeError(policyWeights(logprobs, { start, numbers }, 0.2), expected)).toBeLessThan(1e-8);
  });

  it('the value head’s gradients are those of the clipped value loss', () => {
    const [hidden, parameters] = [randomNormal(4 * 3, 4), randomNormal(4, 5)];
    const loss = () => valueLoss(valueHead(hidden, parameters), { start, numbers }, 0.5);
    const { dHidden, dParameters } = valueHeadBackward(hidden, parameters, { start, numbers }, 0.5, 1);
    expect(relativeError(dHidden, numericGradient(loss, hidden))).toBeLessThan(1e-8);
    expect(relativeError(dParameters, numericGradient(loss, parameters))).toBeLessThan(1e-8);
  });
});

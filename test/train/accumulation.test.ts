import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packMicroBatches } from '../../src/batch/pack.js';
import { buildTrie } from '../../src/batch/trie.js';
import { LossPrograms } from '../../src/model/loss-program.js';
import { randomExamples, randomIntegers } from '../batch/random-tries.js';
import { openTestGpu, type TestGpu, tiers } from '../gpu.js';
import { relativeError } from '../reference/random.js';
import { flatten, gradientsOf, openGolden, train, worstError } from './helpers.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

const tolerance = { f32: 1e-5, f16: 2e-3 };

/** Rows of very different weights: a micro-batch's own mean would be far from its share of the whole. */
const random = randomIntegers(5);
const rows = randomExamples(5, { count: 30, length: 16, vocab: 5 }).map((row) => ({
  ...row,
  weight: 10 ** (random(300) / 100 - 2),
}));

describe.each(tiers)('one step split into micro-batches, %s', (tier) => {
  it('accumulates the same gradient, whatever their size', async () => {
    const opened = await openGolden(gpu, 'qwen2', tier);
    const programs = new LossPrograms(opened.model, { adapter: opened.weights, backward: true });
    const whole = await gradientsOf(opened, programs, [buildTrie(rows)]);
    for (const size of [16, 25, 60, 130]) {
      const split = packMicroBatches(rows, size).map((indices) => buildTrie(indices.map((i) => rows[i])));
      expect(split.length).toBeGreaterThan(1);
      const parts = await gradientsOf(opened, programs, split);
      const { error, where } = worstError(parts, whole);
      expect(error, `${split.length} micro-batches: ${where}`).toBeLessThan(tolerance[tier]);
      expect(Math.abs(parts.loss / whole.loss - 1)).toBeLessThan(1e-6);
    }
    programs.destroy();
  });

  it('takes the same step, with the same metrics', async () => {
    const opened = await openGolden(gpu, 'llama', tier);
    // Without Adam's sign-like first step: epsilon large, so that the update is linear in the gradient.
    const options = { batchSize: rows.length, maxSteps: 1, epsilon: 1, learningRate: 1, maxGradNorm: 0 };
    const runs = [];
    for (const microBatchTokens of [20, 1000])
      runs.push(await train(opened, { train: rows }, { ...options, microBatchTokens }));
    const [split, whole] = runs;
    expect(split.steps[0].micro_batches).toBeGreaterThan(5);
    expect(whole.steps[0].micro_batches).toBe(1);
    for (const key of ['loss', 'grad_norm'] as const)
      expect(Math.abs(split.steps[0][key] / whole.steps[0][key] - 1)).toBeLessThan(tolerance[tier]);
    const start = flatten(opened.adapter);
    const change = (adapter: Float32Array) => adapter.map((value, i) => value - start[i]);
    // 1e-3: the change is small beside the f32 parameters it is read back from.
    const error = relativeError(change(flatten(split.result.adapter)), change(flatten(whole.result.adapter)));
    expect(error).toBeLessThan(Math.max(1e-3, 2 * tolerance[tier]));
    expect(split.steps[0].supervised_tokens).toBe(whole.steps[0].supervised_tokens);
  });
});

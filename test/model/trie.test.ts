import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packMicroBatches } from '../../src/batch/pack.js';
import { buildTrie } from '../../src/batch/trie.js';
import type { Example } from '../../src/batch/types.js';
import { LossPrograms } from '../../src/model/loss-program.js';
import { randomExamples } from '../batch/random-tries.js';
import { floatCases } from '../golden.js';
import { openTestGpu, type TestGpu, tiers } from '../gpu.js';
import { type GoldenModel, type Gradients, gradientsOf, oneByOne, openGolden, worstError } from '../train/helpers.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

/** On the gradient of each matrix; f16 rounds a row's gradient, which of a shared row is a sum, so sharing moves it a little. */
const gradientTolerance = { f32: 1e-5, f16: 2e-3 };
const lossTolerance = 1e-6;

/** Few different tokens, so that prefixes, whole rows and (row, target) pairs repeat; strange labels branch at a node. */
const deep = randomExamples(1, { count: 24, length: 12, vocab: 3, strange: 20 });
const sets: [string, Example[]][] = [
  ['deep sharing and duplicates', [...deep, ...deep.slice(0, 7)]],
  ['many targets a node', randomExamples(2, { count: 40, length: 5, vocab: 2, strange: 60 })],
  ['little sharing', randomExamples(3, { count: 9, length: 20, vocab: 90 })],
];

describe.each(floatCases)('sharing prefixes on %s', (name) => {
  it.each(tiers)('gives the loss and gradients of the sequences one by one, %s', async (tier) => {
    const opened = await openGolden(gpu, name, tier);
    const programs = new LossPrograms(opened.model, { adapter: opened.weights, backward: true });
    const compare = (what: string, actual: Gradients, expected: Gradients) => {
      const { error, where } = worstError(actual, expected);
      expect(error, `${what}: ${where}`).toBeLessThan(gradientTolerance[tier]);
      expect(Math.abs(actual.loss / expected.loss - 1), what).toBeLessThan(lossTolerance);
    };
    for (const [what, examples] of sets) {
      const separate = await gradientsOf(opened, programs, oneByOne(examples));
      const merged = buildTrie(examples);
      expect(merged.tokens.length).toBeLessThan(examples.reduce((sum, { ids }) => sum + ids.length, 0));
      compare(what, await gradientsOf(opened, programs, [merged]), separate);
      const split = packMicroBatches(examples, 24).map((indices) => buildTrie(indices.map((i) => examples[i])));
      compare(`${what}, in ${split.length} micro-batches`, await gradientsOf(opened, programs, split), separate);
    }
    programs.destroy();
  });
});

describe('what the comparison can tell', () => {
  it('fails when one weight is off', async () => {
    const opened: GoldenModel = await openGolden(gpu, 'llama', 'f32');
    const programs = new LossPrograms(opened.model, { adapter: opened.weights, backward: true });
    const examples = sets[0][1];
    const expected = await gradientsOf(opened, programs, oneByOne(examples));
    const heavier = examples.map((example, i) => (i === 3 ? { ...example, weight: example.weight * 1.01 } : example));
    const { error } = worstError(await gradientsOf(opened, programs, [buildTrie(heavier)]), expected);
    expect(error).toBeGreaterThan(1e-4);
    programs.destroy();
  });
});

import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { modelLayout } from '../../models/index.js';
import { linearShapes } from '../../models/tensors.js';
import { buildTrie } from '../../src/batch/trie.js';
import type { Example } from '../../src/batch/types.js';
import { openCheckpoint } from '../../src/formats/checkpoint.js';
import { readAdapter } from '../../src/formats/peft.js';
import { LanguageModel, type Tier } from '../../src/model/language-model.js';
import { LossPrograms } from '../../src/model/loss-program.js';
import { findShared, goldenCases, loadGolden, loadModel } from '../golden.js';
import { modelTiers, openTestGpu, type TestGpu, tiers } from '../gpu.js';
import { forward, headOf, runDecoder } from '../reference/decoder.js';
import { linearCrossEntropy } from '../reference/linear-cross-entropy.js';
import { relativeError } from '../reference/random.js';
import { chain, packChains } from '../reference/trie.js';
import { needsTier } from '../skip.js';
import { loadTokenizer } from '../text/shared.js';
import { promptLogits } from './prompt-logits.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

async function load(directory: string, tier: Tier): Promise<LanguageModel> {
  const checkpoint = await openCheckpoint(directory, modelLayout);
  const model = await LanguageModel.load(gpu.device, gpu.kernels, checkpoint, { tier, maxPositions: 256 });
  await checkpoint.close();
  return model;
}

/** Relative L2 error of a model's logits. */
const tolerance = { f32: 1e-5, f16: 2e-3, tensor: 2e-3 };

describe.each(goldenCases)('golden %s', (name) => {
  it.each(modelTiers)('logits with and without the adapter, %s', async (tier) => {
    needsTier(gpu.device, tier);
    const golden = loadGolden(name);
    const model = await load(`${golden.directory}/model`, tier);
    const adapter = await model.addAdapter(
      await readAdapter(`${golden.directory}/adapter`, linearShapes(model.config)),
      { trainable: false },
    );
    for (const [expected, weights, reference] of [
      [golden.logits.base, null, null],
      [golden.logits.adapted, adapter, golden.adapter],
    ] as const) {
      const rows = await promptLogits(model, weights, golden.logits.ids);
      expect([rows.length, rows[0].length]).toEqual(expected.shape);
      const first8 = rows.flatMap((row) => [...row.subarray(0, 8)]);
      expect(relativeError(Float64Array.from(first8), Float64Array.from(expected.first8.flat()))).toBeLessThan(
        tolerance[tier],
      );
      const last = rows[rows.length - 1];
      const top = expected.top10.map(([token]) => last[token]);
      expect(
        relativeError(
          Float64Array.from(top),
          Float64Array.from(expected.top10, ([, logit]) => logit),
        ),
      ).toBeLessThan(tolerance[tier]);
      const all = Float64Array.from(rows.flatMap((row) => [...row]));
      const mean = all.reduce((a, b) => a + b, 0) / all.length;
      const std = Math.sqrt(all.reduce((sum, x) => sum + (x - mean) ** 2, 0) / all.length);
      expect(Math.abs(mean - expected.mean)).toBeLessThan(tolerance[tier] * expected.std);
      expect(Math.abs(std / expected.std - 1)).toBeLessThan(tolerance[tier]);
      const everyLogit = forward(golden.model, reference, chain(golden.logits.ids));
      expect(relativeError(all, everyLogit)).toBeLessThan(tolerance[tier]);
    }
  });
});

describe('a vocabulary larger than one binding', () => {
  it.each(tiers)('is embedded and predicted in parts, %s', async (tier) => {
    needsTier(gpu.device, tier);
    const golden = loadGolden('llama');
    const whole = await load(`${golden.directory}/model`, tier);
    const { hiddenSize, intermediateSize, vocabSize } = whole.config;
    const limit = hiddenSize * Math.max(intermediateSize, vocabSize / 3) * (tier === 'f16' ? 2 : 4);
    Object.defineProperty(gpu.device, 'maxBinding', { value: Math.floor(limit / 256) * 256, configurable: true });
    onTestFinished(() => {
      Reflect.deleteProperty(gpu.device, 'maxBinding');
    });
    const parted = await load(`${golden.directory}/model`, tier);
    expect(parted.weights.head.parts.length).toBeGreaterThan(1);
    expect(parted.weights.embedding.parts.length).toBeGreaterThan(1);
    const ids = [0, 1, 100, 200, vocabSize - 1];
    const expected = await promptLogits(whole, null, ids);
    expect(await promptLogits(parted, null, ids)).toEqual(expected);
    const trie = buildTrie([{ ids: Int32Array.from(ids), labels: Int32Array.from(ids), weight: 1 }]);
    const logprobs = [];
    for (const model of [whole, parted]) {
      const { batch, program } = await new LossPrograms(model, { adapter: null, backward: false }).prepare(trie);
      logprobs.push(Float64Array.from(await program.run(batch, { gradScale: 0, dropout: 0, seed: 0 })));
    }
    expect(relativeError(logprobs[1], logprobs[0])).toBeLessThan(1e-5);
  });
});

it('refuses a micro-batch whose activations the device cannot bind, in a sentence', async () => {
  const model = await load(`${loadGolden('llama').directory}/model`, 'f32');
  const bytes = 64 * 4 * model.config.intermediateSize;
  Object.defineProperty(gpu.device, 'maxBinding', { value: bytes - 256, configurable: true });
  onTestFinished(() => {
    Reflect.deleteProperty(gpu.device, 'maxBinding');
  });
  const ids = Int32Array.of(1, 2, 3);
  await expect(
    new LossPrograms(model, { adapter: null, backward: false }).prepare(buildTrie([{ ids, labels: ids, weight: 1 }])),
  ).rejects.toThrow(
    `A micro-batch of 64 tokens needs activations of ${bytes} bytes, more than the ${bytes - 256} this`,
  );
});

const tinystories = findShared('models/tinystories-656k');
describe.skipIf(!tinystories)('tinystories-656k, which stores lm_head.weight alone', () => {
  it.each(tiers)('expects a story as the float64 decoder does, %s', async (tier) => {
    needsTier(gpu.device, tier);
    const text =
      'Once upon a time, there was a little girl named Mia. Mia had a kite that was yellow. One windy day, she ran up the hill with her dad. The kite went up and up, and Mia laughed. Then the string broke and the kite sat in a big tree. A kind bird gave it back to her, and they were all very happy.';
    const ids = (await loadTokenizer(tinystories!)).encode(text, { specials: true });
    const story: Example = { ids, labels: ids, weight: 1 };
    const model = await load(tinystories!, tier);
    const programs = new LossPrograms(model, { adapter: null, backward: false });
    const trie = buildTrie([story]);
    const { batch, program } = await programs.prepare(trie);
    const logprobs = await program.run(batch, { gradScale: 0, dropout: 0, seed: 0 });
    const loss = -logprobs.reduce((a, b) => a + b, 0) / logprobs.length;
    expect(loss).toBeLessThan(4);

    const reference = loadModel(tinystories!);
    const packed = packChains([story]);
    const edges = { row: packed.edgeRow, target: packed.edgeTarget, weight: packed.edgeWeight };
    const { hidden } = runDecoder(reference, null, packed);
    const { hiddenSize } = reference.config;
    const expected = linearCrossEntropy(hidden, headOf(reference), hiddenSize, edges, 1 / (ids.length - 1)).loss;
    expect(Math.abs(loss - expected)).toBeLessThan(tier === 'f32' ? 1e-4 : 2e-2);
  });
});

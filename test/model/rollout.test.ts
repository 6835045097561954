import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { modelLayout } from '../../models/index.js';
import { linearShapes } from '../../models/tensors.js';
import { openCheckpoint } from '../../src/formats/checkpoint.js';
import { readAdapter } from '../../src/formats/peft.js';
import type { AdapterWeights } from '../../src/model/adapter.js';
import { LanguageModel } from '../../src/model/language-model.js';
import { type Completion, RolloutEngine, type RolloutHooks, type RolloutOptions } from '../../src/model/rollout.js';
import { greedySampling } from '../../src/ops/sample.js';
import { sequenceSeed } from '../../src/random.js';
import { findShared, loadGolden, loadModel } from '../golden.js';
import { openTestGpu, type TestGpu, type Tier, tiers } from '../gpu.js';
import { type GreedyResult, greedy } from '../reference/greedy.js';
import { needsTier } from '../skip.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

/** The least margin of the reference's choice that a tier must reproduce. */
const surely = { f32: 1e-3, f16: 1e-2 };

async function load(directory: string, tier: Tier): Promise<LanguageModel> {
  const checkpoint = await openCheckpoint(directory, modelLayout);
  const model = await LanguageModel.load(gpu.device, gpu.kernels, checkpoint, { tier, maxPositions: 256 });
  await checkpoint.close();
  return model;
}

type Settings = Partial<RolloutOptions> & RolloutHooks & { seed?: number };

async function complete(
  model: LanguageModel,
  prompts: readonly number[][],
  { onToken, shouldStop, seed = 42, ...options }: Settings = {},
): Promise<Completion[]> {
  const engine = await RolloutEngine.create(model, {
    adapter: null,
    maxNewTokens: 12,
    stopIds: new Set(),
    sampling: greedySampling,
    batchSize: 16,
    maxPromptTokens: prompts.reduce((most, { length }) => Math.max(most, length), 0),
    promptTokens: 256,
    ...options,
  });
  try {
    return await engine.run(
      prompts.map((ids, i) => ({ prompt: Int32Array.from(ids), seed: sequenceSeed(seed, i) })),
      { onToken, shouldStop },
    );
  } finally {
    engine.destroy();
  }
}

async function decode(model: LanguageModel, prompts: readonly number[][], settings: Settings = {}) {
  return (await complete(model, prompts, settings)).map(({ ids }) => ids);
}

/** Equal up to the first token that the reference itself hardly prefers. Gives how many tokens were compared. */
function expectGreedy(actual: readonly number[], expected: GreedyResult, tier: Tier): number {
  const end = actual.findIndex((token, i) => token !== expected.tokens[i]);
  if (end >= 0) expect(expected.margins[end], `token ${end} differs`).toBeLessThan(surely[tier]);
  return end < 0 ? actual.length : end;
}

const stories260k = findShared('models/stories260k');
describe.skipIf(!stories260k)('stories260k', () => {
  it.each(tiers)('tells 200 tokens as the float64 decoder does, %s', async (tier) => {
    needsTier(gpu.device, tier);
    const expected = greedy(loadModel(stories260k!), [1], 200);
    const [actual] = await decode(await load(stories260k!, tier), [[1]], { maxNewTokens: 200 });
    expect(actual).toHaveLength(200);
    expect(expectGreedy(actual, expected, tier)).toBeGreaterThanOrEqual(tier === 'f32' ? 200 : 50);
  });
});

describe('batched decoding', () => {
  let model: LanguageModel;
  let adapter: AdapterWeights;
  const { directory } = loadGolden('llama');
  beforeAll(async () => {
    model = await load(`${directory}/model`, 'f32');
    adapter = await model.addAdapter(await readAdapter(`${directory}/adapter`, linearShapes(model.config)), {
      trainable: false,
    });
  });

  /** Prompts that share beginnings, are beginnings of each other, or are the same. */
  const prompts = [
    [1, 20, 30, 40],
    [1, 20, 30, 41, 50, 60],
    [1, 20],
    [1, 20, 30, 40],
    [7],
    [1, 20, 30, 40, 99, 100, 101, 102, 103, 104, 105],
    [7, 8, 9],
  ];

  it('gives each prompt what it gets alone, with and without an adapter', async () => {
    for (const weights of [null, adapter]) {
      const alone = [];
      for (const prompt of prompts) alone.push((await decode(model, [prompt], { adapter: weights }))[0]);
      expect(new Set(alone.map(String)).size).toBe(prompts.length - 1);
      expect(await decode(model, prompts, { adapter: weights })).toEqual(alone);
    }
  });

  it('does not depend on how prompts are grouped', async () => {
    const together = await decode(model, prompts);
    expect(await decode(model, prompts, { batchSize: 2 })).toEqual(together);
    expect(await decode(model, prompts, { promptTokens: 11 })).toEqual(together);
    const sampling = { ...greedySampling, temperature: 1, topK: 50, topP: 0.9 };
    const sampled = await decode(model, prompts, { sampling, seed: 3 });
    expect(await decode(model, prompts, { sampling, seed: 3, batchSize: 3, promptTokens: 20 })).toEqual(sampled);
    expect(sampled[3]).not.toEqual(sampled[0]);
    expect(sampled).not.toEqual(await decode(model, prompts, { sampling, seed: 4 }));
  });

  it('equals the reference, with its adapter', async () => {
    const golden = loadGolden('llama');
    const results = await decode(model, prompts, { adapter });
    prompts.forEach((prompt, i) => {
      expectGreedy(results[i], greedy(golden.model, prompt, 12, golden.adapter), 'f32');
    });
  });

  it('ends a sequence with a stop id, and lets the others go on', async () => {
    const free = await decode(model, prompts);
    const stop = free[1][4];
    const stopped = await complete(model, prompts, { stopIds: new Set([stop]) });
    const cut = free.map((ids) => (ids.includes(stop) ? ids.slice(0, ids.indexOf(stop) + 1) : ids));
    expect(stopped.map(({ ids }) => ids)).toEqual(cut);
    expect(stopped.map(({ finish }) => finish)).toEqual(cut.map((ids) => (ids.includes(stop) ? 'eos' : 'length')));
    expect(stopped[1].ids.length).toBeLessThanOrEqual(5);
    expect(stopped.some(({ ids }) => ids.length === 12)).toBe(true);
  });

  it('tells every token as it comes and ends a sequence when asked', async () => {
    const seen: number[][] = prompts.map(() => []);
    const results = await decode(model, prompts, {
      onToken: (sequence, id) => seen[sequence].push(id),
      shouldStop: (sequence, ids) => sequence === 2 && ids.length === 3,
    });
    expect(seen).toEqual(results);
    expect(results.map((ids) => ids.length)).toEqual(prompts.map((_, i) => (i === 2 ? 3 : 12)));
  });

  it('does not repeat a penalised token, but may repeat a spared one', async () => {
    const presencePenalty = 1e4;
    const [distinct] = await decode(model, [[1, 20]], { sampling: { ...greedySampling, presencePenalty } });
    expect(new Set(distinct).size).toBe(12);
    const all = new Set(Array.from({ length: model.config.vocabSize }, (_, id) => id));
    const spared = { ...greedySampling, presencePenalty, unpenalised: all };
    expect(await decode(model, [[1, 20]], { sampling: spared })).toEqual(await decode(model, [[1, 20]]));
    // A slot that changes hands forgets what its last sequence was given.
    const sampling = { ...greedySampling, presencePenalty };
    expect(await decode(model, prompts, { sampling, batchSize: 1 })).toEqual(
      await decode(model, prompts, { sampling }),
    );
  });

  it('refuses an empty prompt and one that leaves no room', async () => {
    await expect(decode(model, [[1], []])).rejects.toThrow('prompt 2 has no tokens');
    await expect(decode(model, [[1]], { maxNewTokens: 256 })).rejects.toThrow('257 tokens, more than the 256');
  });
});

describe('a sliding window', () => {
  it.each(tiers)('moves over prompt and new tokens as in the reference, %s', async (tier) => {
    needsTier(gpu.device, tier);
    const golden = loadGolden('mistral');
    const model = await load(`${golden.directory}/model`, tier);
    const adapter = await model.addAdapter(
      await readAdapter(`${golden.directory}/adapter`, linearShapes(model.config)),
      { trainable: false },
    );
    const prompts = [golden.logits.ids.slice(0, 2), golden.logits.ids, [...golden.logits.ids.slice(0, 6), 9]];
    const results = await decode(model, prompts, { adapter, maxNewTokens: 16 });
    const compared = prompts.map((prompt, i) =>
      expectGreedy(results[i], greedy(golden.model, prompt, 16, golden.adapter), tier),
    );
    expect(Math.max(...compared)).toBe(16);
  });
});

import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { modelLayout } from '../../models/index.js';
import { linearShapes } from '../../models/tensors.js';
import { countPromptPlaces } from '../../src/batch/prompt-places.js';
import { buildTrie } from '../../src/batch/trie.js';
import type { Example } from '../../src/batch/types.js';
import { unsupervised } from '../../src/batch/types.js';
import { openCheckpoint } from '../../src/formats/checkpoint.js';
import { readAdapter } from '../../src/formats/peft.js';
import type { AdapterWeights } from '../../src/model/adapter.js';
import { LanguageModel, type Tier } from '../../src/model/language-model.js';
import { LossPrograms } from '../../src/model/loss-program.js';
import { type Completion, RolloutEngine, type RolloutOptions } from '../../src/model/rollout.js';
import type { RolloutRequest } from '../../src/model/rollout-schedule.js';
import { greedySampling } from '../../src/ops/sample.js';
import { sequenceSeed } from '../../src/random.js';
import { loadGolden } from '../golden.js';
import { openTestGpu, type TestGpu } from '../gpu.js';
import { needsTier } from '../skip.js';

let cores: TestGpu;
let gpus: TestGpu;
beforeAll(async () => {
  cores = await openTestGpu();
  gpus = await openTestGpu({ cpu: false });
});
afterAll(async () => {
  await cores.close();
  await gpus.close();
});

const golden = loadGolden('llama');

async function load(gpu: TestGpu, tier: Tier): Promise<{ model: LanguageModel; adapter: AdapterWeights }> {
  const checkpoint = await openCheckpoint(`${golden.directory}/model`, modelLayout);
  const model = await LanguageModel.load(gpu.device, gpu.kernels, checkpoint, { tier, maxPositions: 64 });
  await checkpoint.close();
  const adapter = await model.addAdapter(await readAdapter(`${golden.directory}/adapter`, linearShapes(model.config)), {
    trainable: false,
  });
  return { model, adapter };
}

const prompts = [[1, 20, 30, 40], [1, 20, 30, 41, 50], [7], [1, 20], [1, 20, 30, 40, 99, 100, 101]].map((ids) =>
  Int32Array.from(ids),
);
/** `samples` of each prompt, each with a seed of its own. */
const ask = (samples: number): RolloutRequest[] =>
  prompts.flatMap((prompt, i) =>
    Array.from({ length: samples }, (_, s) => ({ prompt, seed: sequenceSeed(5, 100 * i + s) })),
  );
const sampling = { ...greedySampling, temperature: 0.8, topK: 60, topP: 0.95 };

function settings(options: Partial<RolloutOptions>): RolloutOptions {
  return {
    adapter: null,
    maxNewTokens: 10,
    maxPromptTokens: 7,
    stopIds: new Set(),
    sampling,
    batchSize: 32,
    promptTokens: 64,
    ...options,
  };
}

async function rollOut(
  model: LanguageModel,
  requests: readonly RolloutRequest[],
  options: Partial<RolloutOptions>,
): Promise<Completion[]> {
  const engine = await RolloutEngine.create(model, settings(options));
  try {
    return await engine.run(requests);
  } finally {
    engine.destroy();
  }
}

/** Log-probabilities of the sampled tokens from a pass over all of them at once. */
async function score(
  model: LanguageModel,
  adapter: AdapterWeights | null,
  requests: readonly RolloutRequest[],
  completions: readonly Completion[],
  temperature: number,
): Promise<number[][]> {
  const examples = completions.map(({ ids }, i): Example => {
    const { prompt } = requests[i];
    const all = Int32Array.from([...prompt, ...ids]);
    return { ids: all, labels: all.map((id, at) => (at < prompt.length ? unsupervised : id)), weight: 1 };
  });
  const trie = buildTrie(examples);
  const programs = new LossPrograms(model, { adapter, backward: false, temperature });
  const { batch, program } = await programs.prepare(trie);
  const logprobs = await program.run(batch, { gradScale: 0, dropout: 0, seed: 0 });
  programs.destroy();
  return trie.edgeOf.map((edges, i) => Array.from(edges.subarray(requests[i].prompt.length), (edge) => logprobs[edge]));
}

describe.each<[string, () => TestGpu, Tier, number]>([
  ['forms of CPU cores', () => cores, 'f32', 1e-4],
  ['forms of CPU cores', () => cores, 'f16', 5e-3],
  ['forms of CPU cores', () => cores, 'tensor', 5e-3],
  ['forms of GPUs', () => gpus, 'f32', 1e-4],
  ['forms of GPUs', () => gpus, 'f16', 5e-3],
])('%s', (_, open, tier, tolerance) => {
  it(`records log-probabilities as a fresh pass gives them, ${tier}`, async () => {
    needsTier(open().device, tier);
    const { model, adapter } = await load(open(), tier);
    const requests = ask(1);
    // Tiles of matrices take long to compile on CPU cores: those of 64 rows serve both passes.
    const completions = await rollOut(model, requests, { adapter, deterministic: tier === 'tensor' });
    const fresh = await score(model, adapter, requests, completions, sampling.temperature);
    const apart = completions.flatMap(({ logprobs }, i) =>
      logprobs.map((logprob, t) => Math.abs(logprob - fresh[i][t])),
    );
    expect(apart).toHaveLength(10 * requests.length);
    expect(Math.max(...apart)).toBeLessThan(tolerance);
    // Unless an entropy is that of the same softmax, it is not this close to what was sampled from it.
    const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
    const entropy = mean(completions.flatMap(({ entropies }) => entropies));
    expect(Math.abs(entropy + mean(fresh.flat()))).toBeLessThan(1);
  });
});

describe('a rollout', () => {
  it('gives the same text for the same seed, another for another', async () => {
    const { model } = await load(cores, 'f32');
    const first = await rollOut(model, ask(2), {});
    expect(await rollOut(model, ask(2), {})).toEqual(first);
    expect(new Set(first.map(({ ids }) => String(ids))).size).toBe(first.length);
  });

  it('with deterministic, gives the same numbers whatever the batch', async () => {
    needsTier(gpus.device, 'f16');
    const requests = ask(3);
    for (const [gpu, tier] of [
      [cores, 'f32'],
      [gpus, 'f16'],
    ] as const) {
      const { model, adapter } = await load(gpu, tier);
      const run = (options: Partial<RolloutOptions>) => rollOut(model, requests, { adapter, ...options });
      const together = await run({ deterministic: true });
      const reversed = await rollOut(model, [...requests].reverse(), { adapter, deterministic: true, batchSize: 5 });
      expect(reversed.reverse()).toEqual(together);
      const alone = await rollOut(model, [requests[4]], { adapter, deterministic: true, batchSize: 1 });
      expect(alone).toEqual([together[4]]);
      // Without it, kernels for few rows add up in another order than those for many.
      if (gpu === gpus) expect(await run({ batchSize: 3 })).not.toEqual(await run({}));
    }
  });

  it('reads a step while the next one runs, and drops what was computed too far', async () => {
    const options = { sampling: greedySampling, maxNewTokens: 8 };
    const expected = await rollOut((await load(cores, 'f32')).model, ask(1), options);
    const { model } = await load(gpus, 'f32');
    expect((await rollOut(model, ask(1), options)).map(({ ids }) => ids)).toEqual(expected.map(({ ids }) => ids));
    const stop = expected[0].ids[3];
    const stopped = await rollOut(model, ask(2), { ...options, stopIds: new Set([stop]), batchSize: 3 });
    stopped.forEach(({ ids, finish }, i) => {
      const whole = expected[i >> 1].ids;
      const end = whole.indexOf(stop);
      expect(ids).toEqual(end < 0 ? whole : whole.slice(0, end + 1));
      expect(finish).toBe(end < 0 ? 'length' : 'eos');
    });
  });

  it('computes and stores what samples share once, in the places it was planned with', async () => {
    const { model } = await load(cores, 'f32');
    const promptPlaces = countPromptPlaces(prompts);
    // 1; 1 20; 1 20 30; 1 20 30 41; and 1 20 30 40, … 99, … 100.
    expect(promptPlaces).toBe(7);
    const engine = await RolloutEngine.create(model, settings({ promptPlaces, batchSize: 8 }));
    const { slots } = engine.size;
    expect(engine.size).toMatchObject({ slots: 8, promptPlaces: 7 });
    const steps: { promptTokens: number; going: number }[] = [];
    const completions = await engine.run(ask(4), {
      onStep: ({ promptTokens, sequences }) => steps.push({ promptTokens, going: sequences.length }),
      shouldStop: (sequence, ids) => ids.length > sequence % 7,
    });
    expect(steps.reduce((sum, step) => sum + step.promptTokens, 0)).toBe(promptPlaces);
    const tokens = completions.reduce((sum, { ids }) => sum + ids.length, 0);
    expect(steps.reduce((sum, step) => sum + step.going, 0)).toBe(tokens);
    // Full until the last ones have been admitted, and then no longer than the longest takes.
    const full = steps.filter(({ going }) => going === slots).length;
    expect(steps.length - full).toBeLessThanOrEqual(7);
    expect(completions.every(({ finish, ids }, i) => finish === 'stop' && ids.length === (i % 7) + 1)).toBe(true);
    expect(await engine.run([ask(4)[13]])).toHaveLength(1);
    engine.destroy();
  });

  it('finds its way in the least cache, and another after the adapter has changed', async () => {
    const { model, adapter } = await load(cores, 'f32');
    const expected = await rollOut(model, ask(2), { adapter });
    const engine = await RolloutEngine.create(model, settings({ adapter, cacheTokens: 10 + 6 }));
    expect(engine.size).toMatchObject({ slots: 1, promptPlaces: 6 });
    const ids = (completions: readonly Completion[]) => completions.map((one) => one.ids);
    expect(ids(await engine.run(ask(2)))).toEqual(ids(expected));
    const file = await readAdapter(`${golden.directory}/adapter`, linearShapes(model.config));
    const negative = [...file.tensors].map(([path, { A, B }]) => [path, { A, B: B.map((x) => -x) }] as const);
    await model.setAdapter(adapter, { ...file, tensors: new Map(negative) });
    expect(ids(await engine.run(ask(2)))).not.toEqual(ids(expected));
    engine.destroy();
  });

  it('refuses a cache that holds not one sequence, before anything is allocated', async () => {
    const { model } = await load(cores, 'f32');
    const before = cores.device.allocatedBytes;
    await expect(RolloutEngine.create(model, settings({ cacheTokens: 15 }))).rejects.toThrow(
      /a prompt of 7 tokens and an answer of 10 need 16 places in the KV cache, more than the 15 that --kv-cache-tokens allows/,
    );
    const place = 4 * model.config.kvHeads * model.config.headDim;
    Object.defineProperty(cores.device, 'maxBinding', { value: 15 * place, configurable: true });
    onTestFinished(() => {
      Reflect.deleteProperty(cores.device, 'maxBinding');
    });
    await expect(RolloutEngine.create(model, settings({}))).rejects.toThrow(/more than the 15 that this device binds/);
    expect(cores.device.allocatedBytes).toBe(before);
  });
});

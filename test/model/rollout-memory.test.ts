import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { modelLayout } from '../../models/index.js';
import { knownModel } from '../../models/known.js';
import { openCheckpoint } from '../../src/formats/checkpoint.js';
import { assignBuffers, poolSizes } from '../../src/gpu/memory-plan.js';
import { LanguageModel } from '../../src/model/language-model.js';
import { RolloutEngine, type RolloutOptions } from '../../src/model/rollout.js';
import { planGeneration, planRollout } from '../../src/model/rollout-memory.js';
import { greedySampling } from '../../src/ops/sample.js';
import { createRandom } from '../../src/random.js';
import { loadGolden } from '../golden.js';
import { openTestGpu, type TestGpu } from '../gpu.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

describe('planRollout', () => {
  it('is never under the sum of buffers made, nor far above it', async () => {
    const checkpoint = await openCheckpoint(`${loadGolden('llama').directory}/model`, modelLayout);
    const empty = gpu.device.allocatedBytes;
    const model = await LanguageModel.load(gpu.device, gpu.kernels, checkpoint, { tier: 'f32', maxPositions: 64 });
    await checkpoint.close();
    const options: RolloutOptions = {
      adapter: null,
      maxNewTokens: 3,
      maxPromptTokens: 20,
      stopIds: new Set(),
      sampling: { ...greedySampling, presencePenalty: 1 },
      batchSize: 20,
      promptTokens: 128,
    };
    const wanted = { ...options, adapter: null, packed: new Map() };
    const plan = planRollout(gpu.device, gpu.kernels, model.config, 'f32', wanted);
    const before = gpu.device.allocatedBytes;
    const engine = await RolloutEngine.create(model, options);
    expect(engine.size).toEqual(plan.size);
    // Programs of all row counts: 2, 5, 20, 80 and 128.
    for (const [count, length] of [
      [2, 1],
      [4, 1],
      [20, 1],
      [3, 20],
      [20, 20],
    ]) {
      const prompt = (i: number) => Int32Array.from({ length }, (_, at) => (at === 0 ? i : 7));
      await engine.run(Array.from({ length: count }, (_, i) => ({ prompt: prompt(i), seed: 0 })));
    }
    const made = gpu.device.allocatedBytes - before;
    expect(plan.total).toBeGreaterThanOrEqual(made);
    expect(plan.total).toBeLessThan(1.02 * made);
    const whole = planGeneration(gpu.device, gpu.kernels, model.config, 'f32', wanted);
    expect(whole.total).toBeGreaterThanOrEqual(gpu.device.allocatedBytes - empty);
    expect(whole.total - (4 << 20)).toBeLessThan(1.02 * (gpu.device.allocatedBytes - empty)); // staging is gone by now
    engine.destroy();
  });

  const large = {
    config: knownModel('llama-3.1-8b')!,
    /** A card that is not here. */
    device: () => ({
      features: { ...gpu.device.features, cpu: false },
      matrixUnits: [],
      maxBinding: 2 ** 31 - 256,
      uniformAlign: 64,
    }),
    wishes: {
      adapter: { r: 64, alpha: 256, dropout: 0, targetModules: ['q_proj', 'v_proj'], useRslora: false },
      sampling: { ...greedySampling, temperature: 1 },
      packed: new Map(),
      batchSize: 64,
      maxNewTokens: 256,
      maxPromptTokens: 301,
      promptPlaces: 4000,
      promptTokens: 2048,
    },
  };

  it('tells the KV cache of an 8B model in advance', () => {
    const plan = planRollout(large.device(), gpu.kernels, large.config, 'f16', large.wishes);
    expect(plan.size).toMatchObject({ slots: 64, promptPlaces: 4000, stepRows: 2048 });
    // Keys and values of 8 heads of 128 in 16 bits.
    expect(plan.cache).toBe((64 * 256 + 4000) * 32 * 2 * 8 * 128 * 2);
    expect(plan.total).toBeLessThan(4e9);
  });

  it('takes no more rows at a time than the device binds, and than a grid has in one dimension', () => {
    const prompts = { maxPromptTokens: 100_000, promptPlaces: 100_000, promptTokens: 100_000 };
    const rowsAt = (maxBinding: number, wishes: Partial<typeof large.wishes>) => {
      const device = { ...large.device(), maxBinding };
      const { size } = planRollout(device, gpu.kernels, large.config, 'f16', { ...large.wishes, ...wishes });
      return size;
    };
    expect(rowsAt(2 ** 32 - 256, prompts)).toMatchObject({ slots: 64, stepRows: 65_535 });
    // The MLP's activations take 28,672 bytes a row.
    expect(rowsAt(2 ** 30, prompts)).toMatchObject({ slots: 64, stepRows: 37_449 });
    expect(rowsAt(2 ** 27, {})).toMatchObject({ slots: 64, stepRows: 2048 });
  });
});

describe('poolSizes', () => {
  it('has room for every program, and serves those to come from what is there', () => {
    const random = createRandom(5);
    for (let turn = 0; turn < 40; turn++) {
      const programs = Array.from({ length: 4 }, () =>
        Array.from({ length: 1 + random.below(8) }, () => random.below(99)),
      );
      const sizes = poolSizes(programs);
      for (const slots of programs) {
        const taken = assignBuffers(slots, sizes);
        expect(taken.every((i, slot) => i >= 0 && sizes[i] >= slots[slot])).toBe(true);
        expect(new Set(taken).size).toBe(slots.length);
      }
      expect(sizes).toEqual([...sizes].sort((a, b) => b - a));
    }
    expect(
      poolSizes([
        [8, 4],
        [4, 8],
        [6, 9],
      ]),
    ).toEqual([9, 8, 4]);
  });
});

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { modelLayout } from '../../models/index.js';
import { linearShapes } from '../../models/tensors.js';
import { openCheckpoint } from '../../src/formats/checkpoint.js';
import { readAdapter } from '../../src/formats/peft.js';
import { LanguageModel } from '../../src/model/language-model.js';
import { type SftOptions, type StepMetrics, trainSft } from '../../src/train/sft.js';
import { goldenCases, loadGolden } from '../golden.js';
import { modelTiers, openTestGpu, type TestGpu } from '../gpu.js';
import { loraName } from '../reference/decoder.js';
import { relativeError } from '../reference/random.js';
import { needsTier } from '../skip.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

const lossTolerance = { f32: 1e-4, f16: 5e-3, tensor: 5e-3 };
const adapterTolerance = { f32: 1e-3, f16: 5e-2, tensor: 5e-2 };

describe.each(goldenCases)('golden %s', (name) => {
  it.each(modelTiers)('five training steps, %s', async (tier) => {
    needsTier(gpu.device, tier);
    const golden = loadGolden(name);
    const { options: g } = golden;
    const checkpoint = await openCheckpoint(`${golden.directory}/model`, modelLayout);
    const model = await LanguageModel.load(gpu.device, gpu.kernels, checkpoint, { tier, maxPositions: 64 });
    await checkpoint.close();
    const adapter = await readAdapter(`${golden.directory}/adapter`, linearShapes(model.config));
    const weights = await model.addAdapter(adapter, { trainable: true });
    // Both golden batches have the same number of rows: one epoch in order is one batch after the other.
    const batchSize = golden.batches[0].length;
    const options: SftOptions = {
      batchSize,
      microBatchTokens: 64,
      epochs: 100,
      maxSteps: golden.train.losses.length,
      learningRate: g.learningRate,
      schedulerType: g.schedule,
      warmupSteps: g.warmupSteps,
      warmupRatio: 0,
      weightDecay: g.weightDecay,
      maxGradNorm: g.maxGradNorm,
      loraPlusRatio: g.loraplusRatio,
      beta1: g.beta1,
      beta2: g.beta2,
      epsilon: g.epsilon,
      seed: 1,
      shuffle: false,
      evalSteps: 0,
      saveSteps: 0,
      saveMinutes: 0,
      earlyStoppingPatience: 0,
      recompute: 1,
    };
    const steps: StepMetrics[] = [];
    const result = await trainSft(model, weights, { train: golden.batches.flat(), valid: [] }, options, {
      step: (metrics) => void steps.push(metrics),
      evaluation: () => {},
      checkpoint: async () => {},
      interrupted: () => false,
    });
    const lossError = Math.max(...steps.map(({ loss }, i) => Math.abs(loss / golden.train.losses[i] - 1)));
    const normError = Math.max(...steps.map(({ grad_norm }, i) => Math.abs(grad_norm / golden.train.gradNorms[i] - 1)));
    expect(steps.map((s) => s.learning_rate)).toEqual(
      golden.train.learningRates.map((rate) => expect.closeTo(rate, 12)),
    );
    let worst = 0;
    for (const [path, pair] of result.adapter.tensors) {
      for (const matrix of ['A', 'B'] as const) {
        const [, layer, rest] = /^model\.layers\.(\d+)\.(.*)$/.exec(path)!;
        const expected = golden.train.tensors.get(loraName(Number(layer), rest, matrix))!;
        worst = Math.max(worst, relativeError(pair[matrix], expected));
      }
    }
    if (process.env.LEXALIGN_SHOW_ERRORS) console.log(name, tier, { lossError, normError, worst });
    expect(lossError).toBeLessThan(lossTolerance[tier]);
    expect(normError).toBeLessThan(10 * lossTolerance[tier]);
    expect(worst).toBeLessThan(adapterTolerance[tier]);
  });
});

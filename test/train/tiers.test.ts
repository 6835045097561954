import { afterAll, beforeAll, expect, it } from 'vitest';
import { associationRows } from '../../datasets/association-rows.js';
import { loadMiniNorms } from '../../datasets/mini-norms.js';
import { buildExamples } from '../../src/batch/examples.js';
import { parseRows } from '../../src/batch/rows.js';
import { openModel, requireTokenizer } from '../../src/cli/session.js';
import { initialAdapter } from '../../src/model/adapter.js';
import { LanguageModel, type Tier } from '../../src/model/language-model.js';
import { offeredTiers } from '../../src/model/self-test.js';
import { placeLines } from '../../src/text/lines.js';
import { LEXI_BASE_PROMPTS } from '../../src/text/prompts.js';
import { openTestGpu, type TestGpu } from '../gpu.js';
import { randomSource } from '../reference/random.js';
import { train } from './helpers.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

const lora = { r: 16, alpha: 32, dropout: 0, targetModules: ['q_proj', 'v_proj', 'down_proj'], useRslora: false };

/** Losses of the demo's first steps, with fewer rows each so that emulated matrix units take seconds. */
async function losses(tier: Tier): Promise<number[]> {
  const opened = await openModel({});
  const rows = associationRows(
    { language: 'en', cues: loadMiniNorms('en').cues.slice(0, 8) },
    { prompt: LEXI_BASE_PROMPTS.en, maxAssociates: 8, seed: 42 },
  );
  const { examples } = await buildExamples(
    parseRows(
      placeLines(
        rows.map((row) => JSON.stringify(row)),
        'mini-norms',
      ),
    ),
    {
      tokenizer: requireTokenizer(opened),
      vocabSize: opened.config.vocabSize,
      maxLength: 128,
      overlong: 'error',
    },
  );
  const model = await LanguageModel.load(gpu.device, gpu.kernels, opened.checkpoint, { tier, maxPositions: 128 });
  await opened.checkpoint.close();
  const adapter = initialAdapter(opened.config, lora, randomSource(7));
  const weights = await model.addAdapter(adapter, { trainable: true });
  const { steps } = await train(
    { model, adapter, weights },
    { train: examples },
    { batchSize: 2, microBatchTokens: 96, learningRate: 4e-3 },
  );
  return steps.map(({ loss }) => loss);
}

it('gives the same training losses in every tier', async () => {
  const [first, ...others] = offeredTiers(gpu.device);
  const expected = await losses(first);
  expect(expected).toHaveLength(4);
  expect(expected[3]).toBeLessThan(expected[0]);
  for (const tier of others) {
    (await losses(tier)).forEach((loss, step) => {
      expect(Math.abs(loss / expected[step] - 1), `${tier}, step ${step + 1}`).toBeLessThan(0.01);
    });
  }
});

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { modelLayout } from '../../models/index.js';
import { linearShapes } from '../../models/tensors.js';
import { buildTrie } from '../../src/batch/trie.js';
import { openCheckpoint } from '../../src/formats/checkpoint.js';
import { readAdapter } from '../../src/formats/peft.js';
import { LanguageModel, type Tier } from '../../src/model/language-model.js';
import { LossPrograms } from '../../src/model/loss-program.js';
import type { Tuning } from '../../src/ops/tuning.js';
import { type GoldenCase, goldenCases, loadGolden } from '../golden.js';
import { modelTiers, openTestGpu, type TestGpu } from '../gpu.js';
import { loraName } from '../reference/decoder.js';
import { relativeError } from '../reference/random.js';
import { needsTier } from '../skip.js';

let gpu: TestGpu;
let asGpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
  asGpu = await openTestGpu({ cpu: false });
});
afterAll(async () => {
  await gpu.close();
  await asGpu.close();
});

/** Small tiles whatever the product: a GPU's own take minutes to compile where matrix units are emulated. */
const smallTile = { GM: 1, GN: 2, TM: 1, TN: 2, BK: 16, PAD: 1, STAGES: 1, GROUP: 2, UNPACK: 0, TURN: 0 } as const;
const smallTiles: Tuning = Object.assign(new Map([['any', smallTile]]), { get: () => smallTile });

const gradientTolerance = { f32: 1e-4, f16: 1e-2, tensor: 1e-2 };
const lossTolerance = { f32: 1e-5, f16: 2e-3, tensor: 2e-3 };

describe.each(goldenCases)('golden %s', (name) => {
  it.each(modelTiers)('loss and gradients, %s', (tier) => check(name, gpu, tier));

  // All forms of kernels that GPUs get: matrix units for attention too, subgroups for few rows.
  it('loss and gradients, tensor as on a GPU', () => check(name, asGpu, 'tensor', smallTiles));
});

async function check(name: GoldenCase, gpu: TestGpu, tier: Tier, tuning?: Tuning): Promise<void> {
  needsTier(gpu.device, tier);
  const golden = loadGolden(name);
  const checkpoint = await openCheckpoint(`${golden.directory}/model`, modelLayout);
  const model = await LanguageModel.load(gpu.device, gpu.kernels, checkpoint, { tier, maxPositions: 64, tuning });
  await checkpoint.close();
  const adapter = await readAdapter(`${golden.directory}/adapter`, linearShapes(model.config));
  const weights = await model.addAdapter(adapter, { trainable: true });
  const programs = new LossPrograms(model, { adapter: weights, backward: true });
  const trie = buildTrie(golden.batch);
  const { batch, program } = await programs.prepare(trie);
  const total = trie.edgeWeight.reduce((a, b) => a + b, 0);
  const lossScale = 1024;
  const logprobs = await program.run(batch, { gradScale: lossScale / total, dropout: 0, seed: 0 });
  const loss = -logprobs.reduce((sum, logprob, i) => sum + logprob * trie.edgeWeight[i], 0) / total;
  expect(Math.abs(loss / golden.loss - 1)).toBeLessThan(lossTolerance[tier]);
  const gradients = await weights.downloadGradients();
  const errors: Record<string, number> = {};
  let worst = 0;
  for (const [path, pair] of gradients) {
    for (const matrix of ['A', 'B'] as const) {
      const [, layer, rest] = /^model\.layers\.(\d+)\.(.*)$/.exec(path)!;
      const expected = golden.gradients.get(loraName(Number(layer), rest, matrix))!;
      const actual = Float64Array.from(pair[matrix], (g) => g / lossScale);
      errors[`${path}.${matrix}`] = relativeError(actual, expected);
      worst = Math.max(worst, errors[`${path}.${matrix}`]);
    }
  }
  if (process.env.LEXALIGN_SHOW_ERRORS) console.log(name, tier, 'worst gradient', worst);
  expect(worst, JSON.stringify(errors)).toBeLessThan(gradientTolerance[tier]);
}

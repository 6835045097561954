import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadMiniNorms } from '../../datasets/mini-norms.js';
import { modelLayout } from '../../models/index.js';
import { buildExamples } from '../../src/batch/examples.js';
import { neededLength } from '../../src/batch/order.js';
import { packMicroBatches } from '../../src/batch/pack.js';
import { buildTrie } from '../../src/batch/trie.js';
import type { Example } from '../../src/batch/types.js';
import { openCheckpoint } from '../../src/formats/checkpoint.js';
import { initialAdapter } from '../../src/model/adapter.js';
import { LanguageModel } from '../../src/model/language-model.js';
import { LossPrograms } from '../../src/model/loss-program.js';
import { createRandom } from '../../src/random.js';
import { askMessages, joinAssociates, LEXI_BASE_PROMPTS } from '../../src/text/prompts.js';
import { loadTokenizer } from '../../src/text/tokenizer.js';
import { openTestGpu, type TestGpu } from '../gpu.js';
import { writeRandomCheckpoint } from '../random-checkpoint.js';
import { type GoldenModel, gradientsOf, oneByOne, train, worstError } from './helpers.js';

const lexiBase = join(import.meta.dirname, '../../models/lexi-base');
const directory = mkdtempSync(join(tmpdir(), 'lexalign-sharing-'));
let gpu: TestGpu;
let examples: Example[];

/** 200 cues × 30 single associates, a row each, as the demo asks for them. */
async function singleAssociates(): Promise<Example[]> {
  const { cues } = loadMiniNorms('en');
  const words = [...new Set(cues.flatMap(({ responses }) => responses.map(({ word }) => word)))];
  const prompt = LEXI_BASE_PROMPTS.en;
  const rows = cues.slice(0, 200).flatMap(({ cue }, c) =>
    Array.from({ length: 30 }, (_, i) => {
      const answer = joinAssociates(prompt, [words[(31 * c + i) % words.length]]);
      const messages = [...askMessages(prompt, cue, 1), { role: 'assistant', content: answer }];
      return { kind: 'messages' as const, messages, weight: 1, where: `row ${30 * c + i}` };
    }),
  );
  const tokenizer = await loadTokenizer(lexiBase);
  return (await buildExamples(rows, { tokenizer, vocabSize: 8192, maxLength: 64, overlong: 'error' })).examples;
}

beforeAll(async () => {
  gpu = await openTestGpu();
  examples = await singleAssociates();
});
afterAll(async () => {
  rmSync(directory, { recursive: true });
  await gpu.close();
});

async function open(path: string): Promise<GoldenModel> {
  const checkpoint = await openCheckpoint(path, modelLayout);
  const model = await LanguageModel.load(gpu.device, gpu.kernels, checkpoint, { tier: 'f32', maxPositions: 64 });
  await checkpoint.close();
  const random = createRandom(1);
  const config = { r: 8, alpha: 16, dropout: 0, useRslora: false, targetModules: ['q_proj', 'v_proj'] };
  const adapter = initialAdapter(model.config, config, () => random.uint32() / 2 ** 32);
  // B is zero at first, which would leave A without a gradient.
  for (const { B } of adapter.tensors.values()) B.set(B.map(() => random.below(1000) / 10_000 - 0.05));
  return { model, adapter, weights: await model.addAdapter(adapter, { trainable: true }) };
}

/** Distinct prefixes that predict something, counted one by one. */
function distinctPrefixes(rows: readonly Example[]): number {
  const prefixes = new Set<string>();
  for (const row of rows)
    for (let length = 1; length <= neededLength(row); length++) prefixes.add(row.ids.slice(0, length).join());
  return prefixes.size;
}

describe('6,000 rows of single associates to 200 cues', () => {
  it('compute each distinct prefix of a micro-batch once: under a fifth of the padded rows', async () => {
    expect(examples.length).toBe(6000);
    const path = join(directory, 'tiny');
    await writeRandomCheckpoint(path, { hidden: 16, layers: 1, heads: 1, kvHeads: 1, intermediate: 32, vocab: 8192 });
    const opened = await open(path);
    const batchSize = 1500;
    const microBatchTokens = 1024;
    const { steps } = await train(opened, { train: examples }, { batchSize, microBatchTokens, shuffle: false });
    expect(steps.length).toBe(4);
    let padded = 0;
    for (const [i, step] of steps.entries()) {
      const rows = examples.slice(i * batchSize, (i + 1) * batchSize);
      const batches = packMicroBatches(rows, microBatchTokens).map((indices) => indices.map((at) => rows[at]));
      expect(batches.flat().length).toBe(batchSize);
      expect(step.micro_batches).toBe(batches.length);
      expect(step.tokens).toBe(batches.reduce((sum, batch) => sum + distinctPrefixes(batch), 0));
      padded += batchSize * Math.max(...rows.map(({ ids }) => ids.length));
      expect(step.padded_tokens).toBe(batchSize * Math.max(...rows.map(({ ids }) => ids.length)));
      expect(step.equivalent_tokens).toBe(rows.reduce((sum, { ids }) => sum + ids.length, 0));
      expect(step.equivalent_tokens_per_second / step.tokens_per_second).toBeCloseTo(
        step.equivalent_tokens / step.tokens,
      );
    }
    const computed = steps.reduce((sum, { tokens }) => sum + tokens, 0);
    expect(computed).toBeLessThan(padded / 5);
    console.log(`${computed} tokens computed, ${padded} padded (${((100 * computed) / padded).toFixed(1)} %)`);
  });

  it('have the loss and gradients that they have one by one, on lexi-base', async () => {
    const opened = await open(lexiBase);
    const programs = new LossPrograms(opened.model, { adapter: opened.weights, backward: true });
    const subset = examples.filter((_, i) => i % 30 < 6).slice(0, 14);
    const shared = await gradientsOf(opened, programs, [buildTrie(subset)]);
    const apart = await gradientsOf(opened, programs, oneByOne(subset));
    expect(Math.abs(shared.loss / apart.loss - 1)).toBeLessThan(1e-5);
    const { error, where } = worstError(shared, apart);
    expect(error, where).toBeLessThan(1e-4);
    programs.destroy();
  });
});

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
import { type Example, unsupervised } from '../../src/batch/types.js';
import type { Adapter } from '../../src/formats/adapter.js';
import { openCheckpoint } from '../../src/formats/checkpoint.js';
import { initialAdapter } from '../../src/model/adapter.js';
import { LanguageModel } from '../../src/model/language-model.js';
import { LossPrograms } from '../../src/model/loss-program.js';
import { createRandom } from '../../src/random.js';
import { askMessages, joinAssociates, LEXI_BASE_PROMPTS } from '../../src/text/prompts.js';
import { loadModel } from '../golden.js';
import { openTestGpu, type TestGpu } from '../gpu.js';
import { writeRandomCheckpoint } from '../random-checkpoint.js';
import { headOf, type ReferenceAdapter, type ReferenceModel, runDecoder } from '../reference/decoder.js';
import { linearCrossEntropy } from '../reference/linear-cross-entropy.js';
import { loadTokenizer } from '../text/shared.js';
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

/** The same examples with their token ids numbered without gaps, and how many there are: a small head does then. */
function renumber(rows: readonly Example[]): [Example[], number] {
  const ids = new Map([...new Set(rows.flatMap((row) => [...row.ids]))].map((id, i) => [id, i]));
  const dense = (list: Int32Array) => list.map((id) => ids.get(id) ?? unsupervised);
  return [rows.map((row) => ({ ...row, ids: dense(row.ids), labels: dense(row.labels) })), ids.size];
}

function referenceAdapter({ config, tensors }: Adapter): ReferenceAdapter {
  const named = [...tensors].flatMap(([path, { A, B }]) =>
    Object.entries({ A, B }).map(
      ([matrix, values]) => [`base_model.model.${path}.lora_${matrix}.weight`, Float64Array.from(values)] as const,
    ),
  );
  return { r: config.r, scale: config.alpha / config.r, tensors: new Map(named) };
}

/** Summed loss of one row as a plain sequence. */
function lossAlone(model: ReferenceModel, adapter: ReferenceAdapter, { ids, labels }: Example): number {
  const chain = { tokens: Uint32Array.from(ids), positions: Uint32Array.from(ids.keys()) };
  const { hidden } = runDecoder(model, adapter, { ...chain, subtreeEnd: new Uint32Array(ids.length).fill(ids.length) });
  const targets = [...labels.keys()].filter((i) => i > 0 && labels[i] !== unsupervised);
  const edges = { row: targets.map((i) => i - 1), target: targets.map((i) => labels[i]), weight: targets.map(() => 1) };
  return linearCrossEntropy(hidden, headOf(model), model.config.hiddenSize, edges, 1).loss;
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

  it('have the loss, row by row, that float64 gives each row alone', async () => {
    const [rows, vocab] = renumber(examples);
    const path = join(directory, 'dense');
    await writeRandomCheckpoint(path, { hidden: 8, layers: 2, heads: 2, kvHeads: 1, intermediate: 16, vocab });
    const { model, adapter, weights } = await open(path);
    const programs = new LossPrograms(model, { adapter: weights, backward: false });
    const shared = new Float64Array(rows.length);
    for (const indices of packMicroBatches(rows, 1024)) {
      const trie = buildTrie(indices.map((at) => rows[at]));
      const { batch, program } = await programs.prepare(trie);
      const logprobs = await program.run(batch, { gradScale: 0, dropout: 0, seed: 0 });
      for (const [i, edges] of trie.edgeOf.entries())
        for (const edge of edges) if (edge >= 0) shared[indices[i]] -= logprobs[edge];
    }
    programs.destroy();
    const reference = loadModel(path);
    const lora = referenceAdapter(adapter);
    const alone = rows.map((row) => lossAlone(reference, lora, row));
    expect(alone.length).toBe(6000);
    expect(Math.max(...alone.map((loss, i) => Math.abs(loss - shared[i])))).toBeLessThan(1e-4);
    const tokens = rows.reduce((sum, { labels }) => sum + labels.filter((label) => label !== unsupervised).length, 0);
    const mean = (losses: Iterable<number>) => [...losses].reduce((sum, loss) => sum + loss, 0) / tokens;
    expect(Math.abs(mean(shared) / mean(alone) - 1)).toBeLessThan(1e-5);
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

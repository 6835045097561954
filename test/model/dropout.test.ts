import { afterAll, beforeAll, expect, it } from 'vitest';
import { buildTrie } from '../../src/batch/trie.js';
import type { LoraPair } from '../../src/formats/adapter.js';
import { LossPrograms } from '../../src/model/loss-program.js';
import { loadGolden } from '../golden.js';
import { openTestGpu, type TestGpu } from '../gpu.js';
import { clearGradients, openGolden } from '../train/helpers.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

/** Sum over the numbers of two adapters' matrices of that kind. */
function dot(a: ReadonlyMap<string, LoraPair>, b: ReadonlyMap<string, LoraPair>, kind: 'A' | 'B'): number {
  let sum = 0;
  for (const [path, pair] of a) {
    const other = b.get(path)![kind];
    for (const [i, value] of pair[kind].entries()) sum += value * other[i];
  }
  return sum;
}

// Masks are drawn from the seed, so the loss under one seed is a function of the adapter that can be differentiated.
it.each([
  ['A', 0],
  ['B', 0],
  ['A', 0.4],
  ['B', 0.4],
] as const)('the gradient of lora_%s is that of the loss, masks and all: dropout %d', async (kind, dropout) => {
  const { model, adapter, weights } = await openGolden(gpu, 'qwen2', 'f32', dropout);
  const programs = new LossPrograms(model, { adapter: weights, backward: true });
  const trie = buildTrie(loadGolden('qwen2').batch);
  const total = trie.edgeWeight.reduce((a, b) => a + b, 0);
  const { batch, program } = await programs.prepare(trie);
  const lossOf = async (gradScale: number) => {
    const logprobs = await program.run(batch, { gradScale, dropout, seed: 3 });
    return -logprobs.reduce((sum, logprob, i) => sum + logprob * trie.edgeWeight[i], 0) / total;
  };
  clearGradients({ model, weights });
  await lossOf(1 / total);
  const gradient = await weights.downloadGradients();
  const slope = Math.sqrt(dot(gradient, gradient, kind));
  /** The loss a way along the gradient. */
  const lossAt = async (way: number) => {
    const tensors = new Map(
      [...adapter.tensors].map(([path, pair]) => {
        const direction = gradient.get(path)![kind];
        return [path, { ...pair, [kind]: pair[kind].map((value, i) => value + (way * direction[i]) / slope) }];
      }),
    );
    await model.setAdapter(weights, { config: weights.config, tensors });
    return lossOf(0);
  };
  const way = 5e-3 / slope;
  const rise = (await lossAt(way)) - (await lossAt(-way));
  expect(Math.abs(rise / (2 * way * slope) - 1)).toBeLessThan(0.01);
  programs.destroy();
  weights.destroy();
});

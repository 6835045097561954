import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildTrie } from '../../src/batch/trie.js';
import { LossPrograms } from '../../src/model/loss-program.js';
import { type GoldenCase, loadGolden } from '../golden.js';
import { modelTiers, openTestGpu, type TestGpu } from '../gpu.js';
import { needsTier } from '../skip.js';
import { clearGradients, flatten, type GoldenModel, openGolden } from '../train/helpers.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

/** Gradients of a golden batch, all transient memory full of NaN before the run, and bytes of that memory. */
async function gradients({ model, weights }: GoldenModel, name: GoldenCase, recompute: number, dropout: number) {
  const { device } = model;
  const programs = new LossPrograms(model, { adapter: weights, backward: true, recompute });
  const { batch, program } = await programs.prepare(buildTrie(loadGolden(name).batch));
  clearGradients({ model, weights });
  const { plan } = program.program;
  for (const buffer of model.pool.acquire(plan.slots))
    device.gpu.queue.writeBuffer(buffer, 0, new Uint32Array(buffer.size / 4).fill(0x7fff7fff));
  const logprobs = await program.run(batch, { gradScale: 16, dropout, seed: 3 });
  const values = flatten({ config: weights.config, tensors: await weights.downloadGradients() });
  programs.destroy();
  return { logprobs, values, bytes: plan.bytes };
}

// Norms of q and k, windows, and dropout whose masks are drawn again.
describe.each([
  ['qwen3', 0],
  ['mistral', 0],
  ['qwen2', 0.3],
] as const)('layers computed again in the backward pass, %s with dropout %d', (name, dropout) => {
  it.each(modelTiers)('leave gradients the same, bit for bit, in less memory, %s', async (tier) => {
    needsTier(gpu.device, tier);
    const opened = await openGolden(gpu, name, tier, dropout);
    const { layers } = opened.model.config;
    const kept = await gradients(opened, name, 0, dropout);
    expect(kept.values.every(Number.isFinite)).toBe(true);
    expect(kept.values.some((value) => value !== 0)).toBe(true);
    for (const recompute of [1, layers]) {
      const again = await gradients(opened, name, recompute, dropout);
      expect(again.values).toEqual(kept.values);
      expect(again.logprobs).toEqual(kept.logprobs);
      if (recompute === layers) expect(again.bytes).toBeLessThan(kept.bytes);
    }
  });
});

it('draws masks: dropout changes the gradients that the tests above compare', async () => {
  const opened = await openGolden(gpu, 'qwen2', 'f32', 0.3);
  const dropped = await gradients(opened, 'qwen2', 2, 0.3);
  expect(dropped.values).not.toEqual((await gradients(opened, 'qwen2', 2, 0)).values);
});

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { llamaConfig, randomCheckpoint } from '../../bench/random-checkpoint.js';
import { benchRollout } from '../../bench/rollout.js';
import { formatRows } from '../../bench/rows.js';
import { quantised } from '../../src/cli/session.js';
import { LanguageModel } from '../../src/model/language-model.js';
import { openTestGpu, type TestGpu } from '../gpu.js';
import { needsTier } from '../skip.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

const shape = { hidden: 64, layers: 2, heads: 2, kvHeads: 1, ffn: 128, vocab: 96 };
const layer = 64 * 64 + 2 * 32 * 64 + 64 * 64 + 3 * 64 * 128;
const head = 64 * 96;

describe('benchRollout', () => {
  it.each(['none', 'nf4'] as const)('counts the work of prompts and of steps, weights %s', async (quantize) => {
    needsTier(gpu.device, 'f16');
    const checkpoint = quantised(randomCheckpoint(llamaConfig(shape)), quantize);
    const model = await LanguageModel.load(gpu.device, gpu.kernels, checkpoint, { tier: 'f16', maxPositions: 11 });
    const { rows } = await benchRollout(gpu, {
      ...{ tier: 'f16', quantize, model, batches: [3], length: 5, newTokens: 6 },
    });
    expect(rows.map(({ operation, shape }) => [operation, shape])).toEqual([
      ['prompts', '3 x 5+6'],
      ['step', '3 x 5+6'],
    ]);
    const [prompts, step] = rows;
    for (const row of rows)
      expect(Math.min(row.median_ms, row.gflops, row.gbps, row.tokens_per_second!)).toBeGreaterThan(0);
    expect(prompts.gflops * prompts.median_ms * 1e6).toBeCloseTo(2 * (2 * layer * 15 + head * 3), -1);
    expect(step.gflops * step.median_ms * 1e6).toBeCloseTo(2 * (2 * layer + head) * 3, -1);
    expect((prompts.tokens_per_second! * prompts.median_ms) / 1000).toBeCloseTo(15);
    expect((step.tokens_per_second! * step.median_ms) / 1000).toBeCloseTo(3);
    expect(step.host_ms).toBeGreaterThan(0);
    // Medians both: where the host takes most of a step, either may be the greater, on a busy machine by a good deal.
    expect(step.host_ms).toBeLessThan(5 * step.median_ms);
    // Norms are in 32 bits; the linear layers in 16, or in 4 with a scale for 64 numbers.
    const weights = 2 * (quantize === 'none' ? 2 * layer : (2 * layer) / 4 + (2 * layer) / 32) + 2 * head + 4 * 64 * 5;
    expect(prompts.gbps * prompts.median_ms * 1e6).toBeCloseTo(weights, 0);
    // Steps 2 to 6 see 6 to 10 tokens of 3 sequences, each with a key and a value of 32 halves in 2 layers.
    expect(step.gbps * step.median_ms * 1e6).toBeCloseTo(weights + 8 * 3 * 2 * 2 * 32 * 2, 0);
    expect(formatRows(rows)[0]).toMatch(/tokens\/s \| host ms \|$/);
  });

  it('says so where no step has all sequences going', async () => {
    needsTier(gpu.device, 'f16');
    const checkpoint = randomCheckpoint(llamaConfig(shape));
    const model = await LanguageModel.load(gpu.device, gpu.kernels, checkpoint, { tier: 'f16', maxPositions: 21 });
    const measured = benchRollout(gpu, {
      ...{ tier: 'f16', quantize: 'none', model, batches: [400], length: 18, newTokens: 3 },
    });
    await expect(measured).rejects.toThrow(/of 400 prompts of 18 tokens the first have their 3 new ones before/);
  });
});

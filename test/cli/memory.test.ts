import { describe, expect, it } from 'vitest';
import {
  type Checkpointing,
  chooseFastest,
  describePlan,
  formatBytes,
  type MemoryLimit,
  microBatchSizes,
  parseBytes,
  planRun,
} from '../../src/cli/memory.js';
import { planModel } from '../../src/cli/plan-model.js';
import { typicalTarget } from '../../src/cli/plan-target.js';
import { UsageError } from '../../src/errors.js';
import type { TrainingMemory } from '../../src/model/training-memory.js';

const gib = 2 ** 30;

describe('microBatchSizes', () => {
  it('falls from the largest to the longest row', () => {
    expect(microBatchSizes({ longest: 200, fill: 1e6 })).toEqual([
      8192, 6144, 4096, 3072, 2048, 1536, 1024, 768, 512, 384, 256, 200,
    ]);
    expect(microBatchSizes({ longest: 256, fill: 1e6 }, 1024)).toEqual([1024, 768, 512, 384, 256]);
  });

  it('goes no higher than the data can fill', () => {
    expect(microBatchSizes({ longest: 40, fill: 150 })).toEqual([150, 128, 96, 64, 40]);
    expect(microBatchSizes({ longest: 7, fill: 7 })).toEqual([7]);
  });

  it('is never less than the longest row', () => {
    expect(microBatchSizes({ longest: 1500, fill: 1e6 }, 1024)).toEqual([1500]);
    expect(microBatchSizes({ longest: 10_000, fill: 1e6 })).toEqual([10_000]);
    for (let longest = 1; longest < 9000; longest += 97) {
      for (const fill of [longest, 2 * longest, 1e5]) {
        const sizes = microBatchSizes({ longest, fill }, 1024);
        expect(sizes.at(-1)).toBe(longest);
        expect(sizes).toEqual([...new Set(sizes)].sort((a, b) => b - a));
        expect(sizes[0]).toBeLessThanOrEqual(fill);
      }
    }
  });
});

describe('chooseFastest', () => {
  const sizes = [2048, 1024, 512, 256];
  let plans = 0;
  /** A run of 8 layers: 100 bytes of weights, and of each token 1 for each layer kept, ¼ for one computed again. */
  const plan = (tokens: number, recompute: number) => {
    plans++;
    return { total: 100 + tokens * (8 - 0.75 * recompute) } as TrainingMemory;
  };
  const choose = (limit: number | null, checkpointing: Checkpointing = 'auto') => {
    const run = chooseFastest(plan, sizes, { layers: 8, checkpointing, enough: 1024, limit });
    return [run.microBatchTokens, run.recompute, run.fits];
  };

  it('keeps all activations while micro-batches stay large, then computes as few layers again as must be', () => {
    expect(choose(null)).toEqual([2048, 0, true]);
    expect(choose(100 + 2048 * 8)).toEqual([2048, 0, true]);
    expect(choose(99 + 2048 * 8)).toEqual([1024, 0, true]);
    expect(choose(99 + 1024 * 8)).toEqual([1024, 1, true]);
    expect(choose(100 + 1024 * (8 - 0.75 * 5))).toEqual([1024, 5, true]);
    expect(choose(100 + 1024 * 2)).toEqual([1024, 8, true]);
    expect(choose(99 + 1024 * 2)).toEqual([512, 6, true]);
    expect(choose(100 + 256 * 2)).toEqual([256, 8, true]);
    expect(choose(99 + 256 * 2)).toEqual([256, 8, false]);
  });

  it('holds against the limit what stands beside the training too', () => {
    const beside = ({ total }: TrainingMemory) => 50 + total / 10;
    const whole = (limit: number) =>
      chooseFastest(plan, [1024, 512], { layers: 8, checkpointing: 'off', enough: 256, limit, beside });
    const [large, small] = [100 + 1024 * 8, 100 + 512 * 8].map((total) => 1.1 * total + 50);
    expect(whole(large)).toMatchObject({ microBatchTokens: 1024, fits: true });
    expect(whole(large - 1)).toMatchObject({ microBatchTokens: 512, fits: true });
    expect(whole(small - 1)).toMatchObject({ microBatchTokens: 512, fits: false });
  });

  it('computes none or all again where it is told to', () => {
    expect(choose(99 + 1024 * 8, 'off')).toEqual([512, 0, true]);
    expect(choose(99 + 256 * 8, 'off')).toEqual([256, 0, false]);
    expect(choose(null, 'on')).toEqual([2048, 8, true]);
    expect(choose(99 + 2048 * 2, 'on')).toEqual([1024, 8, true]);
    expect(choose(100 + 512 * 2, 'on')).toEqual([512, 8, true]);
  });

  it('plans few runs', () => {
    plans = 0;
    choose(99 + 512 * 8);
    expect(plans).toBeLessThanOrEqual(sizes.length + 5);
  });
});

describe('a plan for a GPU', () => {
  const adapter = { r: 8, alpha: 16, dropout: 0, useRslora: false, targetModules: ['q_proj'] };
  const planned = async (limit: number | null, asked = 0, longest = 100) => {
    const { config, packed } = await planModel('qwen2.5-0.5b', 'none');
    const data = { longest, fill: 1e5 };
    const request = { config, packed, adapter, maxLength: longest, asked, checkpointing: 'auto', data } as const;
    return planRun(typicalTarget('auto'), request, limit);
  };

  it('of unknown memory takes no larger micro-batch than keeps it busy, unless asked for', async () => {
    expect(await planned(1e12)).toMatchObject({ microBatchTokens: 8192, recompute: 0 });
    expect(await planned(null)).toMatchObject({ microBatchTokens: 1024, recompute: 0, fits: true });
    expect(await planned(null, 2048)).toMatchObject({ microBatchTokens: 2048 });
    expect(await planned(null, 0, 1500)).toMatchObject({ microBatchTokens: 1500 });
  });

  it('takes no micro-batch whose activations the device cannot bind', async () => {
    const { config, packed } = await planModel('llama-3.1-8b', 'nf4');
    const target = typicalTarget('auto');
    const on = (maxBinding: number, asked: number, longest: number) => {
      const data = { longest, fill: 1e6 };
      const request = { config, packed, adapter, maxLength: longest, asked, checkpointing: 'auto', data } as const;
      return planRun({ ...target, device: { ...target.device, maxBinding } }, request, 1e12);
    };
    // The MLP's activations take 28,672 bytes a token.
    expect(on(2 ** 30, 0, 100)).toMatchObject({ microBatchTokens: 8192 });
    expect(on(2 ** 27, 0, 100)).toMatchObject({ microBatchTokens: 4096 });
    expect(on(4096 * 28_672, 4096, 100)).toMatchObject({ microBatchTokens: 4096 });
    expect(() => on(4096 * 28_672 - 256, 4096, 100)).toThrow(
      'A micro-batch of 4096 tokens needs activations of 117440512 bytes, more than the 117440256 this device binds at once: give fewer --micro-batch-tokens, or shorter rows.',
    );
    expect(() => on(2 ** 27, 0, 5000)).toThrow('A micro-batch of 6144 tokens needs');
  });

  it('says against what it is held', async () => {
    const run = await planned(null);
    const told = (limit: MemoryLimit) => describePlan(run, 24, limit)[0].split('; ')[1];
    expect(told({ bytes: gib, given: true })).toBe('--memory-limit: 1.00 GiB:');
    expect(told({ bytes: gib, given: false, what: 'free on card1' })).toBe('free on card1: 1.00 GiB:');
    expect(told({ bytes: null, given: false })).toMatch(/tells nothing of the card: give --memory-limit/);
  });
});

describe('bytes', () => {
  it('are read in the units people write', () => {
    expect(['8GiB', '7.5 GB', '512mib', '100', '1kb'].map((text) => parseBytes('--memory-limit', text))).toEqual([
      8 * 2 ** 30,
      7.5e9,
      2 ** 29,
      100,
      1000,
    ]);
    for (const text of ['', 'x', '-1GiB', '0', '1TB', '1.2.3GB', '5 GiB of it'])
      expect(() => parseBytes('--memory-limit', text), text).toThrow(UsageError);
  });

  it('are written short', () => {
    expect([512, 3 * 2 ** 20, 1.5 * 2 ** 30].map(formatBytes)).toEqual(['0.5 KiB', '3.0 MiB', '1.50 GiB']);
  });
});

import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { llamaConfig } from '../../bench/random-checkpoint.js';
import { benchSft } from '../../bench/sft.js';
import { openTestGpu, type TestGpu } from '../gpu.js';
import { needsTier } from '../skip.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

it('trains a vocabulary in parts that are bound, and leaves its product out of what a step is compared with', async () => {
  needsTier(gpu.device, 'f16');
  Object.defineProperty(gpu.device, 'maxBinding', { value: 32 << 10, configurable: true });
  onTestFinished(() => {
    Reflect.deleteProperty(gpu.device, 'maxBinding');
  });
  const { rows, summary } = await benchSft(gpu, {
    config: llamaConfig({ hidden: 64, layers: 1, heads: 2, kvHeads: 2, ffn: 128, vocab: 400 }),
    ...{ sequences: 2, length: 8, rank: 8, targetModules: ['q_proj'], tier: 'f16', steps: 1 },
    ...{ profile: false, recompute: false, load: (checkpoint) => checkpoint },
  });
  expect(rows.map(({ shape, variant }) => `${shape} ${variant}`)).toEqual([
    ...['16x64x64 nt', '16x64x64 nn', '16x128x64 nt', '16x64x128 nn', '16x64x128 nt', '16x128x64 nn'],
  ]);
  expect(summary.matmul_parameters).toBe(4 * 64 * 64 + 3 * 64 * 128 + 64 * 400);
});

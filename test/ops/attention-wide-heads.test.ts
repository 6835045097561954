import { afterAll, beforeAll, it } from 'vitest';
import { openTestGpu, type TestGpu } from '../gpu.js';
import { checkAttention, tries } from './attention-check.js';

// Apart from attention.test.ts, because the software driver compiles these kernels for two to three minutes of a core,
// and beside other work for more than the five that a test has.

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

it('attention, matrix units, forward and backward with heads of 128', { timeout: 900_000 }, async () => {
  const shape = { heads: 4, kvHeads: 1, headDim: 128, window: null };
  await checkAttention(gpu, { tier: 'f16', cpu: false, matrix: (own) => own }, tries['random prefixes'], shape);
});

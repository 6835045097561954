import { afterAll, beforeAll, describe, it } from 'vitest';
import type { AttentionShape } from '../../src/ops/attention.js';
import { openTestGpu, type TestGpu, tiers } from '../gpu.js';
import { checkAttention, type Form, range, trie, tries } from './attention-check.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

// Of emulated matrices every size of heads takes the software driver 20 to 60 s to compile, so few sizes serve many cases.
const forms: { name: string; form: Form; headDim: number; shapes: AttentionShape[] }[] = [
  ...tiers.flatMap((tier) =>
    [true, false].map((cpu) => ({
      name: `tier ${tier}, cpu form ${cpu}`,
      form: { tier, cpu },
      headDim: 16,
      shapes: [
        { heads: 1, kvHeads: 1, headDim: 8, window: null },
        { heads: 3, kvHeads: 3, headDim: 20, window: 3 },
        { heads: 8, kvHeads: 2, headDim: 64, window: null },
        { heads: 2, kvHeads: 1, headDim: 80, window: 1 },
        { heads: 8, kvHeads: 1, headDim: 128, window: null },
      ],
    })),
  ),
  {
    name: 'matrix units',
    form: { tier: 'f16', cpu: false, matrix: (own) => own },
    headDim: 24,
    // Wider heads are in vendor-numerics.test.ts, in the shapes of cards: of 8x8x8 they would compile for minutes.
    shapes: [
      { heads: 3, kvHeads: 3, headDim: 24, window: 3 },
      { heads: 8, kvHeads: 2, headDim: 64, window: null },
    ],
  },
  {
    name: "matrix units with few registers, as Intel's",
    form: { tier: 'f16', cpu: false, matrix: (own) => own && { ...own, family: 'intel' } },
    headDim: 32,
    shapes: [{ heads: 3, kvHeads: 3, headDim: 32, window: 3 }],
  },
];

describe.each(forms)('attention, $name', ({ form, headDim, shapes }) => {
  it.each(Object.keys(tries))('forward and backward over %s', async (name) => {
    for (const window of [null, 5])
      await checkAttention(gpu, form, tries[name], { heads: 2, kvHeads: 1, headDim, window });
  });

  it.each(shapes)('forward and backward with %o', async (shape) => {
    await checkAttention(gpu, form, tries['random prefixes'], shape);
  });

  it('fills its capacity to the last row', async () => {
    await checkAttention(
      gpu,
      form,
      tries['a binary tree of depth 6'],
      { heads: 2, kvHeads: 1, headDim, window: null },
      { spare: 0 },
    );
    await checkAttention(gpu, form, trie([range(64)]), { heads: 2, kvHeads: 1, headDim, window: 20 }, { spare: 0 });
  });

  it('leaves whole blocks of spare rows alone', async () => {
    await checkAttention(
      gpu,
      form,
      tries['one chain of 17'],
      { heads: 2, kvHeads: 1, headDim, window: null },
      { spare: 79 },
    );
  });

  it('weighs scores of hundreds without overflow', async () => {
    const shape = { heads: 2, kvHeads: 1, headDim, window: null };
    // Where one key takes nearly all weight, p·(dp − do·o) of dq and dk cancels: rounding o to 16 bits, 1.2e-4 of it,
    // is 1.6e-3 of dq in every form, and weights rounded to 16 bits for matrix units, 1.6e-4 of o, are 2.1e-3.
    await checkAttention(gpu, form, tries['one chain of 70'], shape, {
      deviation: 40,
      cancelling: form.tier === 'f16' ? 1.5 : 1,
    });
  });
});

describe.each([
  { BLOCK: 32, ROWS: 16, HELD: 0 },
  { BLOCK: 64, ROWS: 64, HELD: 1 },
  { BLOCK: 128, ROWS: 32, HELD: 1 },
] as const)('attention on matrix units, tuned to %o', (settings) => {
  it('forward and backward', async () => {
    const form: Form = { tier: 'f16', cpu: false, matrix: (own) => own, settings };
    for (const window of [null, 5]) {
      const shape = { heads: 2, kvHeads: 1, headDim: 16, window };
      await checkAttention(gpu, form, tries['long branches off a long chain'], shape);
      await checkAttention(gpu, form, trie([range(150)]), shape);
    }
  });
});

import { afterAll, beforeAll, expect, it } from 'vitest';
import { largestTensor } from '../../bench/kernels/matmul.js';
import { tuneMatmul } from '../../bench/tune.js';
import { tuneAttention } from '../../bench/tune-attention.js';
import { kernelSource } from '../../src/cli/kernel-source.js';
import { KernelCache } from '../../src/gpu/kernels.js';
import { tensorTile } from '../../src/ops/matmul-tile.js';
import {
  attentionClass,
  attentionSettings,
  isSettings,
  neighbours,
  productClass,
  tunedBy,
} from '../../src/ops/tuning.js';
import { openTestGpu, type TestGpu } from '../gpu.js';
import { noMatrices, skip } from '../skip.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

const shape = { form: 'nt', m: 40, n: 72, k: 64, packed: null } as const;
const tile = { GM: 1, GN: 2, TM: 2, TN: 1, BK: 16, PAD: 1, STAGES: 1, GROUP: 1, UNPACK: 0, TURN: 0 } as const;

it('finds settings that beat the default, and gives them to products of their class', async () => {
  const [matrix] = gpu.device.matrixUnits;
  if (!matrix) skip(noMatrices);
  // Tiles begin with idle turns: that the register form is twice as fast on CPU cores is lost in the noise of busy ones.
  const slow = new KernelCache(gpu.device, (path) => {
    const text = kernelSource()(path);
    if (path !== 'matmul-tensor.wgsl') return text;
    return text.replace(
      '  let live =',
      `  for (var turn = 0u; turn < 10000u; turn++) { workgroupBarrier(); }\n  let live =`,
    );
  });
  const tuned = await tuneMatmul({ ...gpu, kernels: slow }, matrix, shape);
  expect(tuned).toMatchObject({ class: '8x8x8 of f16, nt f16 64x128x64', settings: 'registers' });
  expect(tuned!.gain).toBeGreaterThan(1.03);
  const lookup = tunedBy(new Map([[tuned!.class, tuned!.settings]]), matrix).tuned!;
  expect(lookup({ ...shape, dtype: 'f16', m: 33, n: 65, rank: 0 })).toBe('registers');
  expect(lookup({ ...shape, dtype: 'f16', m: 32, rank: 0 })).toBeUndefined();
});

it('weighs unpacking a packed matrix as it is staged against unpacking it before', async () => {
  const [matrix] = gpu.device.matrixUnits;
  if (!matrix) skip(noMatrices);
  const tuned = await tuneMatmul(gpu, matrix, { ...shape, packed: { format: 'nf4', ordered: true } }, 3);
  if (tuned) expect(tuned.class).toBe('8x8x8 of f16, nt nf4 64x128x64');
});

it('weighs the form for few rows against tiles', async () => {
  const asOnGpu = await openTestGpu({ cpu: false });
  const [matrix] = asOnGpu.device.matrixUnits;
  try {
    if (!matrix) skip(noMatrices);
    const few = { form: 'nt', m: 4, n: 32, k: 64, packed: null } as const;
    const tuned = await tuneMatmul(asOnGpu, matrix, few, 0);
    // What is chosen unmeasured is no finding.
    if (tuned) expect(tuned.settings).not.toBe('rows');
    // Where only that form computes rightly it cannot lose.
    const wrong = new KernelCache(asOnGpu.device, (path) => {
      const text = kernelSource()(path);
      return path === 'matmul-rows.wgsl' ? text : text.replace(/store\((.*)\);/g, 'store($1 * 1.01);');
    });
    expect(await tuneMatmul({ ...asOnGpu, kernels: wrong }, matrix, few, 0)).toBeNull();
  } finally {
    await asOnGpu.close();
  }
});

it('refuses what computes another result, and goes on over the neighbours', async () => {
  const [matrix] = gpu.device.matrixUnits;
  if (!matrix) skip(noMatrices);
  const wrong = new KernelCache(gpu.device, (path) => {
    const text = kernelSource()(path);
    return path === 'matmul-direct.wgsl' ? text.replace(/store\((.*)\);/g, 'store($1 * 1.01);') : text;
  });
  const tuned = await tuneMatmul({ ...gpu, kernels: wrong }, matrix, shape, 4);
  expect(tuned?.settings).not.toBe('registers');
  if (tuned)
    expect(tensorTile(matrix, { ...shape, dtype: 'f16', rank: 16 }, tuned.settings as typeof tile)).not.toBeNull();
});

it('finds settings of attention that beat the default, unless they compute another result', async () => {
  const asOnGpu = await openTestGpu({ cpu: false });
  const [matrix] = asOnGpu.device.matrixUnits;
  try {
    if (!matrix) skip(noMatrices);
    const shape = { heads: 2, kvHeads: 1, headDim: 8, window: null };
    const candidates = [{ BLOCK: 32, ROWS: 32, HELD: 1 }] as const;
    const search = (edit: (text: string) => string) => {
      const kernels = new KernelCache(asOnGpu.device, (path) => {
        const text = kernelSource()(path);
        return path === 'attention-tensor.wgsl' ? edit(text) : text;
      });
      return tuneAttention({ ...asOnGpu, kernels }, matrix, shape, 70, candidates);
    };
    // The default's blocks of 64 rows begin with idle turns.
    const slow = (text: string) =>
      text.replace(
        '  let own0 =',
        `  for (var turn = 0u; turn < \${BLOCK == 64 ? 1500 : 0}u; turn++) { workgroupBarrier(); }\n  let own0 =`,
      );
    const tuned = await search(slow);
    expect(tuned).toMatchObject({ class: '8x8x8 of f16, attention of 8', settings: candidates[0], tried: 2 });
    expect(tuned!.gain).toBeGreaterThan(1.03);
    expect(tuned!.class).toBe(attentionClass(matrix, 8));
    const { tunedAttention } = tunedBy(new Map([[tuned!.class, tuned!.settings]]), matrix);
    expect([tunedAttention!(8), tunedAttention!(32)]).toEqual([candidates[0], undefined]);
    const wrong = (text: string) =>
      slow(text).replace('vec4<f16>(bitcast', `vec4<f16>(\${BLOCK == 32 ? 1.01 : 1} * bitcast`);
    expect(await search(wrong)).toBeNull();
  } finally {
    await asOnGpu.close();
  }
});

it('knows settings of attention from those of products', () => {
  const all = attentionSettings();
  expect(all).toHaveLength(18);
  for (const settings of all) {
    expect(isSettings('16x16x16 of f16, attention of 128', settings)).toBe(true);
    expect(isSettings('16x16x16 of f16, nt f16 64x128x64', settings)).toBe(false);
  }
  expect(isSettings('16x16x16 of f16, attention of 128', tile)).toBe(false);
  expect(isSettings('16x16x16 of f16, attention of 128', { ...all[0], BLOCK: 48 })).toBe(false);
});

it('knows which products of a vocabulary pass what is bound at once', () => {
  const most = 2 ** 31 - 256; // of Dawn on NVIDIA
  const head = { m: 4096, n: 152064, k: 3584, packed: null };
  expect(largestTensor(head, 'f16')).toBe(2 * 4096 * 152064);
  expect(largestTensor(head, 'f16')).toBeLessThan(most);
  expect(largestTensor(head, 'f16', 'f32')).toBeGreaterThan(most);
  expect(largestTensor({ ...head, m: 16 }, 'f32')).toBe(4 * 152064 * 3584);
  expect(largestTensor({ m: 8, n: 4, k: 16, packed: null }, 'f16')).toBe(2 * 8 * 16);
  // A packed matrix is unpacked in parts that are bound.
  expect(largestTensor({ ...head, m: 16, packed: 'nf4' }, 'f32')).toBe((152064 * 3584) / 2);
});

it('walks from settings to those that differ in one parameter, all of which a file may hold', () => {
  const near = neighbours(tile).flat();
  expect(near.length).toBeGreaterThan(15);
  for (const settings of near) {
    const differing = Object.entries(settings).filter(([name, value]) => value !== tile[name as keyof typeof tile]);
    expect(differing).toHaveLength(1);
    expect(isSettings('8x8x8 of f16, nt f16 64x128x64', settings)).toBe(true);
  }
});

it.each([[null], ['tensor'], [{ ...tile, TM: 3 }], [{ ...tile, extra: 1 }], [{ TM: 1 }], [[]]])(
  'knows that %j are no settings',
  (value) => expect(isSettings('8x8x8 of f16, nt f16 64x128x64', value)).toBe(false),
);

it('tells classes apart by units, form, type and powers of 2', () => {
  const units = { m: 16, n: 16, k: 16, operand: 'f16' } as Parameters<typeof productClass>[0];
  expect(productClass(units, { form: 'nn', dtype: 'f16', m: 513, n: 4096, k: 14336, rank: 16, packed: null })).toBe(
    '16x16x16 of f16, nn f16 1024x4096x16384',
  );
  expect(
    productClass(units, {
      form: 'nt',
      dtype: 'f16',
      m: 9,
      n: 64,
      k: 64,
      rank: 16,
      packed: { format: 'nf4', ordered: true },
    }),
  ).toBe('16x16x16 of f16, nt nf4 16x64x64');
});

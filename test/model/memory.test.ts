import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { llamaConfig, llamaConfigJson } from '../../bench/random-checkpoint.js';
import { writeRandomCheckpoint as write } from '../../bench/write-random-checkpoint.js';
import { modelLayout } from '../../models/index.js';
import { rowBucket } from '../../src/batch/pack.js';
import type { Example } from '../../src/batch/types.js';
import { openCheckpoint } from '../../src/formats/checkpoint.js';
import type { DeviceShape } from '../../src/gpu/device.js';
import { Tensor } from '../../src/gpu/tensor.js';
import { initialAdapter } from '../../src/model/adapter.js';
import { LanguageModel } from '../../src/model/language-model.js';
import { planTraining } from '../../src/model/training-memory.js';
import { weightBytes, weightsStandIn } from '../../src/model/weights.js';
import { createRandom } from '../../src/random.js';
import { trainSft } from '../../src/train/sft.js';
import { openTestGpu, type TestGpu, type Tier } from '../gpu.js';
import { type CheckpointShape, writeRandomCheckpoint } from '../random-checkpoint.js';
import { needsTier } from '../skip.js';
import { sftDefaults } from '../train/helpers.js';

const directory = mkdtempSync(join(tmpdir(), 'lexalign-memory-'));
const large: CheckpointShape = { hidden: 512, layers: 8, heads: 8, kvHeads: 4, intermediate: 1408, vocab: 4096 };
const small: CheckpointShape = { ...large, layers: 1, vocab: 256 };
let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
  await writeRandomCheckpoint(join(directory, 'small'), small);
  await writeRandomCheckpoint(join(directory, 'large'), large);
});
afterAll(async () => {
  rmSync(directory, { recursive: true });
  await gpu.close();
});

const random = createRandom(3);
const rows: Example[] = Array.from({ length: 8 }, () => {
  const ids = Int32Array.from({ length: 65 }, () => random.below(256));
  return { ids, labels: ids, weight: 1 };
});
const loraConfig = {
  r: 16,
  alpha: 32,
  dropout: 0,
  useRslora: false,
  targetModules: ['q_proj', 'k_proj', 'v_proj', 'o_proj'],
};

/** Loads, trains two steps and evaluates, with micro-batches of several sizes; gives the plan beside what was taken. */
async function run(name: string, tier: Tier, microBatchTokens: number, recompute = 0) {
  const checkpoint = await openCheckpoint(join(directory, name), modelLayout);
  const plan = planTraining(gpu.device, gpu.kernels, checkpoint.config, loraConfig, tier, {
    rows: rowBucket(microBatchTokens),
    maxLength: 128,
    packed: checkpoint.packed,
    recompute,
  });
  const made = gpu.device.allocatedBytes;
  const model = await LanguageModel.load(gpu.device, gpu.kernels, checkpoint, { tier, maxPositions: 128 });
  await checkpoint.close();
  model.pool.acquire(plan.slots);
  const weights = await model.addAdapter(
    initialAdapter(model.config, loraConfig, () => random.uint32() / 2 ** 32),
    { trainable: true },
  );
  let buffers = 0;
  const look = () => {
    buffers = Math.max(buffers, gpu.device.allocatedBytes - made);
  };
  const options = { ...sftDefaults, batchSize: 4, microBatchTokens, recompute };
  await trainSft(model, weights, { train: rows, valid: rows.slice(0, 3) }, options, {
    step: look,
    evaluation: look,
    checkpoint: async () => look(),
    interrupted: () => false,
  });
  return { plan, buffers };
}

describe('the memory plan', () => {
  // What a process grows by, beside the plan, is slow/eight-billion.test.ts's: here it depends on what memory earlier
  // tests gave back.
  it.each<['small' | 'large' | 'packed', Tier, number, number, number?]>([
    ['small', 'f32', 64, 0],
    ['small', 'f32', 100, 1],
    ['small', 'f32', 300, 0],
    ['large', 'f32', 256, 0],
    ['packed', 'f16', 256, 5], // NF4, five layers of eight computed again
    ['packed', 'f16', 64, 5, 400 << 10], // its matrices unpacked in parts, those of the MLP in four
  ])(
    'is never under the sum of buffers made, nor far above it: %s, %s, %d tokens',
    async (name, tier, tokens, again, binding = gpu.device.maxBinding) => {
      needsTier(gpu.device, tier);
      Object.defineProperty(gpu.device, 'maxBinding', { value: binding, configurable: true });
      onTestFinished(() => {
        Reflect.deleteProperty(gpu.device, 'maxBinding');
      });
      if (name === 'packed' && !existsSync(join(directory, name)))
        await write(join(directory, name), llamaConfigJson({ ...large, ffn: large.intermediate }), 'nf4', { seed: 1 });
      const { plan, buffers } = await run(name, tier, tokens, again);
      expect(plan.total).toBeGreaterThanOrEqual(buffers);
      expect(plan.total - (5 << 20)).toBeLessThan(1.1 * buffers);
    },
  );
});

it('plans a vocabulary that passes one binding in the parts it will lie in', () => {
  const config = llamaConfig({ hidden: 64, layers: 1, heads: 4, kvHeads: 2, ffn: 128, vocab: 40_001 });
  const whole = weightsStandIn(config, 'f16', 2 ** 30, new Map());
  expect(whole.head.parts).toMatchObject([{ first: 0, count: 40_001, rows: 40_008, weight: { shape: [40_008, 64] } }]);
  const limit = 2 * 2 ** 20;
  const { parts } = weightsStandIn(config, 'f16', limit, new Map()).head;
  expect(parts.map(({ first, count }) => [first, count])).toEqual([
    [0, 16_384],
    [16_384, 16_384],
    [32_768, 7_233],
  ]);
  for (const { weight } of parts) expect((weight as Tensor).bytes).toBeLessThanOrEqual(limit);

  const layout = { format: 'affine4', n: 40_001, k: 64, group: 512, ordered: true } as const;
  const packed = weightsStandIn(config, 'f16', limit, new Map([['lm_head.weight', layout]]));
  const codesOf = packed.head.parts.map(({ weight, rows }) => [
    rows,
    !(weight instanceof Tensor) && weight.codes.bytes,
  ]);
  expect(codesOf).toEqual([
    [16_384, 16_384 * 32],
    [16_384, 16_384 * 32],
    [7_240, 7_240 * 32],
  ]);
  const half = 40_008 * 64 * 2;
  // 5,001 pairs; buffers are multiples of 16 bytes.
  expect(weightBytes(packed) - weightBytes(whole)).toBe(half / 4 + 5_002 * 8 - half);

  // All parts' logits of a chunk of rows live at once: the plan holds them under the same 128 MiB.
  const { features, matrixUnits, uniformAlign } = gpu.device;
  const split = { features, matrixUnits, uniformAlign, maxBinding: limit };
  const rows = 2048;
  const plan = (device: DeviceShape) =>
    planTraining(device, gpu.kernels, config, { ...loraConfig, targetModules: ['q_proj'] }, 'f16', {
      rows,
      maxLength: 64,
      packed: new Map(),
      recompute: 0,
    });
  const logits = (slots: readonly number[]) => slots.filter((bytes) => bytes > 2 ** 18).reduce((a, b) => a + b, 0);
  expect(logits(plan(split).slots)).toBeLessThan(1.1 * logits(plan(gpu.device).slots));
  expect(logits(plan(gpu.device).slots)).toBeGreaterThan(100 * 2 ** 20);
});

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { modelConfigs } from '../../bench/random-checkpoint.js';
import { writeRandomCheckpoint } from '../../bench/write-random-checkpoint.js';
import { modelLayout } from '../../models/index.js';
import { LINEAR_MODULES } from '../../models/tensors.js';
import { openCheckpoint } from '../../src/formats/checkpoint.js';
import { initialAdapter } from '../../src/model/adapter.js';
import { LanguageModel } from '../../src/model/language-model.js';
import { planTraining } from '../../src/model/training-memory.js';
import { createRandom } from '../../src/random.js';
import { type StepMetrics, trainSft } from '../../src/train/sft.js';
import { openTestGpu } from '../gpu.js';

// Llama-3.1-8B and Qwen2.5-7B in NF4, for real, where device memory is this process's memory: on Linux and the software
// driver, which binds less at once than Qwen's MLP takes unpacked.
//   LEXALIGN_SLOW=/a/directory/with/6/GB npm test -- test/slow/eight-billion.test.ts [-t qwen]
// takes 8 GB of memory and many minutes. Checkpoints that lie in the directory's `llama-3.1-8b-nf4` and `qwen2.5-7b-nf4`
// are used as they are.
const parent = process.env.LEXALIGN_SLOW;
const tokens = 64;
const tier = 'f16';

const scratch: string[] = [];
afterAll(() => {
  for (const directory of scratch) rmSync(directory, { recursive: true });
});

/** A figure of /proc/self/status, bytes: resident memory now (VmRSS), or its peak since the last reset (VmHWM). */
function memory(field: 'VmRSS' | 'VmHWM'): number {
  const [, kilobytes] = new RegExp(`${field}:\\s+(\\d+) kB`).exec(readFileSync('/proc/self/status', 'utf8'))!;
  return 1024 * Number(kilobytes);
}

function resetPeak(): void {
  writeFileSync('/proc/self/clear_refs', '5');
}

async function checkpointDirectory(name: string): Promise<string> {
  const ready = join(parent!, `${name}-nf4`);
  const found = await openCheckpoint(ready, modelLayout).catch(() => null);
  await found?.close();
  if (found) return ready;
  const made = mkdtempSync(join(parent ?? tmpdir(), 'lexalign-8b-'));
  scratch.push(made);
  const before = memory('VmRSS');
  resetPeak();
  const started = performance.now();
  await writeRandomCheckpoint(join(made, 'model'), modelConfigs[name], 'nf4');
  const grown = memory('VmHWM') - before;
  console.log(`written in ${seconds(started)}, host memory ${megabytes(grown)}`);
  expect(grown).toBeLessThan(500e6);
  return join(made, 'model');
}

const seconds = (since: number) => `${((performance.now() - since) / 1000).toFixed(1)} s`;
const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`;

it.skipIf(!parent).each(['llama-3.1-8b', 'qwen2.5-7b'])(
  '%s in NF4 is loaded, takes a step, and needs the memory of its plan',
  { timeout: 2 ** 31 - 1 },
  async (name) => {
    const directory = await checkpointDirectory(name);
    const gpu = await openTestGpu();
    const { device, kernels } = gpu;
    const checkpoint = await openCheckpoint(directory, modelLayout);
    const { config, packed } = checkpoint;
    const lora = { r: 16, alpha: 32, dropout: 0, targetModules: [...LINEAR_MODULES], useRslora: false };
    const plan = planTraining(device, kernels, config, lora, tier, {
      rows: tokens,
      maxLength: tokens,
      packed,
      recompute: 0,
    });

    const before = memory('VmRSS');
    resetPeak();
    let started = performance.now();
    const model = await LanguageModel.load(device, kernels, checkpoint, { tier, maxPositions: tokens });
    await checkpoint.close();
    const host = memory('VmHWM') - before - device.allocatedBytes;
    console.log(
      `loaded in ${seconds(started)}: ${megabytes(device.allocatedBytes)} on the device, ${megabytes(host)} beside`,
    );
    expect(host).toBeLessThan(1e9);

    const random = createRandom(1);
    const weights = await model.addAdapter(
      initialAdapter(config, lora, () => random.uint32() / 2 ** 32),
      { trainable: true },
    );
    const ids = Int32Array.from({ length: tokens + 1 }, () => random.below(config.vocabSize));
    const steps: StepMetrics[] = [];
    started = performance.now();
    await trainSft(
      model,
      weights,
      { train: [{ ids, labels: ids, weight: 1 }], valid: [] },
      {
        batchSize: 1,
        microBatchTokens: tokens,
        epochs: 1,
        maxSteps: 1,
        learningRate: 1e-4,
        schedulerType: 'constant',
        warmupSteps: null,
        warmupRatio: 0,
        weightDecay: 0,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        maxGradNorm: 1,
        loraPlusRatio: 1,
        seed: 1,
        shuffle: false,
        evalSteps: 0,
        saveSteps: 0,
        saveMinutes: 0,
        earlyStoppingPatience: 0,
        recompute: 0,
      },
      {
        step: async (metrics) => {
          steps.push(metrics);
        },
        evaluation: async () => {},
        checkpoint: async () => {},
        interrupted: () => false,
      },
    );
    const grown = memory('VmHWM') - before;
    const [{ loss, grad_norm, skipped }] = steps;
    console.log(`step in ${seconds(started)}: loss ${loss.toFixed(3)}, norm ${grad_norm.toFixed(3)}`);
    console.log(
      `grown by ${megabytes(grown)}, planned ${megabytes(plan.total)}, on the device ${megabytes(device.allocatedBytes)}`,
    );
    expect(steps).toHaveLength(1);
    expect(skipped).toBe(false);
    // Random logits are near even: ln 128,256 = 11.76, ln 152,064 = 11.93.
    expect(Math.abs(loss - Math.log(config.vocabSize))).toBeLessThan(1);
    expect(Number.isFinite(grad_norm) && grad_norm > 0).toBe(true);
    expect(Math.abs(grown / plan.total - 1)).toBeLessThan(0.15);
    await gpu.close();
  },
);

/**
 * Compiles the kernels of a model's SFT step, but for the optimiser's, and of rollouts with the driver that is here, runs
 * none of them, and tells how long each took: what a first start costs, and whether another maker's compiler takes them. A
 * driver over a stand-in for its card serves too (bench/README.md). `node scripts/compile-kernels.mjs llama-3.1-8b nf4
 * [TIER]`; exit 1 where one fails.
 */

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { orFail, prepare, root } from './setup.mjs';

await orFail(prepare);
const load = (file) => import(pathToFileURL(join(root, 'dist', 'src', file)).href);
const { QUANTIZED_FORMATS } = await load('model/quantized-layouts.js');
const { LINEAR_MODULES } = await import(pathToFileURL(join(root, 'dist', 'models', 'tensors.js')).href);

const [name, quantize = 'none', wish] = process.argv.slice(2);
if (!name || !QUANTIZED_FORMATS.includes(quantize) || !['tensor', 'f16', 'f32', undefined].includes(wish)) {
  console.error('Usage: node scripts/compile-kernels.mjs MODEL [QUANTIZE] [TIER]');
  console.error(`  MODEL as of lexalign plan; QUANTIZE: ${QUANTIZED_FORMATS.join(', ')}; TIER: tensor, f16, f32`);
  process.exit(2);
}

const { openAdapter } = await load('cli/gpu.js');
const { kernelSource } = await load('cli/kernel-source.js');
const { planModel } = await load('cli/plan-model.js');
const { Device } = await load('gpu/device.js');
const { KernelCache } = await load('gpu/kernels.js');
const { planRollout } = await load('model/rollout-memory.js');
const { offeredTiers } = await load('model/self-test.js');
const { planTraining } = await load('model/training-memory.js');
const { greedySampling } = await load('ops/sample.js');

/** Kernels that are asked for, each once. */
class Listening extends KernelCache {
  kernels = new Map();
  get(key) {
    const kernel = super.get(key);
    if (!this.kernels.has(kernel)) this.kernels.set(kernel, key);
    return kernel;
  }
}

const { config, packed } = await orFail(() => planModel(name, quantize));
const opened = await orFail(openAdapter);
const device = await Device.open(opened.adapter, { cpu: opened.kind === 'cpu' });
const offered = offeredTiers(device);
const tier = wish ?? offered[0];
if (!offered.includes(tier)) {
  console.error(`TIER ${tier}: this device offers ${offered.join(', ')}.`);
  process.exit(2);
}
console.log(`${opened.describe}, tier ${tier}`);
const kernels = new Listening(device, kernelSource());
const adapter = { r: 16, alpha: 32, targetModules: LINEAR_MODULES, dropout: 0, useRslora: false };
const training = { rows: 4096, maxLength: 2048, packed };
planTraining(device, kernels, config, adapter, tier, { ...training, recompute: 0 });
const sampling = { ...greedySampling, temperature: 1 };
const wishes = { maxNewTokens: 256, maxPromptTokens: 256, promptTokens: 16384 };
for (const batchSize of [1, 64, 128])
  planRollout(device, kernels, config, tier, { ...wishes, batchSize, packed, adapter, sampling });

let failed = 0;
for (const [kernel, { defines }] of kernels.kernels) {
  const start = performance.now();
  let end = '';
  try {
    await kernel.compile();
  } catch (error) {
    failed++;
    end = `  FAILS: ${error.message.split('\n')[0]}`;
  }
  const sizes = Object.entries(defines).map(([key, value]) => `${key}=${value}`);
  console.log(`${(performance.now() - start).toFixed(0).padStart(6)} ms  ${kernel.name}  ${sizes.join(' ')}${end}`);
}
console.log(`${kernels.kernels.size} kernels, ${failed} failed`);
await device.close();
opened.release();
process.exit(failed ? 1 : 0);

/**
 * Writes a checkpoint of random weights with the exact shapes, names, types and shards of a real model, in memory of a
 * few megabytes: for benches and for trying memory plans. `node scripts/random-checkpoint.mjs llama-3.1-8b nf4 DIR`.
 */

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { orFail, prepare, root } from './setup.mjs';

await orFail(prepare);
const load = (file) => import(pathToFileURL(join(root, 'dist', 'bench', file)).href);
const { modelConfigs } = await load('random-checkpoint.js');
const { randomFormats, writeRandomCheckpoint } = await load('write-random-checkpoint.js');

const [model, format, directory, seed = '1'] = process.argv.slice(2);
if (!Object.hasOwn(modelConfigs, model ?? '') || !randomFormats.includes(format) || !directory || !/^\d+$/.test(seed)) {
  console.error('Usage: node scripts/random-checkpoint.mjs MODEL FORMAT DIRECTORY [SEED]');
  console.error(`  MODEL: ${Object.keys(modelConfigs).join(', ')}; FORMAT: ${randomFormats.join(', ')}`);
  process.exit(2);
}
const started = performance.now();
await orFail(() => writeRandomCheckpoint(directory, modelConfigs[model], format, { seed: Number(seed) }));
console.log(`${directory}: ${model} in ${format} in ${((performance.now() - started) / 1000).toFixed(1)} s`);

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { RandomBlocks, weightFill } from '../../bench/random-blocks.js';
import { llamaConfigJson, modelConfigs } from '../../bench/random-checkpoint.js';
import { randomFormats, writeRandomCheckpoint } from '../../bench/write-random-checkpoint.js';
import { modelLayout, readModelConfig } from '../../models/index.js';
import { knownModel } from '../../models/known.js';
import { tensorSpecs } from '../../models/tensors.js';
import { openCheckpoint } from '../../src/formats/checkpoint.js';
import { openFile } from '../../src/formats/files.js';
import { readHeader, readTensor, toFloat32 } from '../../src/formats/safetensors.js';
import { temporaryDirectory } from '../formats/helpers.js';

it('names real models with configurations that are read, of the sizes that are known of them', () => {
  for (const name of ['llama-3.1-8b', 'qwen2.5-7b']) {
    const config = readModelConfig({ path: name, value: modelConfigs[name] });
    const { rope: _, bosTokenId: __, eosTokenIds: ___, ...sizes } = knownModel(name)!;
    expect(config).toMatchObject(sizes);
  }
});

it('fills tensors with numbers of one deviation that depend on seed, name and position alone', () => {
  const numbers = (seed: number, name: string) => {
    const bytes = new Uint8Array(4 * 1_100_000);
    new RandomBlocks(seed).fill(bytes, 0, name, weightFill('F32', 100));
    return new Float32Array(bytes.buffer);
  };
  const whole = numbers(1, 'a');
  const mean = whole.reduce((sum, x) => sum + x, 0) / whole.length;
  const deviation = Math.sqrt(whole.reduce((sum, x) => sum + (x - mean) ** 2, 0) / whole.length);
  expect(Math.abs(mean)).toBeLessThan(1e-3);
  expect(deviation).toBeCloseTo(0.1, 3);
  const part = new Uint8Array(4 * 60_000);
  new RandomBlocks(1).fill(part, 4 * 1_030_000, 'a', weightFill('F32', 100));
  expect(new Float32Array(part.buffer)).toEqual(whole.slice(1_030_000, 1_090_000));
  // Behind a block comes the same block from another place.
  expect(whole.slice(1 << 20, (1 << 20) + 9)).not.toEqual(whole.slice(0, 9));
  expect(numbers(2, 'a').slice(0, 9)).not.toEqual(whole.slice(0, 9));
  expect(numbers(1, 'b').slice(0, 9)).not.toEqual(whole.slice(0, 9));
});

const shape = { hidden: 128, layers: 1, heads: 2, kvHeads: 1, ffn: 256, vocab: 40 };

it('writes the same for the same seed', async () => {
  const parent = await temporaryDirectory();
  const write = async (name: string, seed: number) => {
    await writeRandomCheckpoint(join(parent, name), llamaConfigJson(shape), 'nf4-double', { seed });
    return readFile(join(parent, name, 'model.safetensors'));
  };
  const bytes = await write('a', 1);
  expect((await write('b', 1)).equals(bytes)).toBe(true);
  expect((await write('c', 2)).equals(bytes)).toBe(false);
});

it.each(randomFormats)('writes %s', async (format) => {
  const directory = join(await temporaryDirectory(), 'model');
  await writeRandomCheckpoint(directory, llamaConfigJson(shape), format);
  const source = await openFile(join(directory, 'model.safetensors'));
  const { tensors } = await readHeader(source);
  const norm = tensors.get('model.norm.weight')!;
  expect([...new Set(toFloat32(norm.dtype, await readTensor(source, norm)))]).toEqual([1]);
  await source.close();

  const checkpoint = await openCheckpoint(directory, modelLayout);
  const quantised = tensorSpecs(checkpoint.config).filter(
    ({ role }) => role === 'linear' || (format.startsWith('mlx') && (role === 'embedding' || role === 'head')),
  );
  const names = format === 'f32' || format === 'bf16' ? [] : quantised.map(({ name }) => name);
  expect([...checkpoint.packed.keys()].sort()).toEqual(names.sort());
  await checkpoint.close();
});

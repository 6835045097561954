import { cp, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { modelLayout } from '../../models/index.js';
import { linearShapes, tensorSpecs } from '../../models/tensors.js';
import type { Adapter } from '../../src/formats/adapter.js';
import { openCheckpoint } from '../../src/formats/checkpoint.js';
import { openFile } from '../../src/formats/files.js';
import { mergePiece } from '../../src/formats/merge.js';
import { writeMergedModel } from '../../src/formats/merged-model.js';
import { readAdapter } from '../../src/formats/peft.js';
import { readHeader, readTensor } from '../../src/formats/safetensors.js';
import { writeSafetensors } from '../../src/formats/safetensors-file.js';
import { LanguageModel } from '../../src/model/language-model.js';
import { temporaryDirectory } from '../formats/helpers.js';
import { goldenCases, loadGolden } from '../golden.js';
import { openTestGpu, type TestGpu } from '../gpu.js';
import { relativeError } from '../reference/random.js';
import { promptLogits } from './prompt-logits.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

/** The golden case's base and adapter as one model, in shards of at most 100 kB. */
async function merge(directory: string, dtype: 'F16' | 'BF16', into: string) {
  const checkpoint = await openCheckpoint(`${directory}/model`, modelLayout);
  const adapter = await readAdapter(`${directory}/adapter`, linearShapes(checkpoint.config));
  const shares: number[] = [];
  await writeMergedModel(into, checkpoint, adapter, {
    dtype,
    known: new Set(tensorSpecs(checkpoint.config).map(({ name }) => name)),
    maxShardBytes: 1e5,
    readme: 'merged',
    run: async (piece) => mergePiece(piece),
    parallel: 3,
    progress: (done, total) => shares.push(done / total),
  });
  await checkpoint.close();
  expect(shares.at(-1)).toBe(1);
  expect(shares).toEqual([...shares].sort((a, b) => a - b));
  return adapter;
}

async function logits(directory: string, adapter: Adapter | null, ids: readonly number[]): Promise<number[]> {
  const checkpoint = await openCheckpoint(directory, modelLayout);
  const model = await LanguageModel.load(gpu.device, gpu.kernels, checkpoint, { tier: 'f32', maxPositions: 64 });
  await checkpoint.close();
  const weights = adapter && (await model.addAdapter(adapter, { trainable: false }));
  return (await promptLogits(model, weights, ids)).flatMap((row) => [...row]);
}

describe.each(goldenCases)('%s with its adapter merged', (name) => {
  // Weights are off by up to half a step, 2⁻¹² of them in F16 and 8 times that in BF16: an operation's tolerance in f16.
  it.each([
    ['F16', 2e-3],
    ['BF16', 16e-3],
  ] as const)('has the logits of base and adapter, in %s', async (dtype, tolerance) => {
    const golden = loadGolden(name);
    const directory = join(await temporaryDirectory(), 'merged');
    const adapter = await merge(golden.directory, dtype, directory);
    const base = `${golden.directory}/model`;
    const adapted = await logits(base, adapter, golden.logits.ids);
    const error = relativeError(await logits(directory, null, golden.logits.ids), adapted);
    if (process.env.LEXALIGN_SHOW_ERRORS) console.log(name, dtype, error);
    expect(error).toBeLessThan(tolerance);
    expect(relativeError(await logits(base, null, golden.logits.ids), adapted)).toBeGreaterThan(5 * tolerance);
  });
});

it('holds nothing of the quantisation that it was unpacked from', async () => {
  const directory = join(await temporaryDirectory(), 'merged');
  await merge(loadGolden('nf4-double').directory, 'F16', directory);
  const json = async (name: string) => JSON.parse(await readFile(join(directory, name), 'utf8'));
  const keys = Object.keys(await json('config.json'));
  expect(keys.filter((key) => key.startsWith('quantization'))).toEqual([]);
  const names = Object.keys((await json('model.safetensors.index.json')).weight_map);
  expect(names.filter((tensor) => !/\.(weight|bias)$/.test(tensor))).toEqual([]);
});

it('keeps of a GPTQ base the biases that its architecture has, and none of those of zeros that AutoGPTQ adds', async () => {
  const golden = loadGolden('gptq-v2-asym').directory;
  const from = await temporaryDirectory();
  await cp(golden, from, { recursive: true });
  const source = await openFile(join(golden, 'model/model.safetensors'));
  const { tensors } = await readHeader(source);
  const data = await Promise.all(
    [...tensors.values()].map(async (info) => ({ ...info, data: await readTensor(source, info) })),
  );
  await source.close();
  const own = data.map(({ name }) => name).filter((name) => name.endsWith('.bias'));
  expect(own).toContain('model.layers.0.self_attn.q_proj.bias');
  const added = data.flatMap(({ name, shape }) => {
    const bias = name.replace(/scales$/, 'bias');
    if (bias === name || own.includes(bias)) return [];
    return [{ name: bias, dtype: 'F16' as const, shape: [shape[1]], data: new Uint8Array(2 * shape[1]) }];
  });
  expect(added.map(({ name }) => name)).toContain('model.layers.0.self_attn.o_proj.bias');
  await writeSafetensors(join(from, 'model/model.safetensors'), [...data, ...added]);
  const directory = join(await temporaryDirectory(), 'merged');
  await merge(from, 'F16', directory);
  const checkpoint = await openCheckpoint(directory, modelLayout);
  await checkpoint.close();
  const kept = [...checkpoint.tensors.keys()].filter((name) => name.endsWith('.bias'));
  expect(kept.sort()).toEqual([...own].sort());
});

it('has an index of its shards, the new type in config.json, and no tensor twice', async () => {
  const directory = join(await temporaryDirectory(), 'merged');
  await merge(loadGolden('llama-llama3-rope').directory, 'BF16', directory);
  expect((await readdir(directory)).sort()).toEqual([
    'README.md',
    'config.json',
    'model-00001-of-00002.safetensors',
    'model-00002-of-00002.safetensors',
    'model.safetensors.index.json',
  ]);
  const json = async (file: string) => JSON.parse(await readFile(file, 'utf8'));
  const base = await json(`${loadGolden('llama-llama3-rope').directory}/model/config.json`);
  expect(base.torch_dtype).toBe('float16');
  expect(await json(join(directory, 'config.json'))).toEqual({ ...base, torch_dtype: 'bfloat16' });
  const names = Object.keys((await json(join(directory, 'model.safetensors.index.json'))).weight_map);
  expect(names.filter((tensor) => /embed_tokens|lm_head/.test(tensor))).toHaveLength(1);
  await expect(merge(loadGolden('llama').directory, 'BF16', directory)).rejects.toThrow(
    /merged exists already: name a new directory/,
  );
});

import { existsSync } from 'node:fs';
import { copyFile, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { modelLayout } from '../../models/index.js';
import { tensorSpecs } from '../../models/tensors.js';
import { InputError } from '../../src/errors.js';
import { openCheckpoint } from '../../src/formats/checkpoint.js';
import { DTYPE_BYTES, type Dtype, readTensor, type TensorData, toFloat32 } from '../../src/formats/safetensors.js';
import { writeSafetensors } from '../../src/formats/safetensors-file.js';
import { skip } from '../skip.js';
import { GOLDEN, SHARED, temporaryDirectory, writeJson } from './helpers.js';

const open = (dir: string) => openCheckpoint(dir, modelLayout);

const CONFIG = {
  model_type: 'llama',
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 10,
};

/** A model directory's tensors, zeros, as its config.json calls for. */
function zeros(config: object): TensorData[] {
  const { tensors } = modelLayout({ path: 'config.json', value: config }, null);
  return tensors.map(({ name, shape }) => zero(name, shape));
}

function zero(name: string, shape: readonly number[], dtype: Dtype = 'F32'): TensorData {
  return { name, dtype, shape, data: new Uint8Array(shape.reduce((a, b) => a * b, DTYPE_BYTES[dtype])) };
}

async function writeModel(config: object, tensors: TensorData[], metadata?: Record<string, string>): Promise<string> {
  const dir = await temporaryDirectory();
  await writeJson(dir, 'config.json', config);
  await writeSafetensors(join(dir, 'model.safetensors'), tensors, metadata);
  return dir;
}

test.each([
  ['llama', 'BF16', false, 2],
  ['llama-llama3-rope', 'F16', true, 1],
  ['qwen2', 'BF16', true, 1],
  ['qwen3', 'BF16', true, 1],
  ['mistral', 'F32', false, 1],
])('opens the golden %s', async (name, dtype, tied, files) => {
  const checkpoint = await open(join(GOLDEN, name, 'model'));
  const { config, tensors } = checkpoint;
  expect(config.tiedEmbeddings).toBe(tied);
  expect(tensors.get('lm_head.weight') === tensors.get('model.embed_tokens.weight')).toBe(tied);
  expect(new Set([...tensors.values()].map((tensor) => tensor.source)).size).toBe(files);
  for (const spec of tensorSpecs(config)) {
    const tensor = tensors.get(spec.name)!;
    expect(tensor.dtype).toBe(dtype);
    const values = toFloat32(tensor.dtype, await readTensor(tensor.source, tensor));
    expect(values.length).toBe(spec.shape.reduce((a, b) => a * b, 1));
    expect(values.every(Number.isFinite)).toBe(true);
    // Norms lie around one, weights around zero: data of the right place.
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    expect(Math.abs(mean - (spec.role === 'norm' ? 1 : 0))).toBeLessThan(0.3);
  }
  await checkpoint.close();
});

test.each(['tinystories-656k', 'stories260k', 'lexi-base'])('opens the real model %s', async (name) => {
  const dir = join(SHARED, 'models', name);
  if (!existsSync(dir)) skip(`${name} is not there`);
  const checkpoint = await open(dir);
  expect(checkpoint.config.tiedEmbeddings).toBe(true);
  const embedding = checkpoint.tensors.get('model.embed_tokens.weight')!;
  expect(checkpoint.tensors.get('lm_head.weight')).toBe(embedding);
  const values = toFloat32(embedding.dtype, await readTensor(embedding.source, embedding));
  expect(values.length).toBe(checkpoint.config.vocabSize * checkpoint.config.hiddenSize);
  if (name === 'lexi-base') expect(checkpoint.config.eosTokenIds).toEqual([8191, 8189]);
  await checkpoint.close();
});

test('a tied model may store the embedding, the head, or both; then the embedding counts', async () => {
  const config = { ...CONFIG, tie_word_embeddings: true };
  const rest = zeros(config).filter(({ name }) => name !== 'model.embed_tokens.weight');
  for (const stored of [
    ['model.embed_tokens.weight'],
    ['lm_head.weight'],
    ['model.embed_tokens.weight', 'lm_head.weight'],
  ]) {
    const checkpoint = await open(await writeModel(config, [...rest, ...stored.map((name) => zero(name, [10, 8]))]));
    expect(checkpoint.tensors.get('model.embed_tokens.weight')!.name).toBe(stored[0]);
    expect(checkpoint.tensors.get('model.embed_tokens.weight')).toBe(checkpoint.tensors.get('lm_head.weight'));
    await checkpoint.close();
  }
  await expect(open(await writeModel(config, rest))).rejects.toThrow(
    /neither model\.embed_tokens\.weight nor lm_head\.weight/,
  );
});

test('shared tensors that the metadata names are found in an untied model too', async () => {
  const tensors = zeros(CONFIG).filter(({ name }) => name !== 'lm_head.weight');
  const alias = { format: 'pt', 'lm_head.weight': 'model.embed_tokens.weight' };
  const checkpoint = await open(await writeModel(CONFIG, tensors, alias));
  const [embedding, head] = ['model.embed_tokens.weight', 'lm_head.weight'].map(
    (name) => checkpoint.tensors.get(name)!,
  );
  expect(head.begin).toBe(embedding.begin);
  await checkpoint.close();
  await expect(open(await writeModel(CONFIG, tensors))).rejects.toThrow(/lack tensor lm_head\.weight/);
});

test('a tensor missing, of another shape or another dtype is named', async () => {
  const name = 'model.layers.1.mlp.up_proj.weight';
  const change = (tensor: TensorData | null) =>
    writeModel(
      CONFIG,
      zeros(CONFIG).flatMap((one) => (one.name === name ? (tensor ?? []) : one)),
    );
  await expect(open(await change(null))).rejects.toThrow(`the weights lack tensor ${name}`);
  await expect(open(await change(zero(name, [8, 12])))).rejects.toThrow(
    `model.safetensors: tensor ${name} has shape [8, 12], config.json calls for [12, 8]`,
  );
  await expect(open(await change(zero(name, [12, 8, 1])))).rejects.toThrow(/shape \[12, 8, 1\]/);
  await expect(open(await change(zero(name, [12, 8], 'I8')))).rejects.toThrow(`tensor ${name} has dtype I8`);
  await expect(open(await change(zero(name, [12, 8], 'F64')))).rejects.toThrow(InputError);
});

test('directories that are no models say what is missing', async () => {
  const dir = await temporaryDirectory();
  await expect(open(join(dir, 'none'))).rejects.toThrow(/none does not exist/);
  await expect(open(dir)).rejects.toThrow(/it has no config\.json/);
  await writeJson(dir, 'adapter_config.json', {});
  await expect(open(dir)).rejects.toThrow(/it is an adapter/);
  await writeJson(dir, 'config.json', CONFIG);
  await expect(open(join(dir, 'config.json'))).rejects.toThrow(/is not a directory/);
  await expect(open(dir)).rejects.toThrow(/neither model\.safetensors nor model\.safetensors\.index\.json is there$/);
  await writeFile(join(dir, 'pytorch_model.bin'), '');
  await expect(open(dir)).rejects.toThrow(/pytorch_model\.bin must be converted to safetensors/);
});

/** The golden llama, which has two shards, to be spoilt. */
async function copyShards(change: (weightMap: Record<string, string>) => void): Promise<string> {
  const dir = await temporaryDirectory();
  const from = join(GOLDEN, 'llama/model');
  for (const name of ['config.json', 'model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'])
    await copyFile(join(from, name), join(dir, name));
  const index = JSON.parse(await readFile(join(from, 'model.safetensors.index.json'), 'utf8'));
  change(index.weight_map);
  await writeJson(dir, 'model.safetensors.index.json', index);
  return dir;
}

test('shards that are missing, cut, outside, or lack a listed tensor are named', async () => {
  const secondShard = 'model-00002-of-00002.safetensors';
  const dir = await copyShards(() => {});
  await (await open(dir)).close();
  const bytes = await readFile(join(dir, secondShard));
  await rm(join(dir, secondShard), { force: true });
  await writeFile(join(dir, secondShard), bytes.subarray(0, bytes.length - 1));
  await expect(open(dir)).rejects.toThrow(/00002-of-00002\.safetensors is truncated: tensor/);
  await rm(join(dir, secondShard));
  await expect(open(dir)).rejects.toThrow(/00002-of-00002\.safetensors does not exist/);

  const wrong = (shard: unknown) => copyShards((map) => Object.assign(map, { 'model.norm.weight': shard }));
  await expect(open(await wrong('../x.safetensors'))).rejects.toThrow(/"\.\.\/x\.safetensors" leads outside/);
  await expect(open(await wrong('/etc/passwd'))).rejects.toThrow(/leads outside/);
  await expect(open(await wrong(7))).rejects.toThrow(/weight_map gives tensor model\.norm\.weight no file name/);
  const moved = copyShards((map) => {
    map['model.norm.weight'] = map['model.norm.weight'].includes('00001')
      ? secondShard
      : 'model-00001-of-00002.safetensors';
  });
  await expect(open(await moved)).rejects.toThrow(/lacks tensor model\.norm\.weight, which .*index\.json says/);
  const unlisted = await copyShards((map) => {
    delete map['model.norm.weight'];
  });
  await expect(open(unlisted)).rejects.toThrow(/lack tensor model\.norm\.weight/);
});

test('opens a snapshot of a hub cache, names it in errors, and refuses links that leave it', async () => {
  const cache = await temporaryDirectory();
  const snapshot = join(cache, 'models--a--b/snapshots/abc');
  await mkdir(snapshot, { recursive: true });
  await mkdir(join(cache, 'models--a--b/blobs'));
  const model = await writeModel(CONFIG, zeros(CONFIG));
  for (const [name, blob] of [
    ['config.json', '1'],
    ['model.safetensors', '2'],
  ]) {
    await copyFile(join(model, name), join(cache, 'models--a--b/blobs', blob));
    await symlink(`../../blobs/${blob}`, join(snapshot, name));
  }
  await (await open(snapshot)).close();
  await writeFile(join(cache, 'models--a--b/blobs/2'), 'short');
  await expect(open(snapshot)).rejects.toThrow(`${snapshot}/model.safetensors is not a safetensors file`);
  await rm(join(snapshot, 'model.safetensors'));
  await symlink(join(model, 'model.safetensors'), join(snapshot, 'model.safetensors'));
  await expect(open(snapshot)).rejects.toThrow(/leads outside/);
});

import { readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readModelConfig } from '../../models/index.js';
import { linearShapes } from '../../models/tensors.js';
import { InputError } from '../../src/errors.js';
import { adapterRank, adapterScale, peftTensorName } from '../../src/formats/adapter.js';
import { readAdapter, writeAdapter } from '../../src/formats/peft.js';
import type { Dtype } from '../../src/formats/safetensors.js';
import { writeSafetensors } from '../../src/formats/safetensors-file.js';
import { GOLDEN, temporaryDirectory, writeJson } from './helpers.js';

async function modulesOf(name: string) {
  const path = join(GOLDEN, name, 'model/config.json');
  return linearShapes(readModelConfig({ path, value: JSON.parse(await readFile(path, 'utf8')) }));
}

/** What LoraConfig of PEFT 0.21.2 writes. */
const PEFT_FIELDS = `alora_invocation_tokens alpha_pattern arrow_config auto_mapping base_model_name_or_path bias
  corda_config ensure_weight_tying eva_config exclude_modules fan_in_fan_out inference_mode init_lora_weights kasa_config
  layer_replication layers_pattern layers_to_transform loftq_config lora_alpha lora_bias lora_dropout lora_ga_config
  megatron_config megatron_core modules_to_save monteclora_config peft_type peft_version qalora_group_size r rank_pattern
  revision target_modules target_parameters task_type trainable_token_indices use_bdlora use_dora use_qalora use_rslora
  velora_config`.split(/\s+/);

test.each([
  ['llama', 4, 8, ['q_proj', 'v_proj'], 2],
  ['llama-llama3-rope', 4, 8, ['down_proj', 'gate_proj', 'k_proj', 'o_proj', 'q_proj', 'up_proj', 'v_proj'], 2],
  ['qwen2', 2, 4, ['down_proj', 'gate_proj', 'k_proj', 'o_proj', 'q_proj', 'up_proj', 'v_proj'], 2],
  ['qwen3', 4, 4, ['q_proj', 'v_proj'], 2],
  ['mistral', 4, 8, ['k_proj', 'o_proj', 'q_proj', 'v_proj'], 2],
])('reads the golden adapter of %s and writes the same', async (name, r, alpha, targetModules, scale) => {
  const modules = await modulesOf(name);
  const from = join(GOLDEN, name, 'adapter');
  const adapter = await readAdapter(from, modules);
  expect(adapter.config).toEqual({ r, alpha, dropout: 0, useRslora: name === 'qwen3', targetModules });
  expect(adapterScale(adapter.config, 'model.layers.1.self_attn.v_proj')).toBe(scale);
  expect(adapter.tensors.size).toBe(2 * targetModules.length);
  const { in: inputs, out } = modules.get('model.layers.1.self_attn.v_proj')!;
  const { A, B } = adapter.tensors.get('model.layers.1.self_attn.v_proj')!;
  expect([A.length, B.length]).toEqual([r * inputs, out * r]);
  expect(A.some((value) => value !== 0) && B.some((value) => value !== 0)).toBe(true);

  const dir = join(await temporaryDirectory(), 'new/adapter');
  await writeAdapter(dir, adapter, 'some/model');
  expect((await readdir(dir)).sort()).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
  const weights = 'adapter_model.safetensors';
  expect((await readFile(join(dir, weights))).equals(await readFile(join(from, weights)))).toBe(true);
  const json = async (path: string) => JSON.parse(await readFile(join(path, 'adapter_config.json'), 'utf8'));
  const written = await json(dir);
  expect(written).toMatchObject({
    ...(await json(from)),
    base_model_name_or_path: 'some/model',
    target_modules: targetModules,
  });
  expect(Object.keys(written)).toEqual(PEFT_FIELDS);
  expect(await readAdapter(dir, modules)).toEqual(adapter);
});

const MODULES = new Map(
  [0, 1].flatMap((layer) => [
    [`model.layers.${layer}.self_attn.q_proj`, { out: 6, in: 4 }],
    [`model.layers.${layer}.mlp.up_proj`, { out: 8, in: 4 }],
  ]) as [string, { out: number; in: number }][],
);
const Q_PROJ = [...MODULES.keys()].filter((path) => path.endsWith('q_proj'));
const CONFIG = { peft_type: 'LORA', r: 2, lora_alpha: 4, target_modules: ['q_proj'] };

/** What PEFT's patterns mean: the end of a path, a whole path, or a regular expression; the first match counts. */
test.each<[Record<string, number>, [number, number]]>([
  [{ q_proj: 3 }, [3, 3]],
  [{ proj: 3 }, [2, 2]],
  [{ 'layers.1.self_attn.q_proj': 3 }, [2, 3]],
  [{ '^model.layers.0.self_attn.q_proj': 3 }, [3, 2]],
  [{ '^layers.0.self_attn.q_proj': 3 }, [2, 2]],
  [{ 'model.layers.1.self_attn.q_proj': 5, q_proj: 3 }, [3, 5]],
  [{ 'layers\\.(1|2)\\..*q_proj': 3, '.*q_proj': 2 }, [2, 3]],
  [{ 'model.layers.[0-9]+.self_attn.q_proj': 3 }, [3, 3]],
])('reads and writes ranks and alphas of modules: %j', async (pattern, values) => {
  const ranks = Object.fromEntries(Q_PROJ.map((path, i) => [path, values[i]]));
  const shapes = shapesOf(Q_PROJ, ranks);
  const dir = await write(
    { ...CONFIG, lora_alpha: 2, use_rslora: true, rank_pattern: pattern, alpha_pattern: pattern },
    shapes,
  );
  const adapter = await readAdapter(dir, MODULES);
  expect(Q_PROJ.map((path) => adapterRank(adapter.config, path))).toEqual(values);
  expect(Q_PROJ.map((path) => adapterScale(adapter.config, path))).toEqual(values.map((v) => v / Math.sqrt(v)));
  expect([...adapter.tensors.values()].map(({ A, B }) => [A.length, B.length])).toEqual(
    values.map((v) => [4 * v, 6 * v]),
  );
  const other = Object.entries(ranks).filter(([, value]) => value !== 2);
  expect(Object.entries(adapter.config.rankPattern ?? {})).toEqual(other);
  expect(adapter.config.alphaPattern).toEqual(adapter.config.rankPattern);

  const again = join(await temporaryDirectory(), 'again');
  await writeAdapter(again, adapter, null);
  expect(await readAdapter(again, MODULES)).toEqual(adapter);
});

type Shapes = Record<string, number[]>;

function shapesOf(paths: Iterable<string>, ranks: Record<string, number> = {}): Shapes {
  const shapes: Shapes = {};
  for (const path of paths) {
    const { out, in: inputs } = MODULES.get(path)!;
    const r = ranks[path] ?? 2;
    shapes[peftTensorName(path, 'A')] = [r, inputs];
    shapes[peftTensorName(path, 'B')] = [out, r];
  }
  return shapes;
}

async function write(config: unknown, shapes: Shapes = shapesOf(Q_PROJ), dtype: Dtype = 'F16'): Promise<string> {
  const dir = await temporaryDirectory();
  await writeJson(dir, 'adapter_config.json', config);
  const bytes = { F16: 2, I32: 4 }[dtype as 'F16' | 'I32'];
  const tensors = Object.entries(shapes).map(([name, shape]) => ({
    name,
    dtype,
    shape,
    data: new Uint8Array(shape.reduce((a, b) => a * b, bytes)),
  }));
  await writeSafetensors(join(dir, 'adapter_model.safetensors'), tensors);
  return dir;
}

test('targets by name, by path, all-linear or by a regular expression, which is not run; defaults of PEFT', async () => {
  const targets = async (target_modules: unknown, paths: Iterable<string>) =>
    (await readAdapter(await write({ ...CONFIG, target_modules }, shapesOf(paths)), MODULES)).config.targetModules;
  expect(await targets(['q_proj'], Q_PROJ)).toEqual(['q_proj']);
  expect(await targets(['self_attn.q_proj', 'up_proj'], MODULES.keys())).toEqual(['q_proj', 'up_proj']);
  expect(await targets(Q_PROJ, Q_PROJ)).toEqual(['q_proj']);
  expect(await targets('all-linear', MODULES.keys())).toEqual(['q_proj', 'up_proj']);
  expect(await targets('(.*)*q_proj', Q_PROJ)).toEqual(['q_proj']);
  const excluding = { ...CONFIG, target_modules: ['q_proj', 'up_proj'], exclude_modules: ['up_proj'] };
  expect((await readAdapter(await write(excluding), MODULES)).config.targetModules).toEqual(['q_proj']);
  expect(await targets(null, Q_PROJ)).toEqual(['q_proj']);
  // As PEFT: a list may name modules of other architectures, as long as nothing was trained there.
  expect(await targets(['query_key_value', 'q_proj', 'lm_head'], Q_PROJ)).toEqual(['q_proj']);
  const bare = await readAdapter(await write({ peft_type: 'LORA', r: 2 }), MODULES);
  expect(bare.config).toEqual({ r: 2, alpha: 8, dropout: 0, useRslora: false, targetModules: ['q_proj'] });
});

test.each<[object, RegExp]>([
  [{ peft_type: 'IA3' }, /peft_type is "IA3"; it must be "LORA"/],
  [{ peft_type: undefined }, /peft_type is missing/],
  [{ peft_type: undefined, lora_parameters: { rank: 2 } }, /it is an adapter of mlx-lm, which lexalign writes/],
  [{ bias: 'all' }, /bias is "all"/],
  [{ use_dora: true }, /use_dora is set: DoRA, which trains magnitudes too; such adapters are not read/],
  [{ fan_in_fan_out: true }, /fan_in_fan_out is set/],
  [{ modules_to_save: ['lm_head'] }, /modules_to_save is set/],
  [{ lora_bias: true }, /lora_bias is set/],
  [{ arrow_config: { top_k: 2 } }, /arrow_config is set/],
  [{ rank_pattern: { q_proj: 0 } }, /rank_pattern gives q_proj 0, not a positive integer/],
  [{ rank_pattern: ['q_proj'] }, /rank_pattern is not an object/],
  [{ alpha_pattern: { q_proj: '4' } }, /alpha_pattern gives q_proj "4", not a number above 0/],
  [{ rank_pattern: { '(q|q)*_proj': 2 } }, /rank_pattern has "\(q\|q\)\*_proj", a regular expression of a kind/],
  [{ rank_pattern: { '(.|.)(.|.)(.|.)(.|.)(.|.)(.|.)x': 2 } }, /a regular expression of a kind that is not run/],
  [{ alpha_pattern: { '[z-a]': 2 } }, /a regular expression of a kind that is not run/],
  [{ layers_to_transform: [0] }, /layers_to_transform is set/],
  [{ layers_to_transform: 1 }, /layers_to_transform is set/],
  [{ init_lora_weights: 'pissa' }, /init_lora_weights is "pissa"/],
  [{ r: 0 }, /r is 0/],
  [{ r: 'x' }, /r is "x"/],
  [{ lora_alpha: -1 }, /lora_alpha is -1/],
  [{ lora_dropout: 1 }, /lora_dropout is 1/],
  [{ use_rslora: 'no' }, /use_rslora is "no"/],
  [{ target_modules: [] }, /target_modules is \[\]/],
  [{ target_modules: [1] }, /target_modules is \[1\]/],
  [{ target_modules: ['c_attn', 'lm_head'] }, /target_modules has c_attn, lm_head, none of the model's linear layers/],
])('refuses a configuration with %j', async (change, message) => {
  const error = await readAdapter(await write({ ...CONFIG, ...change }), MODULES).catch((error) => error);
  expect(error).toBeInstanceOf(InputError);
  expect(error.message).toMatch(message);
  expect(error.message).toMatch(/adapter_config\.json: /);
});

test('tensors missing, of another shape or dtype, or of other modules are named', async () => {
  const good = shapesOf(Q_PROJ);
  const name = peftTensorName(Q_PROJ[1], 'B');
  const read = async (shapes: Shapes, config: object = CONFIG, dtype: Dtype = 'F16') =>
    readAdapter(await write(config, shapes, dtype), MODULES);
  const { [name]: _, ...missing } = good;
  await expect(read(missing)).rejects.toThrow(`lacks tensor ${name}`);
  await expect(read({ ...good, [name]: [2, 6] })).rejects.toThrow(
    `tensor ${name} has shape [2, 6], model and r call for [6, 2]`,
  );
  await expect(read(good, { ...CONFIG, r: 3 })).rejects.toThrow(/call for \[3, 4\]/);
  await expect(read(good, CONFIG, 'I32')).rejects.toThrow(/has dtype I32/);
  await expect(read(shapesOf(MODULES.keys()))).rejects.toThrow(/up_proj\.lora_A\.weight belongs to no linear layer/);
  const head = { ...good, 'base_model.model.lm_head.lora_A.weight': [2, 4] };
  await expect(read(head, { ...CONFIG, target_modules: 'all-linear' })).rejects.toThrow(/lm_head\.lora_A/);
  await expect(read(head, { ...CONFIG, target_modules: ['q_proj', 'lm_head'] })).rejects.toThrow(/lm_head\.lora_A/);
  const embedding = { ...good, 'base_model.model.model.embed_tokens.lora_embedding_A': [2, 4] };
  await expect(read(embedding, { ...CONFIG, target_modules: ['q_proj', 'embed_tokens'] })).rejects.toThrow(
    /embed_tokens\.lora_embedding_A belongs to no linear layer/,
  );
  await expect(read({ ...good, 'value_head.weight': [1, 4] })).rejects.toThrow(/tensor value_head\.weight/);
  await expect(read({}, { ...CONFIG, target_modules: 'x' })).rejects.toThrow(/holds no LoRA tensors/);
  await expect(read(shapesOf([Q_PROJ[0]]), { ...CONFIG, target_modules: [Q_PROJ[0]] })).rejects.toThrow(
    /model\.layers\.1\.self_attn\.q_proj is not adapted; adapters on some decoder layers only/,
  );
});

test('directories that are no adapters say what is missing', async () => {
  const dir = await write(CONFIG);
  await rename(join(dir, 'adapter_model.safetensors'), join(dir, 'adapter_model.bin'));
  await expect(readAdapter(dir, MODULES)).rejects.toThrow(
    /no adapter_model\.safetensors; its adapter_model\.bin must be/,
  );
  await writeFile(join(dir, 'adapter_config.json'), '{');
  await expect(readAdapter(dir, MODULES)).rejects.toThrow(/adapter_config\.json is not JSON/);
  await expect(readAdapter(join(dir, 'none'), MODULES)).rejects.toThrow(/none does not exist/);
  const file = join(dir, 'adapter_model.bin');
  const adapter = await readAdapter(await write(CONFIG), MODULES);
  await expect(writeAdapter(file, adapter, null)).rejects.toThrow(/adapter_model\.bin is a file, not a directory/);
});

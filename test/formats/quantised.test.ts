import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { modelLayout } from '../../models/index.js';
import { InputError } from '../../src/errors.js';
import { openCheckpoint } from '../../src/formats/checkpoint.js';
import { openFile } from '../../src/formats/files.js';
import { readHeader, readTensor, type TensorData } from '../../src/formats/safetensors.js';
import { writeSafetensors } from '../../src/formats/safetensors-file.js';
import { GOLDEN, temporaryDirectory, writeJson } from './helpers.js';

type Json = Record<string, unknown>;

/** A golden model with other settings or tensors. */
async function changed(
  name: string,
  change: { settings?: (settings: Json) => Json | undefined; tensors?: (tensors: Map<string, TensorData>) => void },
): Promise<string> {
  const from = join(GOLDEN, name, 'model');
  const dir = await temporaryDirectory();
  const { quantization, quantization_config, ...config } = JSON.parse(
    await readFile(join(from, 'config.json'), 'utf8'),
  );
  const settings = change.settings ? change.settings(quantization_config ?? quantization) : quantization_config;
  await writeJson(dir, 'config.json', { ...config, ...(settings && { quantization_config: settings }) });
  const source = await openFile(join(from, 'model.safetensors'));
  const { tensors } = await readHeader(source);
  const data = new Map<string, TensorData>();
  for (const [tensor, info] of tensors) data.set(tensor, { ...info, data: await readTensor(source, info) });
  await source.close();
  change.tensors?.(data);
  await writeSafetensors(join(dir, 'model.safetensors'), [...data.values()]);
  return dir;
}

const q = 'model.layers.0.self_attn.q_proj';
const open = (dir: string) => openCheckpoint(dir, modelLayout);
const withSettings = (name: string, settings: Json) =>
  changed(name, { settings: (given) => ({ ...given, ...settings }) });
const without = (name: string, tensor: string) => changed(name, { tensors: (tensors) => void tensors.delete(tensor) });
const replaced = (name: string, tensor: string, by: Partial<TensorData>) =>
  changed(name, { tensors: (tensors) => void tensors.set(tensor, { ...tensors.get(tensor)!, ...by }) });

test.each([
  ['nf4-double', { format: 'nf4', group: 64, ordered: true, order: 'bitsandbytes', scales: { kind: 'nested' } }],
  ['nf4-plain', { format: 'nf4', group: 64, ordered: true, order: 'bitsandbytes', scales: { kind: 'plain' } }],
  ['gptq-v1-actorder', { format: 'affine4', group: 32, ordered: false, order: 'gptq', scales: { add: 0x11111111 } }],
  ['gptq-v2-asym', { format: 'affine4', group: 32, ordered: true, order: 'gptq', scales: { add: 0 } }],
  ['awq', { format: 'affine4', group: 32, ordered: true, order: 'awq', scales: { kind: 'zeroed' } }],
  ['mlx', { format: 'affine4', group: 64, ordered: true, order: 'natural', scales: { kind: 'biased' } }],
])('opens the golden %s', async (name, expected) => {
  const checkpoint = await open(join(GOLDEN, name, 'model'));
  expect(checkpoint.packed.size).toBe(7 * checkpoint.config.layers);
  expect(checkpoint.packed.get(`${q}.weight`)).toMatchObject({ ...expected, n: 64, k: 64 });
  await checkpoint.close();
});

test('modules left as floats are read as floats beside packed ones', async () => {
  for (const [name, packed] of [
    ['nf4-plain', `${q}.weight`],
    ['gptq-v2-asym', `${q}.qweight`],
    ['awq', `${q}.qweight`],
    ['mlx', `${q}.weight`],
  ]) {
    const weight: TensorData = { name: `${q}.weight`, dtype: 'F16', shape: [64, 64], data: new Uint8Array(8192) };
    const dir = await changed(name, {
      tensors(tensors) {
        for (const tensor of [...tensors.keys()])
          if (tensor.startsWith(`${q}.weight.`) || tensor === packed || tensor === `${q}.scales`)
            tensors.delete(tensor);
        tensors.set(weight.name, weight);
      },
    });
    const checkpoint = await open(dir);
    expect(checkpoint.packed.has(`${q}.weight`)).toBe(false);
    expect(checkpoint.packed.size).toBe(6);
    await checkpoint.close();
  }
});

test('settings of older writers: no quant_method of bitsandbytes, quantize_config.json of GPTQ, names of AWQ', async () => {
  const { quant_method: _, ...settings } = JSON.parse(
    await readFile(join(GOLDEN, 'nf4-plain/model/config.json'), 'utf8'),
  ).quantization_config;
  const dirs = [await changed('nf4-plain', { settings: () => settings })];
  const gptq = await changed('gptq-v2-asym', { settings: () => undefined });
  await writeJson(gptq, 'quantize_config.json', { bits: 4, group_size: 32, checkpoint_format: 'gptq_v2' });
  dirs.push(gptq);
  const awq = { quant_method: 'awq', w_bit: 4, q_group_size: 32, version: 'GEMM' };
  dirs.push(await changed('awq', { settings: () => awq }));
  for (const dir of dirs) {
    const checkpoint = await open(dir);
    expect(checkpoint.packed.size).toBe(7);
    await checkpoint.close();
  }
});

test('one group for a whole row, and settings of a single module', async () => {
  const rows = (tensor: TensorData) => ({ ...tensor, shape: [1, tensor.shape[1]], data: half(tensor) });
  const whole = await changed('gptq-v2-asym', {
    settings: (given) => ({ ...given, group_size: -1 }),
    tensors(tensors) {
      for (const [name, tensor] of tensors) {
        if (/(scales|qzeros)$/.test(name)) tensors.set(name, rows(tensor));
        if (/g_idx$/.test(name)) tensors.set(name, { ...tensor, data: new Uint8Array(256) });
      }
    },
  });
  const checkpoint = await open(whole);
  expect(checkpoint.packed.get(`${q}.weight`)).toMatchObject({ group: 64, ordered: true });
  await checkpoint.close();
  const own = { [q]: { group_size: 32, bits: 8 } };
  await expect(open(await withSettings('mlx', own))).rejects.toThrow(
    `tensor ${q}.weight has shape [64, 8], config.json calls for [64, 16]`,
  );
});

function half({ data }: TensorData): Uint8Array {
  const bytes = data as Uint8Array;
  return bytes.slice(0, bytes.length / 2);
}

test.each([
  ['nf4-plain', { quant_method: 'fp8' }, /quant_method is "fp8"; it must be one of bitsandbytes, gptq, awq, or absent/],
  ['nf4-plain', { bnb_4bit_quant_type: 'fp4' }, /bnb_4bit_quant_type is "fp4"; it must be "nf4": other 4-bit types/],
  ['nf4-plain', { load_in_8bit: true }, /load_in_8bit is true; it must be false: 8-bit is not read/],
  ['nf4-plain', { bnb_4bit_quant_storage: 'int7' }, /bnb_4bit_quant_storage is "int7"; it must be one of uint8/],
  ['gptq-v2-asym', { bits: 3 }, /bits is 3; it must be 4: other widths are not read/],
  ['gptq-v2-asym', { group_size: 48 }, /group_size is 48; it must be a multiple of 8 that divides the 64 columns of/],
  ['gptq-v2-asym', { group_size: 4 }, /group_size is 4; it must be a multiple of 8/],
  ['gptq-v2-asym', { checkpoint_format: 'marlin' }, /checkpoint_format is "marlin"; it must be "gptq" or "gptq_v2"/],
  ['gptq-v2-asym', { is_marlin_format: true }, /is_marlin_format is true; it must be false/],
  ['gptq-v2-asym', { pack_dtype: 'int16' }, /pack_dtype is "int16"; it must be "int32"/],
  ['gptq-v2-asym', { dynamic: { '+:.*mlp.*': { bits: 8 } } }, /dynamic is .* without other bits or group_size/],
  ['awq', { bits: 8 }, /bits is 8; it must be 4/],
  ['awq', { version: 'gemv' }, /version is "gemv"; it must be "gemm": other layouts are not read/],
  ['awq', { zero_point: false }, /zero_point is false; it must be true/],
  ['awq', { group_size: 24 }, /group_size is 24; it must be a multiple of 8 that divides the 64 columns of/],
  ['mlx', { bits: 3 }, /bits is 3; it must be 4 or 8: other widths are not read/],
  ['mlx', { mode: 'mxfp4' }, /mode is "mxfp4"; it must be "affine": other modes are not read/],
  ['mlx', { group_size: 40 }, /group_size is 40; it must be a multiple of 8 that divides/],
])('settings that are not read are named: %s, %o', async (name, settings, message) => {
  const opening = open(await withSettings(name, settings));
  await expect(opening).rejects.toThrow(message);
  await expect(opening).rejects.toThrow(/config\.json: quantization_config: /);
  await expect(opening).rejects.toThrow(InputError);
});

const int32 = (...values: number[]) => new Uint8Array(Int32Array.from(values).buffer);
const text = (json: unknown): Partial<TensorData> => {
  const data = new TextEncoder().encode(typeof json === 'string' ? json : JSON.stringify(json));
  return { dtype: 'U8', shape: [data.length], data };
};
const state = `${q}.weight.quant_state.bitsandbytes__nf4`;
const good = { quant_type: 'nf4', blocksize: 64, dtype: 'bfloat16', shape: [64, 64] };
const columns = Array.from({ length: 64 }, (_, i) => i >> 5);

test.each([
  ['nf4-double', () => without('nf4-double', state), `${q}.weight is packed, but the weights lack ${state}`],
  ['nf4-double', () => without('nf4-double', `${q}.weight.absmax`), `the weights lack tensor ${q}.weight.absmax`],
  ['nf4-double', () => without('nf4-double', `${q}.weight.nested_absmax`), `lack tensor ${q}.weight.nested_absmax`],
  [
    'nf4-double',
    () => without('nf4-double', `${q}.weight.nested_quant_map`),
    `lack tensor ${q}.weight.nested_quant_map`,
  ],
  ['nf4-double', () => replaced('nf4-double', state, text(good)), `${q}.weight.absmax has dtype U8; only F32 is read`],
  ['nf4-plain', () => replaced('nf4-plain', state, text('{')), `tensor ${state} is not JSON`],
  [
    'nf4-plain',
    () => replaced('nf4-plain', state, text(' '.repeat(5000))),
    `${state} is 5000 bytes of U8, no quant_state`,
  ],
  [
    'nf4-plain',
    () => replaced('nf4-plain', state, text({ ...good, shape: [64, 32] })),
    'shape is [64,32]; it must be [64, 64]',
  ],
  [
    'nf4-plain',
    () => replaced('nf4-plain', state, text({ ...good, blocksize: 60 })),
    'blocksize is 60; it must be a multiple of 8',
  ],
  [
    'nf4-plain',
    () => replaced('nf4-plain', state, text({ ...good, quant_type: 'fp4' })),
    'quant_type is "fp4"; it must be "nf4"',
  ],
  [
    'nf4-plain',
    () => replaced('nf4-plain', state, text({ ...good, nested_blocksize: 256 })),
    'nested_offset is missing; it must be a number',
  ],
  [
    'nf4-plain',
    () => replaced('nf4-plain', `${q}.weight`, { shape: [2048] }),
    `${q}.weight has shape [2048], config.json calls for [2048, 1]`,
  ],
  [
    'nf4-plain',
    () => replaced('nf4-plain', `${q}.weight.quant_map`, { data: new Uint8Array(64) }),
    'quant_map does not hold the levels of NF4',
  ],
  [
    'gptq-v2-asym',
    () => without('gptq-v2-asym', `${q}.qweight`),
    `lack tensor ${q}.qweight, which config.json calls for, and ${q}.weight too`,
  ],
  ['gptq-v2-asym', () => without('gptq-v2-asym', `${q}.qzeros`), `lack tensor ${q}.qzeros`],
  [
    'gptq-v2-asym',
    () => replaced('gptq-v2-asym', `${q}.qweight`, { shape: [64, 8] }),
    `${q}.qweight has shape [64, 8], config.json calls for [8, 64]`,
  ],
  [
    'gptq-v2-asym',
    () => replaced('gptq-v2-asym', `${q}.qweight`, { dtype: 'F32' }),
    `${q}.qweight has dtype F32; only I32 is read`,
  ],
  [
    'gptq-v2-asym',
    () => replaced('gptq-v2-asym', `${q}.scales`, { dtype: 'I16' }),
    `${q}.scales has dtype I16; only F32, F16 and BF16 are read`,
  ],
  [
    'gptq-v2-asym',
    () => replaced('gptq-v2-asym', `${q}.g_idx`, { data: int32(...columns.with(7, 2)) }),
    `${q}.g_idx gives column 7 group 2; there are 2 groups, from 0 on`,
  ],
  [
    'gptq-v2-asym',
    () => replaced('gptq-v2-asym', `${q}.g_idx`, { data: int32(...columns.with(9, -1)) }),
    `${q}.g_idx gives column 9 group -1`,
  ],
  ['gptq-v1-actorder', () => without('gptq-v1-actorder', `${q}.g_idx`), `lack tensor ${q}.g_idx`],
  [
    'awq',
    () => replaced('awq', `${q}.qweight`, { shape: [8, 64] }),
    `${q}.qweight has shape [8, 64], config.json calls for [64, 8]`,
  ],
  ['awq', () => without('awq', `${q}.scales`), `lack tensor ${q}.scales`],
  ['mlx', () => without('mlx', `${q}.scales`), `${q}.weight is packed, but the weights lack ${q}.scales`],
  ['mlx', () => without('mlx', `${q}.biases`), `lack tensor ${q}.biases`],
  ['mlx', () => replaced('mlx', `${q}.biases`, { dtype: 'F16' }), `${q}.biases has dtype F16; only BF16 is read`],
])('%s: tensors that are missing or wrong are named', async (_, make, message) => {
  const opening = open(await make());
  await expect(opening).rejects.toThrow(message);
  await expect(opening).rejects.toThrow(InputError);
});

test('a g_idx of zeros alone is none, as exllama has it', async () => {
  for (const name of ['gptq-v2-asym', 'gptq-v1-actorder']) {
    const checkpoint = await open(await replaced(name, `${q}.g_idx`, { data: new Uint8Array(256) }));
    expect(checkpoint.packed.get(`${q}.weight`)).toMatchObject({ group: 32, ordered: true, columnGroup: null });
    await checkpoint.close();
  }
  const all = int32(...columns.map(() => 1));
  const checkpoint = await open(await replaced('gptq-v2-asym', `${q}.g_idx`, { data: all }));
  expect(checkpoint.packed.get(`${q}.weight`)).toMatchObject({ ordered: false });
  await checkpoint.close();
});

test('a missing g_idx is in order where config.json does not ask for act-order', async () => {
  const checkpoint = await open(await without('gptq-v2-asym', `${q}.g_idx`));
  expect(checkpoint.packed.get(`${q}.weight`)?.ordered).toBe(true);
  await checkpoint.close();
});

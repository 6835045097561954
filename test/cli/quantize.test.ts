import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openFile } from '../../src/formats/files.js';
import { readHeader } from '../../src/formats/safetensors.js';
import { temporaryDirectory } from '../formats/helpers.js';
import { writeRandomCheckpoint } from '../random-checkpoint.js';
import { expectRefusal, root, runCli } from './run.js';

const lexiBase = join(root, 'models/lexi-base');

test('lexalign quantize writes a whole checkpoint and says how it is quantised', async () => {
  const output = join(await temporaryDirectory(), 'out');
  const { code, stdout, stderr } = await runCli('quantize', '--format', 'nf4', '--double-quant', '--output', output);
  expect(stderr).toMatch(/quantised 7\.6 MiB of 7\.6 MiB, [\d.]+ GB\/s/);
  expect(stdout).toMatch(/out: 7\.6 MiB written as 4\.3 MiB in [\d.]+ s\./);
  expect(code).toBe(0);
  const companions = ['generation_config.json', 'special_tokens_map.json', 'tokenizer.json', 'tokenizer_config.json'];
  expect((await readdir(output)).sort()).toEqual(['config.json', ...companions, 'model.safetensors'].sort());
  for (const name of companions)
    expect(await readFile(join(output, name))).toEqual(await readFile(join(lexiBase, name)));
  const config = JSON.parse(await readFile(join(output, 'config.json'), 'utf8'));
  const original = JSON.parse(await readFile(join(lexiBase, 'config.json'), 'utf8'));
  expect(config).toMatchObject(original);
  expect(config.quantization_config).toMatchObject({
    quant_method: 'bitsandbytes',
    load_in_4bit: true,
    bnb_4bit_quant_type: 'nf4',
    bnb_4bit_use_double_quant: true,
    bnb_4bit_compute_dtype: 'bfloat16',
  });
  const source = await openFile(join(output, 'model.safetensors'));
  const { tensors } = await readHeader(source);
  expect(tensors.get('model.layers.5.mlp.up_proj.weight')).toMatchObject({ dtype: 'U8', shape: [49152, 1] });
  expect(tensors.get('model.embed_tokens.weight')).toMatchObject({ dtype: 'BF16', shape: [8192, 192] });
  await source.close();
});

test('what cannot be written is refused before a device is opened', async () => {
  const dir = await temporaryDirectory();
  await mkdir(join(dir, 'full'));
  await writeFile(join(dir, 'full', 'file'), '');
  const out = join(dir, 'out');
  await expectRefusal(['quantize', '--format', 'nf4', '--output', join(dir, 'full')], 1, /full is not empty/);
  await expectRefusal(['quantize', '--format', 'nf4', '--bits', '8', '--output', out], 2, /NF4 has 4 bits/);
  await expectRefusal(['quantize', '--format', 'mlx', '--group-size', '128', '--output', out], 1, /192 columns/);
  const packed = ['--model', join(root, 'test/fixtures/golden/mlx/model')];
  await expectRefusal(
    ['quantize', ...packed, '--format', 'nf4', '--output', out],
    1,
    /its weights are quantised; give/,
  );
  expect(await readdir(dir)).toEqual(['full']);
});

test('weights that are no numbers leave nothing behind', async () => {
  const dir = await temporaryDirectory();
  const model = join(dir, 'model');
  await writeRandomCheckpoint(model, { hidden: 64, layers: 1, heads: 2, kvHeads: 2, intermediate: 64, vocab: 32 });
  const file = join(model, 'model.safetensors');
  const source = await openFile(file);
  const { begin } = (await readHeader(source)).tensors.get('model.layers.0.self_attn.q_proj.weight')!;
  await source.close();
  const bytes = await readFile(file);
  bytes.writeFloatLE(Number.NaN, begin + 400);
  await writeFile(file, bytes);
  const { code, stderr } = await runCli('quantize', '--model', model, '--format', 'mlx', '--output', join(dir, 'out'));
  expect(stderr).toMatch(/lexalign: .*tensor model\.layers\.0\.self_attn\.q_proj\.weight holds a NaN or an infinity/);
  expect(code).toBe(1);
  expect(await readdir(dir)).toEqual(['model']);
});

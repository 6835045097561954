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
  const directory = await temporaryDirectory();
  const output = join(directory, 'out');
  const { code, stdout, stderr } = await runCli('quantize', '--format', 'mlx', '--output', output);
  expect(stderr).toMatch(/quantised 7\.6 MiB of 7\.6 MiB, [\d.]+ GB\/s/);
  expect(stdout).toMatch(/out: 7\.6 MiB written as 2\.2 MiB in [\d.]+ s\./);
  expect(code).toBe(0);
  const companions = ['generation_config.json', 'special_tokens_map.json', 'tokenizer.json', 'tokenizer_config.json'];
  expect((await readdir(output)).sort()).toEqual(['config.json', ...companions, 'model.safetensors'].sort());
  for (const name of companions)
    expect(await readFile(join(output, name))).toEqual(await readFile(join(lexiBase, name)));
  const config = JSON.parse(await readFile(join(output, 'config.json'), 'utf8'));
  const original = JSON.parse(await readFile(join(lexiBase, 'config.json'), 'utf8'));
  const quantization = { group_size: 64, bits: 4 };
  expect(config).toEqual({ ...original, quantization, quantization_config: quantization });
  const source = await openFile(join(output, 'model.safetensors'));
  const { tensors } = await readHeader(source);
  expect(tensors.get('model.layers.5.mlp.up_proj.weight')).toMatchObject({ dtype: 'U32', shape: [512, 24] });
  await source.close();

  const data = join(directory, 'data.jsonl');
  await writeFile(data, '{"input_ids": [12, 7, 400, 33, 95], "labels": [12, 7, 400, 33, 95]}\n');
  const score = async (...args: string[]) => {
    const file = join(directory, 'scores.jsonl');
    const answer = await runCli('score', '--data', data, '--output', file, ...args);
    expect(answer.code, answer.stderr).toBe(0);
    return readFile(file, 'utf8');
  };
  const scores = await score('--model', output);
  expect(JSON.parse(scores).logprobs).toHaveLength(5);
  expect(await score('--quantize', 'int4')).toBe(scores);
  expect(await score()).not.toBe(scores);
});

test('what cannot be written is refused before a device is opened', async () => {
  const dir = await temporaryDirectory();
  await mkdir(join(dir, 'full'));
  await writeFile(join(dir, 'full', 'file'), '');
  const out = join(dir, 'out');
  await expectRefusal(['quantize', '--format', 'nf4', '--output', join(dir, 'full')], 1, /full is not empty/);
  await expectRefusal(['quantize', '--format', 'nf4', '--bits', '8', '--output', out], 2, /NF4 has 4 bits/);
  const packed = ['--model', join(root, 'test/fixtures/golden/mlx/model')];
  await expectRefusal(
    ['quantize', ...packed, '--format', 'nf4', '--output', out],
    1,
    /its weights are quantised; give/,
  );
  expect(await readdir(dir)).toEqual(['full']);
});

test('quantised weights are not quantised again while loading', async () => {
  const model = join(root, 'test/fixtures/golden/nf4-plain/model');
  const generate = ['generate', '--model', model, '--quantize', 'nf4', '--prompt-ids', '1'];
  await expectRefusal(generate, 2, /--quantize nf4: the weights of .*nf4-plain\/model are quantised already; leave it/);
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

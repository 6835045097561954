import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readConfigFile, readSection } from '../../src/cli/config-file.js';
import { ppoTable } from '../../src/cli/ppo-arguments.js';
import { sftTable } from '../../src/cli/sft.js';
import { expectRefusal } from './run.js';
import { lexalign, makeWorkplace } from './sft-helpers.js';

const { directory, remove } = makeWorkplace();
afterAll(remove);
const file = (text: string) => {
  const path = join(directory, 'options.yaml');
  writeFileSync(path, text);
  return path;
};

describe('a file of options', () => {
  const known = {
    k: { type: 'string' },
    'memory-limit': { type: 'string' },
    stop: { type: 'array' },
    rate: { type: 'number' },
  } as const;

  it('gives options of text as text, also where YAML reads a number', () => {
    const path = file('k: 5\nmemory_limit: [8, 9]\nstop: 3\nrate: 1e-5\n');
    expect(readConfigFile(path, 'evaluate', known)).toEqual({ k: '5', 'memory-limit': '8,9', stop: ['3'], rate: 1e-5 });
  });

  it('is no recipe where it is long: the parser’s time grows with the square of its keys', () => {
    const path = file(Array.from({ length: 10_000 }, (_, i) => `k${i}: 1`).join('\n'));
    expect(() => readConfigFile(path, 'evaluate', known)).toThrow(
      /options\.yaml cannot be read: it is larger than 65536/,
    );
  });

  it('may have Windows line ends', () => {
    const path = file('evaluate:\r\n  k: 5, 10\r\nrate: 2\r\n');
    expect(readConfigFile(path, 'evaluate', known)).toEqual({ k: '5, 10', rate: 2 });
  });

  it('gives model and device of a study to its other sections, and leaves the rest of align alone', () => {
    const path = file('align: {model: big, memory_limit: 8GiB, tier: f16, seed: 1}\nsft: {tier: f32, lora_r: 4}\n');
    expect(readConfigFile(path, 'sft', sftTable)).toEqual({
      model: 'big',
      'memory-limit': '8GiB',
      tier: 'f32',
      'lora-r': 4,
    });
    expect(readConfigFile(path, 'data', known)).toEqual({ 'memory-limit': '8GiB' });
    expect(readSection(path, 'sft', sftTable)).toEqual({ tier: 'f32', 'lora-r': 4 });
  });

  it("multiplies TRL's two names for the batch size of SFT, wherever each stands", () => {
    const top = 'per_device_train_batch_size: 4\ngradient_accumulation_steps: 2\n';
    const size = (text: string) => readConfigFile(file(text), 'sft', sftTable);
    expect(size(`${top}sft: {seed: 1}\n`)).toEqual({ 'batch-size': 8, seed: 1 });
    expect(size(`${top}sft: {gradient_accumulation_steps: 8}\n`)).toEqual({ 'batch-size': 32 });
    expect(size('per-device-train-batch-size: 4\nsft: {gradient-accumulation-steps: }\n')).toEqual({ 'batch-size': 4 });
    expect(readSection(file(`sft: {${top.replace('\n', ', ').trim()}}\n`), 'sft', sftTable)).toEqual({
      'batch-size': 8,
    });
    for (const text of [
      'gradient_accumulation_steps: 4\n',
      'sft: {gradient_accumulation_steps: 4, per_device_train_batch_size: }\n',
    ])
      expect(() => size(text)).toThrow(/yaml: gradient_accumulation_steps alone is no batch size: give per_device_tr/);
    for (const text of ['batch_size: 4\nsft: {per_device_train_batch_size: 2}\n', `${top}sft: {batch_size: 4}\n`])
      expect(() => size(text)).toThrow(/give batch_size or TRL's names for it, not both\.$/);
    for (const value of ['0', '-2', '1.5', '[2]', 'auto'])
      expect(() => size(`per_device_train_batch_size: ${value}\ngradient_accumulation_steps: 2\n`)).toThrow(
        /per_device_train_batch_size must be a number, whole and at least 1\.$/,
      );
  });

  it("refuses TRL's two names where they are not the rows of a step", () => {
    for (const text of ['per_device_train_batch_size: 4\n', 'ppo: {batch_size: 8, gradient_accumulation_steps: 2}\n'])
      expect(() => readConfigFile(file(text), 'ppo', ppoTable)).toThrow(
        /is no option of ppo, since .*: give batch_size, the answers of a rollout, and put TRL's names for SFT into a section sft\.$/,
      );
    expect(() => readSection(file('ppo: {per_device_train_batch_size: 4}\n'), 'ppo', ppoTable)).toThrow(/of ppo/);
    expect(() => readConfigFile(file('per_device_train_batch_size: 4\n'), 'evaluate', known)).toThrow(
      /per_device_train_batch_size is no option of evaluate\./,
    );
    const both = file('sft: {per_device_train_batch_size: 4}\nppo: {batch_size: 8}\n');
    expect(readConfigFile(both, 'ppo', ppoTable)).toEqual({ 'batch-size': 8 });
  });

  it('plans the model of a study', async () => {
    const path = file('align: {model: llama-3.1-8b}\ncultures: []\nsft: {max_length: 64}\n');
    const { stdout, code } = await lexalign('plan', '--config', path, '--quantize', 'nf4', '--device', 'typical');
    expect(stdout).toMatch(/^Model: llama-3\.1-8b, 8\.03 billion .* rows of up to 64 tokens/m);
    expect(code).toBe(0);
  });

  it('says why it cannot be read', async () => {
    const utf16 = join(directory, 'utf16.yaml');
    writeFileSync(utf16, Buffer.from('\ufeffdata: x\n', 'utf16le'));
    await expectRefusal(['sft', '--config', utf16], 1, /utf16\.yaml cannot be read: it is not UTF-8 text$/);
    await expectRefusal(['sft', '--config', directory], 1, /cannot be read: it is a directory$/);
    await expectRefusal(['sft', '--config', file('data: [1\n')], 1, /cannot be read: .* at line 2, column 1$/);
    writeFileSync(utf16, '\ufeffk: x\n'); // a mark of UTF-8 is no part of the first name
    expect(readConfigFile(utf16, 'evaluate', known)).toEqual({ k: 'x' });
  });

  it('refuses a switch where a text belongs', () =>
    expectRefusal(['sft', '--config', file('data: true\noutput: x\n')], 2, /--data needs a value, not true/));
});

it('the command line refuses a text that is switched off', () =>
  expectRefusal(['sft', '--no-data', '--output', 'x'], 2, /--data needs a value, not false/));

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readConfigFile, readSection } from '../../src/cli/config-file.js';
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

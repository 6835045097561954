import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkOutputFile } from '../../src/cli/output-file.js';
import { expectRefusal } from './run.js';
import { makeWorkplace } from './sft-helpers.js';

const { directory, remove } = makeWorkplace();
const at = (name: string) => join(directory, name);
afterAll(remove);

describe('a file that a command writes', () => {
  beforeAll(() => {
    writeFileSync(at('rows.jsonl'), '{"text": "kept"}\n');
    symlinkSync('rows.jsonl', at('link.jsonl'));
    mkdirSync(at('sub'));
  });

  it.each([
    ['score', '--data', at('rows.jsonl'), '--output', at('rows.jsonl')],
    ['score', '--data', at('link.jsonl'), '--output', at('sub/../rows.jsonl')],
    ['generate', '--prompts', at('rows.jsonl'), '--json', at('rows.jsonl')],
    [
      'evaluate',
      'affect',
      '--answers',
      at('x.json'),
      '--lexicon',
      `${at('y')},${at('rows.jsonl')}`,
      '--json',
      at('link.jsonl'),
    ],
  ])('is none that it reads: %s', async (...args) => {
    await expectRefusal(args, 2, /--(output|json) \S+ is what --(data|prompts|lexicon) reads: name another file/);
    expect(readFileSync(at('rows.jsonl'), 'utf8')).toBe('{"text": "kept"}\n');
    expect(readdirSync(directory).sort()).toEqual(expect.arrayContaining(['link.jsonl', 'rows.jsonl', 'sub']));
  });

  it.skipIf(process.platform === 'win32').each(['/dev/null', '/dev/stdout', '/dev/fd/1', '/proc/self/fd/1'])(
    'is no device: %s, which would be replaced',
    async (file) => {
      await expect(checkOutputFile('--json', file)).rejects.toThrow(
        `--json ${file} is no regular file: name one, or - for standard output.`,
      );
    },
  );

  it('may be new, or there already', async () => {
    await checkOutputFile('--json', at('new.json'));
    await checkOutputFile('--json', at('rows.jsonl'));
  });
});

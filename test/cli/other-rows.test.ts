import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { parseRow } from '../../src/batch/rows.js';
import { skip } from '../skip.js';

const directory = mkdtempSync(join(tmpdir(), 'lexalign-rows-'));
afterAll(() => rmSync(directory, { recursive: true }));

const page = readFileSync(join(import.meta.dirname, '../../docs/data.md'), 'utf8');
const conversation = {
  messages: ['user', 'assistant'].map((role, i) => ({ role, content: ['red\n\nin short', 'danger'][i] })),
};

it.each([
  ['list.json', [conversation]],
  [
    'sharegpt.jsonl',
    {
      conversations: [
        { from: 'human', value: 'red\n\nin short' },
        { from: 'gpt', value: 'danger' },
      ],
    },
  ],
  ['alpaca.jsonl', { instruction: 'red', input: 'in short', output: 'danger' }],
  ['alpaca.jsonl', { instruction: 'red\n\nin short', input: '', output: 'danger' }],
])('the documented command makes rows of %s', (file, content) => {
  const command = page.split('\n').find((line) => line.startsWith('jq ') && line.includes(` ${file} >`));
  expect(command).toBeDefined();
  try {
    execFileSync('jq', ['--version']);
  } catch {
    skip('jq is not installed');
  }
  writeFileSync(join(directory, file), JSON.stringify(content));
  execFileSync('sh', ['-c', command!], { cwd: directory });
  const lines = readFileSync(join(directory, 'train.jsonl'), 'utf8').trimEnd().split('\n');
  expect(lines.map((line) => parseRow(line, 'train.jsonl'))).toMatchObject([{ kind: 'messages', ...conversation }]);
});

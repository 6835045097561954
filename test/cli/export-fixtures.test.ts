import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gguf } from '@huggingface/gguf';
import { afterAll, expect, it } from 'vitest';
import { nodeExecutable } from '../../src/cli/software-driver.js';
import { root } from './run.js';

const directory = mkdtempSync(join(tmpdir(), 'lexalign-fixtures-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const at = (name: string) => join(directory, 'fixtures', name);

function exportFixtures(...args: readonly string[]) {
  const { LEXALIGN_RELAUNCHED_BY: _, ...env } = process.env;
  const script = join(root, 'scripts', 'export-fixtures.mjs');
  return spawnSync(nodeExecutable(), [script, ...args], { cwd: root, env, encoding: 'utf8' });
}

it('writes base, adapter and the answers that another runtime must give', async () => {
  const { status, stderr } = exportFixtures(join(directory, 'fixtures'), '--steps', '1', '--prompts', '2');
  expect(status, stderr).toBe(0);

  const base = await gguf(at('base.gguf'), { allowLocalFile: true });
  expect(base.metadata).toMatchObject({ 'general.architecture': 'llama', 'llama.block_count': 6 });
  expect(base.tensorInfos).toHaveLength(2 + 6 * 9);
  const embedding = base.tensorInfos.find(({ name }) => name === 'token_embd.weight')!;
  expect(embedding.shape.map(Number)).toEqual([192, 8192]);
  const adapter = await gguf(at('adapter.gguf'), { allowLocalFile: true });
  expect(adapter.metadata).toMatchObject({ 'general.type': 'adapter', 'adapter.type': 'lora' });
  expect(adapter.tensorInfos).toHaveLength(6 * 7 * 2);

  const expected = JSON.parse(readFileSync(at('expected.json'), 'utf8'));
  expect(expected.max_new_tokens).toBe(24);
  expect(expected.prompts).toHaveLength(2);
  const tokens = (base.metadata as Record<string, unknown>)['tokenizer.ggml.tokens'] as string[];
  const spell = (ids: readonly number[]) =>
    ids
      .map((id) => tokens[id])
      .join('')
      .replaceAll('Ġ', ' ');
  for (const { prompt, prompt_ids: ids, ...answers } of expected.prompts) {
    expect(spell(ids)).toBe(prompt);
    for (const answer of [answers.base, answers.adapted]) {
      expect(answer.ids.length).toBeGreaterThan(0);
      expect(spell(answer.ids)).toContain(answer.text);
    }
  }
});

it('removes nothing, and knows its options', () => {
  writeFileSync(join(directory, 'mine'), '');
  const taken = exportFixtures(directory);
  expect(taken.status).toBe(1);
  expect(taken.stderr).toContain(`${directory} is not empty: name a new directory, or remove it.`);
  for (const wrong of [['--help'], ['--prompts', '21'], ['a', 'b']]) {
    const refused = exportFixtures(...wrong);
    expect(refused.status).toBe(2);
    expect(refused.stderr).toMatch(/^Usage: npm run export:fixtures -- \[DIRECTORY\]/);
  }
});

import { existsSync } from 'node:fs';
import { cp, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));

export const lexiBase = join(root, 'models/lexi-base');

/** A path under ../shared, which may be absent. */
export const sharedPath = (name: string): string => join(root, '../shared', name);

/** `it`, or a skip that says why where the file or directory is absent. */
export function itWith(name: string): typeof it | typeof it.skip {
  if (existsSync(sharedPath(name))) return it;
  console.log(`skipped: ../shared/${name} is absent`);
  return it.skip;
}

/** Copies lexi-base's tokenizer into a new directory, with changes to its files (null removes one). */
export async function makeTokenizer(
  changes: { config?: Record<string, unknown>; addedTokens?: string[]; files?: Record<string, string> } = {},
): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lexalign-tokenizer-'));
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) await cp(join(lexiBase, name), join(directory, name));
  const edit = async (name: string, change: (value: Record<string, unknown>) => void) => {
    const value = JSON.parse(await readFile(join(directory, name), 'utf8'));
    change(value);
    await writeFile(join(directory, name), JSON.stringify(value));
  };
  await edit('tokenizer_config.json', (config) => Object.assign(config, changes.config));
  await edit('tokenizer.json', (tokenizer) => {
    const added = tokenizer.added_tokens as unknown[];
    for (const [i, content] of (changes.addedTokens ?? []).entries()) {
      added.push({
        id: 8192 + i,
        content,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      });
    }
  });
  for (const [name, text] of Object.entries(changes.files ?? {})) await writeFile(join(directory, name), text);
  return directory;
}

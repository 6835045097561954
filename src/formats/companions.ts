import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { hasFile, readFileInside, writeFileAtomic } from './files.js';

/** What goes along with weights that are written anew: tokenizer, templates, generation settings, licence. */
const COMPANIONS =
  /^(tokenizer|special_tokens_map|added_tokens|generation_config|chat_template|vocab|merges|LICEN[SC]E|NOTICE|USE_POLICY)|\.(model|tiktoken|jinja)$/;
/** Whether a file of a model directory goes along: neither weights, config.json nor code. */
export const isCompanion = (name: string): boolean => COMPANIONS.test(name) && !name.endsWith('.py');

const MAX_COMPANION_BYTES = 256_000_000;

/** Copies the companions of a model directory. Throws InputError. */
export async function copyCompanions(from: string, to: string): Promise<void> {
  for (const name of await readdir(from)) {
    if (!isCompanion(name) || !(await hasFile(from, name))) continue;
    await writeFileAtomic(join(to, name), await readFileInside(from, name, MAX_COMPANION_BYTES));
  }
}

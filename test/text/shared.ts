import { existsSync } from 'node:fs';
import { cp, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { it } from 'vitest';
import { type Tokenizer, tryLoadTokenizer } from '../../src/text/tokenizer.js';

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

/** The tokenizer of a directory that has one. */
export async function loadTokenizer(directory: string): Promise<Tokenizer> {
  const tokenizer = await tryLoadTokenizer(directory);
  if (!tokenizer) throw new Error(`${directory} has no tokenizer`);
  return tokenizer;
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

/** How a tokenizer of SentencePiece's kind marks the beginning of a text with "▁". */
export type StartMark = 'prepend' | 'first' | 'always' | 'never';

/**
 * A small tokenizer as Llama 2 has it (letters, bytes for all else, and `words`, each with and without "▁" before it),
 * in a new directory. `template` is its chat template.
 */
export async function makeSentencePiece(mark: StartMark, words: readonly string[], template?: string): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lexalign-sentencepiece-'));
  const specials = ['<unk>', '<s>', '</s>'];
  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`);
  const characters = ['▁', ...Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i))];
  const merges: [string, string][] = [];
  const vocabulary = new Set([...specials, ...bytes, ...characters]);
  for (const word of words) {
    for (let end = 2; end <= word.length; end++) merges.push([word.slice(0, end - 1), word.slice(end - 1, end)]);
    merges.push(['▁', word]);
  }
  for (const [left, right] of merges) vocabulary.add(left + right);
  const replace = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const prepend = mark === 'prepend';
  const definition = {
    version: '1.0',
    added_tokens: specials.map((content, id) => ({ id, content, special: true, normalized: false })),
    normalizer: prepend ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, replace] } : null,
    pre_tokenizer: prepend ? null : { type: 'Metaspace', replacement: '▁', prepend_scheme: mark, split: false },
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      unk_token: '<unk>',
      fuse_unk: true,
      byte_fallback: true,
      vocab: Object.fromEntries(Array.from(vocabulary, (token, id) => [token, id])),
      merges: merges.map((pair) => pair.join(' ')),
    },
  };
  const config = { bos_token: '<s>', eos_token: '</s>', unk_token: '<unk>', chat_template: template };
  await writeFile(join(directory, 'tokenizer.json'), JSON.stringify(definition));
  await writeFile(join(directory, 'tokenizer_config.json'), JSON.stringify(config));
  return directory;
}

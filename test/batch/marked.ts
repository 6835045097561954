import { readFile } from 'node:fs/promises';
import { expect } from 'vitest';
import { buildExample } from '../../src/batch/examples.js';
import { parseRow } from '../../src/batch/rows.js';
import { unsupervised } from '../../src/batch/types.js';
import type { Tokenizer } from '../../src/text/tokenizer.js';
import { itWith, loadTokenizer, makeTokenizer, sharedPath } from '../text/shared.js';

export const turn = (role: string, content: string) => ({ role, content });

/** The text of an example with its supervised stretches in « ». */
export function markSupervised(row: unknown, tokenizer: Tokenizer): string {
  const { ids, labels } = buildExample(parseRow(JSON.stringify(row), 'f, line 1'), tokenizer, 9000);
  let text = '';
  for (let start = 0; start < ids.length; ) {
    let end = start;
    while (end < ids.length && (labels[end] === unsupervised) === (labels[start] === unsupervised)) end++;
    const piece = tokenizer.decode(ids.subarray(start, end), { skipSpecials: false });
    text += labels[start] === unsupervised ? piece : `«${piece}»`;
    if (labels[start] !== unsupervised) expect(labels.subarray(start, end)).toEqual(ids.subarray(start, end));
    start = end;
  }
  return text;
}

export const itOfficial = itWith('tokenizers/chat-templates');
export const official = async (name: string, addedTokens: string[]) => {
  const template = await readFile(sharedPath(`tokenizers/chat-templates/${name}.jinja`), 'utf8');
  return loadTokenizer(await makeTokenizer({ addedTokens, files: { 'chat_template.jinja': template } }));
};

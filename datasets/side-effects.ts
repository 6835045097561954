import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseObject } from '../src/batch/rows.js';
import { InputError } from '../src/errors.js';
import type { Instruction } from '../src/evaluate/side-effects.js';
import { packageRoot } from '../src/paths.js';
import { readLines, readRows } from '../src/text/lines.js';

/** A text to take perplexity on. */
export interface GeneralText {
  readonly id: string;
  readonly text: string;
}

/** The embedded texts of a language, or of all. Throws InputError where there are none. */
export function loadTexts(language: string | undefined): GeneralText[] {
  return load<GeneralText & { language: string }>('texts.jsonl', language);
}

/** The embedded instructions of a language, or of all. Throws InputError where there are none. */
export function loadInstructions(language: string | undefined): Instruction[] {
  return load<Instruction>('instructions.jsonl', language);
}

function load<T extends { readonly language: string }>(name: string, language: string | undefined): T[] {
  const lines = readFileSync(join(packageRoot, 'datasets', 'side-effects', name), 'utf8')
    .trim()
    .split('\n');
  const all = lines.map((line): T => JSON.parse(line));
  const own = language === undefined ? all : all.filter((entry) => entry.language === language);
  if (own.length > 0) return own;
  throw new InputError(
    `there are no texts and instructions of ours in ${language}, only in en and zh: leave side-effects out of the measures`,
  );
}

/** Texts of a user's file: JSONL of `{text}` by its ending, else paragraphs between blank lines. Throws InputError. */
export async function readTexts(file: string): Promise<GeneralText[]> {
  const texts: GeneralText[] = [];
  let paragraph: string[] = [];
  const add = (text: string) => {
    if (text.trim() !== '') texts.push({ id: String(texts.length + 1), text: text.trim() });
  };
  if (file.endsWith('.jsonl')) for await (const { text, where } of readRows(file)) add(textOf(text, where));
  else
    for await (const line of readLines(file)) {
      if (line.trim() !== '') paragraph.push(line);
      else {
        add(paragraph.join('\n'));
        paragraph = [];
      }
    }
  add(paragraph.join('\n'));
  if (texts.length === 0) throw new InputError(`${file} has no text`);
  return texts;
}

function textOf(line: string, where: string): string {
  const { text } = parseObject(line, where, '{"text": "…"}');
  if (typeof text !== 'string') throw new InputError(`${where} has no "text" that is a string: write {"text": "…"}`);
  return text;
}

import { basename } from 'node:path';
import { parse } from 'yaml';
import { InputError } from '../errors.js';
import { readLines } from '../text/lines.js';
import { type AssociationPrompt, INSTRUCT_PROMPTS, LEXI_BASE_PROMPTS } from '../text/prompts.js';
import type { OpenModel } from './session.js';

/** Whether it is the embedded default model, which follows no instructions. */
export function isLexiBase(model: OpenModel): boolean {
  return basename(model.directory) === 'lexi-base';
}

/** The prompt of `--prompt-file`, else the one that suits the model. */
export async function chooseAssociationPrompt(
  file: string | undefined,
  model: OpenModel,
  language: 'en' | 'zh',
): Promise<AssociationPrompt> {
  if (file === undefined) return (isLexiBase(model) ? LEXI_BASE_PROMPTS : INSTRUCT_PROMPTS)[language];
  const lines: string[] = [];
  let characters = 0;
  for await (const line of readLines(file, 1 << 16)) {
    characters += line.length;
    if (characters > 1 << 20) throw new InputError(`--prompt-file ${file} is longer than 1 MiB: not a prompt.`);
    lines.push(line);
  }
  let value: unknown;
  try {
    value = parse(lines.join('\n'), { maxAliasCount: 100 });
  } catch (error) {
    throw new InputError(`--prompt-file ${file} is not YAML or JSON: ${(error as Error).message.split('\n')[0]}`);
  }
  return checkPrompt(value, file);
}

function checkPrompt(value: unknown, file: string): AssociationPrompt {
  const fields = typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  const { form = 'chat', system = null, question, separator = ', ', lead = '' } = fields;
  const refuse = (key: string, must: string) => new InputError(`--prompt-file ${file}: ${key} must be ${must}.`);
  const known = ['form', 'system', 'question', 'separator', 'lead'];
  for (const key of Object.keys(fields)) if (!known.includes(key)) throw refuse(key, `one of ${known.join(', ')}`);
  if (form !== 'chat' && form !== 'text') throw refuse('form', '"chat" or "text"');
  if (system !== null && (typeof system !== 'string' || form === 'text'))
    throw refuse('system', 'text, with form chat');
  if (typeof question !== 'string' || !question.includes('{cue}')) throw refuse('question', 'text with {cue} in it');
  if (typeof separator !== 'string') throw refuse('separator', 'text');
  if (typeof lead !== 'string') throw refuse('lead', 'text');
  return { form, system, question, separator, lead };
}

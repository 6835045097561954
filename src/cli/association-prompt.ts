import { parse } from 'yaml';
import { InputError, UsageError } from '../errors.js';
import { isRecord } from '../formats/keys.js';
import { readLines } from '../text/lines.js';
import {
  type AssociationPrompt,
  INSTRUCT_PROMPTS,
  LEXI_BASE_PROMPTS,
  LEXI_BASE_RANKING_PROMPTS,
  RANKING_PROMPTS,
  type RankingPrompt,
} from '../text/prompts.js';
import { isLexiBase, type OpenModel } from './session.js';

/** The prompt of `--prompt-file`, else the one that suits the model. Throws UsageError where the language has none. */
export async function chooseAssociationPrompt(
  file: string | undefined,
  model: OpenModel,
  language: string,
): Promise<AssociationPrompt> {
  return file === undefined ? ownPrompt(isLexiBase(model) ? 'lexi-base' : 'instruct', language) : readPromptFile(file);
}

/** Our own prompt in a style and language. Throws UsageError where there is none. */
export function ownPrompt(style: 'instruct' | 'lexi-base', language: string): AssociationPrompt {
  const prompts: Readonly<Record<string, AssociationPrompt>> =
    style === 'instruct' ? INSTRUCT_PROMPTS : LEXI_BASE_PROMPTS;
  const prompt = prompts[language];
  if (prompt) return prompt;
  throw new UsageError(
    `There is no prompt of ours in language ${language}, only in ${Object.keys(prompts).join(', ')}: give --prompt-file.`,
  );
}

/** Our own prompt that asks to rank words. Throws UsageError where there is none in the language. */
export function rankingPrompt(style: 'instruct' | 'lexi-base', language: string): RankingPrompt {
  const prompts: Readonly<Record<string, RankingPrompt>> =
    style === 'instruct' ? RANKING_PROMPTS : LEXI_BASE_RANKING_PROMPTS;
  const prompt = prompts[language];
  if (prompt) return prompt;
  throw new UsageError(
    `There is no ranking prompt of ours in language ${language}, only in ${Object.keys(prompts).join(', ')}: leave --ranking out.`,
  );
}

/** The prompt of `--prompt-file`. Throws InputError. */
export async function readPromptFile(file: string): Promise<AssociationPrompt> {
  const { fields, refuse } = await readPromptFields(file, ['form', 'system', 'question', 'separator', 'lead']);
  const { form = 'chat', system = null, question, separator = ', ', lead = '' } = fields;
  if (form !== 'chat' && form !== 'text') throw refuse('form', '"chat" or "text"');
  if (system !== null && (typeof system !== 'string' || form === 'text'))
    throw refuse('system', 'text, with form chat');
  if (typeof question !== 'string' || !question.includes('{cue}')) throw refuse('question', 'text with {cue} in it');
  if (typeof separator !== 'string') throw refuse('separator', 'text');
  if (typeof lead !== 'string') throw refuse('lead', 'text');
  return { form, system, question, separator, lead };
}

/** A file that says how to ask for rankings. Throws InputError. */
export async function readRankingPrompt(file: string): Promise<RankingPrompt> {
  const { fields, refuse } = await readPromptFields(file, ['system', 'question', 'separator']);
  const { system = null, question, separator = ', ' } = fields;
  if (system !== null && typeof system !== 'string') throw refuse('system', 'text');
  if (typeof question !== 'string' || !question.includes('{cue}') || !question.includes('{words}'))
    throw refuse('question', 'text with {cue} and {words} in it');
  if (typeof separator !== 'string') throw refuse('separator', 'text');
  return { system, question, separator };
}

/** The mapping in a YAML or JSON file of a prompt, of known keys; and what refuses one of them. */
async function readPromptFields(file: string, known: readonly string[]) {
  return promptFields(await readPromptYaml(file), `--prompt-file ${file}`, known);
}

/** What a YAML or JSON file of prompts holds. Throws InputError. */
export async function readPromptYaml(file: string): Promise<unknown> {
  const lines: string[] = [];
  let characters = 0;
  for await (const line of readLines(file, 1 << 16)) {
    characters += line.length;
    if (characters > 1 << 20) throw new InputError(`--prompt-file ${file} is longer than 1 MiB: not a prompt.`);
    lines.push(line);
  }
  try {
    return parse(lines.join('\n'), { maxAliasCount: 100 });
  } catch (error) {
    throw new InputError(`--prompt-file ${file} is not YAML or JSON: ${(error as Error).message.split('\n')[0]}`);
  }
}

/** A prompt as a mapping of known keys; and what refuses one of them. Throws InputError that says `where`. */
export function promptFields(value: unknown, where: string, known: readonly string[]) {
  const fields = isRecord(value) ? value : {};
  const refuse = (key: string, must: string) => new InputError(`${where}: ${key} must be ${must}.`);
  for (const key of Object.keys(fields)) if (!known.includes(key)) throw refuse(key, `one of ${known.join(', ')}`);
  return { fields, refuse };
}

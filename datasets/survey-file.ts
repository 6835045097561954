import { InputError } from '../src/errors.js';
import type { SurveyOption, SurveyQuestion } from '../src/evaluate/survey.js';
import { parseJson } from '../src/formats/json.js';
import { isRecord } from '../src/formats/keys.js';
import { readRows } from '../src/text/lines.js';

/** A question as it is asked, without what people answered. */
export type Wording = Omit<SurveyQuestion, 'countries'>;

/** Reads a user's `questions.jsonl`: `{id, language, question, options: [{code, text}], ordinal?}`. Throws InputError. */
export async function readQuestions(file: string): Promise<Wording[]> {
  return readJsonl(file, checkWording);
}

/** Reads a `survey.jsonl` as `lexalign data` writes it: a wording and `countries: {NAME: {shares, n}}`. Throws InputError. */
export async function readSurvey(file: string): Promise<SurveyQuestion[]> {
  return readJsonl(file, (value, where) => {
    const wording = checkWording(value, where);
    const countries = isRecord(value) ? value.countries : undefined;
    if (!isRecord(countries)) throw new InputError(`${where}: countries must hold the answers by country`);
    for (const [country, entry] of Object.entries(countries)) {
      const shares = isRecord(entry) && Array.isArray(entry.shares) ? entry.shares : [];
      const sum = shares.reduce((total: number, share) => total + (share >= 0 ? share : Number.NaN), 0);
      if (shares.length !== wording.options.length || !(Math.abs(sum - 1) < 1e-6)) {
        throw new InputError(`${where}: shares of ${country} must be ${wording.options.length} numbers that sum to 1`);
      }
    }
    return { ...wording, countries: countries as SurveyQuestion['countries'] };
  });
}

/** How many questions there are, and of how many the options have no order. */
export function countQuestions(survey: readonly SurveyQuestion[]): Record<string, number> {
  const unordered = survey.filter(({ ordinal }) => ordinal === false).length;
  return { questions: survey.length, ...(unordered > 0 ? { 'questions without an order': unordered } : {}) };
}

async function readJsonl<T extends Wording>(file: string, check: (value: unknown, where: string) => T): Promise<T[]> {
  const entries: T[] = [];
  const keys = new Set<string>();
  for await (const { text, where } of readRows(file)) {
    let value: unknown;
    try {
      value = parseJson(text);
    } catch (error) {
      throw new InputError(`${where} is not JSON: write one object a line (${(error as Error).message})`);
    }
    const entry = check(value, where);
    const key = `${entry.id} ${entry.language}`;
    if (keys.has(key)) throw new InputError(`${where}: id ${entry.id} stands twice in language ${entry.language}`);
    keys.add(key);
    entries.push(entry);
  }
  if (entries.length === 0) throw new InputError(`${file} has no questions`);
  return entries;
}

function checkWording(value: unknown, where: string): Wording {
  const { id, language, question, options, ordinal } = isRecord(value) ? value : {};
  for (const [name, text] of Object.entries({ id, language, question })) {
    if (typeof text !== 'string' || text.trim() === '') throw new InputError(`${where}: ${name} must be text`);
  }
  if (!Array.isArray(options) || options.length < 2 || options.length > 26) {
    throw new InputError(`${where}: options must be a list of 2 to 26 {code, text}, in their order`);
  }
  const checked = options.map((option: unknown): SurveyOption => {
    const { code, text } = isRecord(option) ? option : {};
    if ((typeof code !== 'string' && typeof code !== 'number') || typeof text !== 'string' || text.trim() === '') {
      throw new InputError(`${where}: every option needs a code and a text`);
    }
    return { code: String(code), text };
  });
  const codes = new Set(checked.map(({ code }) => code));
  if (codes.size < checked.length) throw new InputError(`${where}: two options have one code`);
  if (ordinal !== undefined && typeof ordinal !== 'boolean')
    throw new InputError(`${where}: ordinal must be false, where the options have no order, or true`);
  return {
    ...{ id: id as string, language: language as string, question: question as string, options: checked },
    ...(ordinal === false ? { ordinal } : {}),
  };
}

import { sources } from '../../datasets/index.js';
import { UsageError } from '../errors.js';
import { isRecord } from '../formats/keys.js';
import { PERSONAS } from '../text/preamble.js';
import { suggest } from './usage.js';

/** A file of a source of `lexalign data`. */
export interface SourceFile {
  readonly source: string;
  /** File, or directory of files of one layout. */
  readonly input: string;
}

/** One entry of a recipe's `cultures:`. */
export interface Culture {
  /** Names its directories. */
  readonly name: string;
  /** BCP 47. */
  readonly language: string;
  /** As the survey spells it. */
  readonly country: string | null;
  /** What the culture prompt says; null where there is none to be made. */
  readonly persona: { readonly text: string; readonly place: string } | null;
  /** Null: the embedded mini-norms. */
  readonly associations:
    | (SourceFile & {
        readonly country: readonly string[];
        readonly nativeLanguage: readonly string[];
        /** Null: all, where a source has several. */
        readonly responses: string | null;
      })
    | null;
  readonly lexicons: readonly SourceFile[];
  readonly survey:
    | (SourceFile & {
        readonly questions: string | null;
        /** The country to compare with beside the culture's own; null: that of the first other culture. */
        readonly against: string | null;
      })
    | null;
  /** Files of prompts of the user's own. */
  readonly prompts: Readonly<Record<'association' | 'ranking' | 'survey', string | null>>;
}

/** In place of a source: what `lexalign data` wrote. */
export const imported = 'imported';

const keys = {
  culture: ['name', 'language', 'country', 'place', 'persona', 'associations', 'lexicons', 'survey', 'prompts'],
  associations: ['source', 'input', 'country', 'native_language', 'responses'],
  lexicon: ['source', 'input'],
  survey: ['source', 'input', 'questions', 'against'],
  prompts: ['association', 'ranking', 'survey'],
} as const;

/** Reads `cultures:` of a recipe. Throws UsageError that names the entry and the key. */
export function parseCultures(value: unknown, file: string): Culture[] {
  const where = `--config ${file}: cultures`;
  if (!Array.isArray(value) || value.length === 0)
    throw new UsageError(`${where} must be a list, each entry with ${keys.culture.slice(0, 2).join(', ')} and so on.`);
  const cultures = value.map((entry, i) => parseCulture(entry, `${where}, entry ${i + 1}`));
  // In any case: they name directories, and those of Windows and macOS are the same in either.
  const same = (a: Culture, b: Culture) => a.name.toLowerCase() === b.name.toLowerCase();
  const again = cultures.find((culture, i) => cultures.findIndex((other) => same(other, culture)) < i);
  if (again) throw new UsageError(`${where}: two are named ${again.name}: name each once.`);
  return cultures;
}

function parseCulture(value: unknown, where: string): Culture {
  const entry = mapping(value, where, keys.culture);
  const name = required(entry.name, `${where}: name`);
  if (!/^[\p{L}\p{N}][\p{L}\p{N}._-]*$/u.test(name))
    throw new UsageError(`${where}: name ${name} names directories: write it in letters, digits, "-", "_" and ".".`);
  const own = `${where} (${name})`;
  const language = required(entry.language, `${own}: language`);
  const country = text(entry.country, `${own}: country`);
  const place = text(entry.place, `${own}: place`) ?? country;
  const persona = text(entry.persona, `${own}: persona`) ?? PERSONAS[language] ?? null;
  return {
    name,
    language,
    country,
    persona:
      persona === null || (place === null && persona.includes('{place}'))
        ? null
        : { text: persona, place: place ?? '' },
    associations: parseAssociations(entry.associations, language, `${own}: associations`),
    lexicons: list(entry.lexicons).map((one, i) => parseLexicon(one, `${own}: lexicons, entry ${i + 1}`)),
    survey: parseSurvey(entry.survey, country, `${own}: survey`),
    prompts: parsePrompts(entry.prompts, `${own}: prompts`),
  };
}

function parseAssociations(value: unknown, language: string, where: string): Culture['associations'] {
  if (value === 'mini-norms') {
    if (language !== 'en' && language !== 'zh')
      throw new UsageError(`${where}: mini-norms are in en and zh, not in ${language}: give {source, input}.`);
    return null;
  }
  const entry = mapping(value, where, keys.associations, 'or mini-norms');
  const own = sources.find(({ name }) => name === entry.source);
  const file = parseSource(entry, 'associations', where);
  if (own?.kind === 'associations' && own.language !== null && own.language !== language)
    throw new UsageError(`${where}: ${own.name} is in ${own.language}, the culture in ${language}.`);
  return {
    ...file,
    country: texts(entry.country, `${where}.country`),
    nativeLanguage: texts(entry.native_language, `${where}.native_language`),
    responses: texts(entry.responses, `${where}.responses`).join(',') || null,
  };
}

function parseSurvey(value: unknown, country: string | null, where: string): Culture['survey'] {
  if (value === undefined || value === null) return null;
  if (country === null) throw new UsageError(`${where} needs the culture's country, as the survey spells it.`);
  const entry = mapping(typeof value === 'string' ? { input: value } : value, where, keys.survey);
  const file = parseSource(entry, 'survey', where);
  const questions = text(entry.questions, `${where}.questions`);
  const source = sources.find(({ name }) => name === file.source);
  if (source?.kind === 'survey' && source.questions !== (questions !== null))
    throw new UsageError(
      `${where}: ${source.name} ${source.questions ? 'needs questions, a JSONL file' : 'brings its own questions: leave them out'}.`,
    );
  return { ...file, questions, against: text(entry.against, `${where}.against`) };
}

function parseLexicon(value: unknown, where: string): SourceFile {
  return parseSource(
    mapping(typeof value === 'string' ? { input: value } : value, where, keys.lexicon),
    'lexicon',
    where,
  );
}

function parsePrompts(value: unknown, where: string): Culture['prompts'] {
  const entry = value === undefined || value === null ? {} : mapping(value, where, keys.prompts);
  return {
    association: text(entry.association, `${where}.association`),
    ranking: text(entry.ranking, `${where}.ranking`),
    survey: text(entry.survey, `${where}.survey`),
  };
}

/** Without a source it is what `lexalign data` made of one; of associations that is read as `generic`. */
function parseSource(entry: Readonly<Record<string, unknown>>, kind: string, where: string): SourceFile {
  const known = sources.filter((source) => source.kind === kind).map(({ name }) => name);
  const input = required(entry.input, `${where}.input`);
  if (kind !== 'associations' && (entry.source === undefined || entry.source === null))
    return { source: imported, input };
  const source = required(entry.source, `${where}.source`);
  if (!known.includes(source))
    throw new UsageError(`${where}.source: ${source} is none of ${known.join(', ')}.${suggest(source, known)}`);
  return { source, input };
}

/** A mapping of known keys, in the spelling with _. */
function mapping(value: unknown, where: string, known: readonly string[], or = ''): Record<string, unknown> {
  if (!isRecord(value)) throw new UsageError(`${where} must hold ${known.join(', ')}${or && `, ${or}`}.`);
  return Object.fromEntries(
    Object.entries(value).map(([key, entry]) => {
      const name = key.replaceAll('-', '_');
      if (known.includes(name)) return [name, entry];
      throw new UsageError(`${where}: ${key} is none of ${known.join(', ')}.${suggest(name, known)}`);
    }),
  );
}

function text(value: unknown, where: string): string | null {
  if (value === undefined || value === null) return null;
  if (typeof value === 'string' && value.trim() !== '') return value;
  throw new UsageError(`${where} must be text.`);
}

function required(value: unknown, where: string): string {
  const own = text(value, where);
  if (own === null) throw new UsageError(`${where} is missing.`);
  return own;
}

function list(value: unknown): readonly unknown[] {
  return value === undefined || value === null ? [] : Array.isArray(value) ? value : [value];
}

/** One text, or several by commas or as a list; numbers are texts too. */
function texts(value: unknown, where: string): string[] {
  return list(value).flatMap((entry) => {
    if (typeof entry === 'number') return String(entry);
    return required(entry, where)
      .split(',')
      .map((part) => part.trim());
  });
}

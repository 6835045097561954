import { createHash } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { ArgumentsCamelCase, InferredOptionTypes, Options } from 'yargs';
import { associationRows } from '../../datasets/association-rows.js';
import { importAssociations } from '../../datasets/import-associations.js';
import { sources } from '../../datasets/index.js';
import { readLexicon } from '../../datasets/lexicon.js';
import { listQuestions } from '../../datasets/list-questions.js';
import { countReversed, type Norms, splitByCue } from '../../datasets/norms.js';
import { ParticipantFilter } from '../../datasets/participants.js';
import { rankingRows } from '../../datasets/ranking-rows.js';
import type { AssociationSource, LexiconSource, Source, SurveySource } from '../../datasets/source.js';
import { countQuestions } from '../../datasets/survey-file.js';
import { InputError, UsageError } from '../errors.js';
import { makeDirectory, writeFileAtomic } from '../formats/files.js';
import { digestFile } from '../text/lines.js';
import { ownPrompt, rankingPrompt, readPromptFile } from './association-prompt.js';
import { checkWhole } from './check-numbers.js';
import { type DataCard, writeDataCard } from './data-card.js';
import type { Command } from './main.js';
import { checkSeed, configOption } from './options.js';
import { checkJson, jsonOption, writeJson } from './output-file.js';
import { checkOutput } from './run-directory.js';

/** Options of all sources. */
export const dataOptions = {
  input: { type: 'string', demandOption: true, describe: 'File of the source, or a directory of files of one layout' },
  output: { type: 'string', demandOption: true, describe: 'Directory to write; must be new or empty' },
  country: {
    type: 'string',
    describe: 'Only participants from these countries, comma-separated; of surveys which ones',
  },
  'native-language': { type: 'string', describe: 'Only participants with these native languages, comma-separated' },
  responses: { type: 'string', default: '1,2,3', describe: 'Which of a participant’s responses are pooled' },
  language: { type: 'string', describe: 'Of the cues, as en or zh, where the source does not say it' },
  augment: {
    type: 'number',
    default: 0,
    describe: 'Further rows a cue, each a random 70 % of its associates in order',
  },
  'max-associates': { type: 'number', default: 0, describe: 'Most associates of an answer, the most frequent; 0: all' },
  split: {
    type: 'string',
    default: '70,20,10',
    describe:
      'Percent of the cues to train, validate and test on; imports are split apart, align splits cultures together',
  },
  seed: { type: 'number', default: 42, describe: 'Of the split, the sub-lists and the numbers of words asked for' },
  prompts: {
    type: 'string',
    choices: ['instruct', 'lexi-base'],
    default: 'instruct',
    describe: 'Which of our own prompts the rows ask with',
  },
  'prompt-file': {
    type: 'string',
    describe: 'YAML or JSON: form, system, question with {cue} and {n}, separator, lead',
  },
  ranking: {
    type: 'number',
    default: 0,
    describe: 'Also write questions to rank so many associates of a cue, for ppo, to ranking/; 10 in ALIGN, 0: none',
  },
  'ranking-questions': { type: 'number', default: 1, describe: 'Such questions about each cue' },
  lists: {
    type: 'boolean',
    default: false,
    describe: 'Also write questions for associates with people’s lists, for ppo --reward coverage, to lists/',
  },
  questions: { type: 'string', describe: 'Wording of a survey: JSONL of {id, language, question, options}' },
  ...jsonOption,
  ...configOption,
} as const satisfies Record<string, Options>;
type Arguments = ArgumentsCamelCase<InferredOptionTypes<typeof dataOptions>> & { source: string };

/** Options that only one kind of source has. */
const kindOptions: Readonly<Record<Source['kind'], readonly string[]>> = {
  associations: [
    ...['country', 'native-language', 'responses', 'language', 'augment', 'max-associates', 'split', 'seed'],
    ...['prompts', 'prompt-file', 'ranking', 'ranking-questions', 'lists'],
  ],
  lexicon: [],
  survey: ['country', 'questions'],
};

export const dataCommand: Command = {
  command: 'data <source>',
  describe: 'Import association norms, word ratings or a survey from the files of their publishers',
  options: dataOptions,
  computes: false,
  positional: (args) =>
    args.positional('source', {
      choices: sources.map(({ name }) => name),
      describe: 'Which source; each has a --help',
    }),
  epilogue: describeSources,
  run: async (args, given) => {
    await runData(args as unknown as Arguments, given);
    return 0;
  },
};

function describeSources(argv: readonly string[]): string {
  const chosen = sources.find(({ name }) => argv.includes(name));
  if (chosen) return `${chosen.title}\n\n${chosen.about.replace(/(?<!\n)\n(?!\n)/g, ' ')}`;
  const width = Math.max(...sources.map(({ name }) => name.length));
  return [
    'Sources (none of their data comes with lexalign):',
    ...sources.map(({ name, title }) => `  ${name.padEnd(width)}  ${title}`),
  ].join('\n');
}

async function runData(args: Arguments, given: ReadonlySet<string>): Promise<void> {
  const source = sources.find(({ name }) => name === args.source)!;
  const all = new Set(Object.values(kindOptions).flat());
  for (const option of given) {
    if (all.has(option) && !kindOptions[source.kind].includes(option)) {
      throw new UsageError(`--${option} means nothing to ${source.name}: leave it out.`);
    }
  }
  await checkJson(args.json, args.output);
  await checkOutput(args.output);
  const files = await findFiles(args.input);
  const inputs = await Promise.all(
    files.map(async (file) => ({
      file: basename(file),
      bytes: (await stat(file)).size,
      sha256: await digestFile(file),
    })),
  );
  const result = await importSource(source, files, args, given);
  const card: DataCard = { source: source.name, title: source.title, about: source.about, inputs, ...result.card };
  await makeDirectory(args.output);
  const outputs = [];
  for (const { name, chunks } of result.files) {
    const hash = createHash('sha256');
    const path = join(args.output, name);
    await makeDirectory(dirname(path));
    await writeFileAtomic(path, encode(chunks, hash));
    outputs.push({ file: name, bytes: (await stat(path)).size, sha256: hash.digest('hex') });
  }
  const whole = { ...card, outputs };
  const lines = await writeDataCard(args.output, whole);
  await writeJson(args.json, whole);
  if (args.json !== '-')
    console.log(
      `${lines.join('\n')}\nWritten to ${args.output}: ${outputs.map(({ file }) => file).join(', ')}, card.json, README.md`,
    );
}

/** What is to be written, and the card's part about it. */
interface Imported {
  readonly card: Omit<DataCard, 'source' | 'title' | 'about' | 'inputs' | 'outputs'>;
  readonly files: readonly { readonly name: string; readonly chunks: Iterable<string> }[];
}

function importSource(
  source: Source,
  files: readonly string[],
  args: Arguments,
  given: ReadonlySet<string>,
): Promise<Imported> {
  if (source.kind === 'associations') return importNorms(source, files, args, given);
  return source.kind === 'lexicon' ? importLexicon(source, files) : importSurvey(source, files, args);
}

async function importNorms(
  source: AssociationSource,
  files: readonly string[],
  args: Arguments,
  given: ReadonlySet<string>,
): Promise<Imported> {
  checkSeed(args.seed);
  checkWhole('augment', args.augment, 0);
  checkWhole('max-associates', args.maxAssociates, 0);
  if (args.ranking !== 0) checkWhole('ranking', args.ranking, 2); // of one word there is no order
  checkWhole('ranking-questions', args.rankingQuestions, 1);
  const language = args.language ?? source.language;
  if (language === null) throw new UsageError(`${source.name} needs --language, such as en or zh.`);
  const prompt = args.promptFile
    ? await readPromptFile(args.promptFile)
    : ownPrompt(args.prompts as 'instruct', language);
  if (args.lists && prompt.form !== 'chat')
    throw new UsageError('--lists asks in turns, as ppo does: give a --prompt-file of the form chat.');
  const percents = parseSplit(args.split);
  const filter = new ParticipantFilter(list(args.country), list(args.nativeLanguage));
  const positions = parsePositions(args.responses);
  const choice = { filter, positions: given.has('responses') ? positions : null };
  const { norms, counts, positions: pooled } = await importAssociations(files, source, choice, language);
  const parts = splitByCue(
    norms,
    percents.map((percent) => percent / 100),
    args.seed,
  );
  const names = ['train', 'valid', 'test'];
  const maxAssociates = args.maxAssociates || undefined;
  const rows = parts.map((part, i) =>
    associationRows(part, {
      prompt,
      maxAssociates,
      sublists: names[i] === 'train' ? args.augment : 0,
      seed: args.seed,
    }),
  );
  const ranking = args.ranking > 0 ? rankParts(parts, language, args) : null;
  const lists = args.lists
    ? parts.map((part) => listQuestions(part, { prompt, maxAssociates, seed: args.seed }))
    : null;
  const { dropped, ...kept } = counts;
  return {
    card: {
      choices: {
        language,
        country: list(args.country),
        native_language: list(args.nativeLanguage),
        responses: pooled,
        seed: args.seed,
        augment: args.augment,
        max_associates: args.maxAssociates,
        prompt,
        ...ranking?.choices,
      },
      counts: {
        ...kept,
        'test pairs that training holds reversed': countReversed(parts[0], parts[2]),
        ...ranking?.counts,
        ...(lists ? { 'list questions': lists.flat().length } : {}),
      },
      dropped: { ...dropped, ...ranking?.dropped },
      split: names.map((name, i) => ({ name, percent: percents[i], cues: parts[i].cues.length, rows: rows[i].length })),
    },
    // Of a part without cues none: sft would take an empty valid.jsonl for data to evaluate on.
    files: names.flatMap((name, i) =>
      parts[i].cues.length === 0
        ? []
        : [
            { name: `${name}.jsonl`, chunks: jsonLines(rows[i]) },
            { name: `${name}.tsv`, chunks: normLines(parts[i]) },
            ...(ranking ? [{ name: `ranking/${name}.jsonl`, chunks: jsonLines(ranking.rows[i]) }] : []),
            ...(lists ? [{ name: `lists/${name}.jsonl`, chunks: jsonLines(lists[i]) }] : []),
          ],
    ),
  };
}

/** Ranking questions about the cues of each part, and what the card says of them. */
function rankParts(parts: readonly Norms[], language: string, args: Arguments) {
  const { ranking: k, rankingQuestions: questions, seed } = args;
  const prompt = rankingPrompt(args.prompts as 'instruct', language);
  const made = parts.map((part) => rankingRows(part, { prompt, k, questions, seed }));
  const sum = (of: 'skipped' | 'unaskable') => made.reduce((total, part) => total + part[of], 0);
  const rows = made.map((part) => part.rows);
  if (rows.every((part) => part.length === 0))
    throw new InputError(`--ranking ${k}: no cue has so many associates: lower it.`);
  return {
    rows,
    choices: { ranking: k, ranking_questions: questions, ranking_prompt: prompt },
    counts: { 'ranking questions': rows.reduce((sum, part) => sum + part.length, 0) },
    dropped: {
      [`cues with fewer than ${k} to rank`]: sum('skipped'),
      'associates with a comma, not asked to be ranked': sum('unaskable'),
    },
  };
}

async function importLexicon(source: LexiconSource, files: readonly string[]): Promise<Imported> {
  if (files.length > 1) throw new InputError(`${source.name} is one file, not a directory of ${files.length}`);
  const { lexicon, rows, dropped } = await readLexicon(files[0], source);
  const names = [...lexicon.dimensions.keys()];
  const words = new Set(names.flatMap((name) => [...lexicon.dimensions.get(name)!.keys()]));
  const lines = function* () {
    yield `${['word', ...names].join('\t')}\n`;
    for (const word of words) {
      yield `${[word, ...names.map((name) => lexicon.dimensions.get(name)!.get(word) ?? '')].join('\t')}\n`;
    }
  };
  return {
    card: { choices: { dimensions: names }, counts: { rows, words: words.size }, dropped, split: [] },
    files: [{ name: 'lexicon.tsv', chunks: lines() }],
  };
}

async function importSurvey(source: SurveySource, files: readonly string[], args: Arguments): Promise<Imported> {
  if (source.questions !== (args.questions !== undefined)) {
    const mend = source.questions
      ? 'needs --questions: JSONL of {id, language, question, options}'
      : 'brings its own --questions: leave them out';
    throw new UsageError(`${source.name} ${mend}.`);
  }
  const countries = list(args.country);
  const { rows, survey, dropped } = await source.read({ files, questions: args.questions ?? null, countries });
  if (survey.length === 0)
    throw new InputError(`${files.join(', ')}: no question was answered in every chosen country`);
  const found = [...new Set(survey.flatMap((question) => Object.keys(question.countries)))];
  return {
    card: {
      choices: { country: found, questions: args.questions === undefined ? null : await digestFile(args.questions) },
      counts: { rows, ...countQuestions(survey), countries: found.length },
      dropped,
      split: [],
    },
    files: [{ name: 'survey.jsonl', chunks: jsonLines(survey) }],
  };
}

/** JSON, a line a value. */
export function* jsonLines(values: Iterable<unknown>): Generator<string> {
  for (const value of values) yield `${JSON.stringify(value)}\n`;
}

/** A table that `generic` and `evaluate --norms` read. */
export function* normLines({ cues }: Norms): Generator<string> {
  yield 'cue\tresponse\tcount\n';
  const field = (text: string) => (/^".*"$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  for (const { cue, responses } of cues) {
    for (const { word, count } of responses) yield `${field(cue)}\t${field(word)}\t${count}\n`;
  }
}

async function* encode(
  chunks: Iterable<string>,
  hash: { update(bytes: Uint8Array): unknown },
): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  let text: string[] = [];
  let length = 0;
  const flush = (): Uint8Array => {
    const bytes = encoder.encode(text.join(''));
    hash.update(bytes);
    text = [];
    length = 0;
    return bytes;
  };
  for (const chunk of chunks) {
    text.push(chunk);
    length += chunk.length;
    if (length > 1 << 20) yield flush();
  }
  yield flush();
}

/** The file, or every file of the directory in the order of their names. */
export async function findFiles(input: string): Promise<string[]> {
  const info = await stat(input).catch(() => null);
  if (!info) throw new InputError(`--input ${input} does not exist.`);
  if (info.isFile()) return [input];
  if (!info.isDirectory()) throw new InputError(`--input ${input} is neither a file nor a directory.`);
  const entries = await readdir(input, { withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile() && !entry.name.startsWith('.')).map(({ name }) => name);
  if (files.length === 0) throw new InputError(`--input ${input} is a directory without files.`);
  return files.sort().map((name) => join(input, name));
}

function list(text: string | undefined): string[] {
  return (text ?? '').split(',').flatMap((entry) => (entry.trim() ? [entry.trim()] : []));
}

/** Percents of train, valid and test. Throws UsageError. */
export function parseSplit(text: string): number[] {
  const percents = text.split(/[,/]/).map(Number);
  const sum = percents.reduce((a, b) => a + b, 0);
  if (percents.length !== 3 || percents.some((percent) => !(percent >= 0)) || Math.abs(sum - 100) > 1e-9) {
    throw new UsageError(`--split ${text}: write three percentages that sum to 100, as 70,20,10.`);
  }
  return percents;
}

/** Which responses of a participant are pooled. Throws UsageError. */
export function parsePositions(text: string): number[] {
  const positions = text.split(',').map(Number);
  const rising = positions.every((position, i) => i === 0 || position > positions[i - 1]);
  if (!rising || positions.some((position) => ![1, 2, 3].includes(position))) {
    throw new UsageError(`--responses ${text}: write some of 1,2,3 in that order.`);
  }
  return positions;
}

import { createHash } from 'node:crypto';
import { basename, join } from 'node:path';
import { associationRows } from '../../datasets/association-rows.js';
import { generic } from '../../datasets/generic.js';
import { importAssociations } from '../../datasets/import-associations.js';
import { sources } from '../../datasets/index.js';
import { miniNormsFile } from '../../datasets/mini-norms.js';
import { type Cue, countReversed, type Norms, splitByCue } from '../../datasets/norms.js';
import { ParticipantFilter } from '../../datasets/participants.js';
import { type RankingRow, type RankingRowOptions, type RankingRows, rankingRows } from '../../datasets/ranking-rows.js';
import type { AssociationSource, LexiconSource, SurveyImport, SurveySource } from '../../datasets/source.js';
import { countQuestions, readSurvey } from '../../datasets/survey-file.js';
import { wordNorms } from '../../datasets/word-norms.js';
import { InputError, UsageError } from '../errors.js';
import type { Lexicon } from '../evaluate/affect.js';
import { wordKey } from '../evaluate/association.js';
import type { AskedSurvey, StudyImport } from '../evaluate/study.js';
import { describeCounts, describeDropped } from '../evaluate/table-text.js';
import { makeDirectory, writeFileAtomic } from '../formats/files.js';
import { createRandom, shuffle } from '../random.js';
import { digestFile } from '../text/lines.js';
import { describeAssociations, fillPersona, SHOT_HEADINGS, withPreamble } from '../text/preamble.js';
import { type AssociationPrompt, RANKING_PROMPTS, type RankingPrompt, rankingAnswer } from '../text/prompts.js';
import type { SurveyPrompt } from '../text/survey-prompts.js';
import { type Culture, imported } from './align-cultures.js';
import type { Recipe } from './align-recipe.js';
import { chooseAssociationPrompt, rankingPrompt, readRankingPrompt } from './association-prompt.js';
import { findFiles, jsonLines, normLines, parsePositions, parseSplit } from './data.js';
import { readLexicons } from './evaluate-affect.js';
import { chooseKs } from './evaluate-association.js';
import { chooseLanguage, choosePair, parseFormats } from './evaluate-survey.js';
import { isLexiBase, type OpenModel } from './session.js';
import { chooseSurveyPrompts } from './survey-prompt.js';

/** A culture with its data, read and split. */
export interface StudyCulture extends Culture {
  readonly norms: { readonly train: Norms; readonly valid: Norms; readonly test: Norms };
  readonly prompt: AssociationPrompt;
  /** Null in a language without ranking prompts. */
  readonly rankingPrompt: RankingPrompt | null;
  /** Null without a survey. */
  readonly surveyPrompts: readonly SurveyPrompt[] | null;
  readonly lexicon: Lexicon | null;
  readonly surveyed: AskedSurvey | null;
  /** What the base is told before a question, where such a variant is measured. */
  readonly preambles: { readonly culture: string | null; readonly shots: string | null };
  /** Files that were read, with their SHA-256. */
  readonly files: readonly { readonly file: string; readonly sha256: string }[];
  /** Of its norms, lexicons and survey. */
  readonly imports: readonly StudyImport[];
}

/** Reads and splits every culture's data. Throws InputError or UsageError that names the culture. */
export async function readCultures(recipe: Recipe, model: OpenModel): Promise<StudyCulture[]> {
  const norms: ImportedNorms[] = [];
  for (const culture of recipe.cultures) norms.push(await about(culture, () => readNorms(culture)));
  const read: StudyCulture[] = [];
  for (const [i, culture] of recipe.cultures.entries()) {
    const own = norms.flatMap((other) => (other.norms.language === culture.language ? [other.norms] : []));
    const split = () => splitLike(norms[i].norms, own, recipe);
    read.push(await about(culture, () => readCulture(culture, split(), norms[i].counted, recipe, model)));
  }
  return read;
}

async function readCulture(
  culture: Culture,
  norms: StudyCulture['norms'],
  counted: StudyImport,
  recipe: Recipe,
  model: OpenModel,
): Promise<StudyCulture> {
  const { args, data, stages, measures } = recipe;
  const { association, ranking, survey } = culture.prompts;
  const prompt = await chooseAssociationPrompt(association ?? undefined, model, culture.language);
  const ranks = ranking !== null || culture.language in RANKING_PROMPTS;
  if (!ranks && stages.some((stage) => stage !== 'sft-lists'))
    throw new UsageError(
      `there is no ranking prompt of ours in ${culture.language}: give one in prompts: ranking, or set stages: sft-lists.`,
    );
  const style = isLexiBase(model) ? 'lexi-base' : 'instruct';
  const asked = ranking === null ? () => rankingPrompt(style, culture.language) : () => readRankingPrompt(ranking);
  const persona = culture.persona && fillPersona(culture.persona.text, culture.persona.place);
  if (args.culturePrompt && persona === null)
    throw new UsageError('the culture prompt needs a place (or a persona): give one, or set culture_prompt: false.');
  const heading = SHOT_HEADINGS[culture.language];
  if (args.fewShot > 0 && heading === undefined)
    throw new UsageError(
      `there are no words of ours for associations in a prompt in ${culture.language}: set few_shot: 0.`,
    );
  const shotWords = Math.max(...chooseKs(recipe.evaluate.k, model)); // as many as are asked for
  const shots = sampleCues(norms.train.cues, args.fewShot, data.seed).map(({ cue, responses }) => ({
    cue,
    words: responses.slice(0, shotWords).map(({ word }) => word),
  }));
  const reversed = countReversed(norms.train, norms.test);
  const rated = culture.lexicons.length > 0 && measures.has('affect') ? await readRatings(culture) : null;
  const answers = measures.has('survey') ? await readAnswers(culture, recipe.cultures) : null;
  const { wordings, formats } = recipe.evaluate;
  const surveyPrompts =
    culture.survey && (await chooseSurveyPrompts(survey ?? undefined, model, culture.language, wordings));
  return {
    ...culture,
    norms,
    prompt,
    rankingPrompt: ranks ? await asked() : null,
    surveyPrompts,
    lexicon: rated?.lexicon ?? null,
    surveyed: answers &&
      surveyPrompts && {
        questions: answers.questions,
        pair: answers.pair,
        prompts: surveyPrompts,
        formats: parseFormats(formats),
      },
    preambles: {
      culture: args.culturePrompt ? persona : null,
      shots: args.fewShot > 0 ? describeAssociations(heading, shots) : null,
    },
    files: await digests([
      ...(culture.associations ? await findFiles(culture.associations.input) : []),
      ...culture.lexicons.map(({ input }) => input),
      ...(culture.survey ? [...(await findFiles(culture.survey.input)), culture.survey.questions] : []),
      association,
      ranking,
      survey,
    ]),
    imports: [
      { ...counted, counts: { ...counted.counts, 'test pairs that training holds reversed': reversed } },
      ...(rated?.counted ?? []),
      ...(answers ? [answers.counted] : []),
    ],
  };
}

interface ImportedNorms {
  readonly norms: Norms;
  readonly counted: StudyImport;
}

async function readNorms({ name, language, associations }: Culture): Promise<ImportedNorms> {
  const files = await findFiles(associations?.input ?? miniNormsFile(language as 'en' | 'zh'));
  const source = associations ? sourceOf<AssociationSource>(associations.source) : generic;
  const filter = new ParticipantFilter(associations?.country ?? [], associations?.nativeLanguage ?? []);
  const responses = associations?.responses ?? null;
  const choice = { filter, positions: responses === null ? null : parsePositions(responses) };
  const { norms, counts } = await importAssociations(files, source, choice, language);
  const { dropped, ...kept } = counts;
  const counted = { source: associations?.source ?? 'mini-norms', files: await digests(files), counts: kept, dropped };
  return { norms, counted: { culture: name, ...counted } };
}

/** A culture's imports as `lexalign data` tells them, a line each. */
export function describeImports({ name, language, imports }: StudyCulture): string[] {
  return imports.map(({ source, files, counts, dropped }) => {
    const names = files.map(({ file }) => basename(file)).join(', ');
    return `${name} (${language}): ${source}: ${names}: ${describeCounts(counts)}; dropped: ${describeDropped(dropped)}.`;
  });
}

/**
 * The parts of norms, such that a cue is in the same part in all norms of its language: a cue that is held out of one
 * culture's training is in no other's. Of the test part a sample of `test-cues` stays.
 */
function splitLike(norms: Norms, ofLanguage: readonly Norms[], { args, data }: Recipe): StudyCulture['norms'] {
  const union = new Map(ofLanguage.flatMap(({ cues }) => cues.map((cue): [string, Cue] => [wordKey(cue.cue), cue])));
  const fractions = parseSplit(data.split).map((percent) => percent / 100);
  const parts = splitByCue({ language: norms.language, cues: [...union.values()] }, fractions, data.seed);
  const [train, valid, test] = parts.map(({ cues }) => {
    const own = new Set(cues.map(({ cue }) => wordKey(cue)));
    return { language: norms.language, cues: norms.cues.filter(({ cue }) => own.has(wordKey(cue))) };
  });
  const cues = args.testCues > 0 ? sampleCues(test.cues, args.testCues, data.seed) : test.cues;
  if (train.cues.length === 0 || cues.length < 2)
    throw new InputError(
      `${norms.cues.length} cues, split ${data.split}, leave ${train.cues.length} to train on and ${cues.length} to test on: more are needed.`,
    );
  return { train, valid, test: { language: norms.language, cues } };
}

/**
 * `count` cues at most, in their order: those whose SHA-256 with the seed is least. So the order of a file does not decide
 * which, and two cultures that have the same cues to draw from draw the same.
 */
export function sampleCues(cues: readonly Cue[], count: number, seed: number): Cue[] {
  const hash = ({ cue }: Cue) => createHash('sha256').update(`${seed}\n${cue}`).digest('hex');
  const hashes = cues.map(hash);
  const chosen = new Set(hashes.toSorted().slice(0, count));
  return cues.filter((_, i) => chosen.has(hashes[i]));
}

/** A culture's lexicons as one, with what each counted and left out. */
async function readRatings({ name, lexicons }: Culture) {
  const { lexicon, imports } = await readLexicons(
    lexicons.map(({ source, input }) => ({
      file: input,
      source: source === imported ? wordNorms : sourceOf<LexiconSource>(source),
    })),
  );
  const counted: StudyImport[] = [];
  for (const [i, { source, input }] of lexicons.entries()) {
    const { rows, lexicon: own, dropped } = imports[i];
    counted.push({ culture: name, source, files: await digests([input]), counts: { rows, words: own.size }, dropped });
  }
  return { lexicon, counted };
}

/**
 * A culture's questions, with what its own country, the one to compare with and, where they were asked, the countries of
 * all other cultures answered.
 */
async function readAnswers({ name, language, country, survey }: Culture, all: readonly Culture[]) {
  if (survey === null || country === null) return null;
  const against = survey.against ?? all.find((other) => other.country !== null && other.country !== country)?.country;
  if (!against) throw new UsageError('survey.against is missing: name the country to compare with.');
  const pair = [country, against];
  const { source, input, questions: wording } = survey;
  const files = await findFiles(input);
  const beside = all.flatMap((other) => other.country ?? []);
  const {
    rows,
    survey: whole,
    dropped,
  } = source === imported
    ? await readImported(input)
    : await sourceOf<SurveySource>(source).read({ files, questions: wording, countries: pair, beside });
  if (whole.length === 0) throw new InputError(`${input}: no question was answered in both ${pair.join(' and ')}`);
  const { questions } = chooseLanguage(whole, language);
  const counted: StudyImport = {
    ...{ culture: name, source, files: await digests([...files, wording]) },
    counts: { rows, ...countQuestions(questions) },
    dropped: { ...dropped, 'questions in other languages': whole.length - questions.length },
  };
  return { questions, pair: choosePair(questions, pair.join(','), input), counted };
}

async function readImported(file: string): Promise<SurveyImport> {
  const survey = await readSurvey(file);
  return { rows: survey.length, survey, dropped: {} };
}

function sourceOf<Kind>(name: string): Kind {
  return sources.find((source) => source.name === name) as Kind;
}

/** Says which culture an error is about. */
async function about<T>({ name }: Culture, read: () => Promise<T> | T): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof UsageError) throw new UsageError(`cultures (${name}): ${error.message}`);
    if (error instanceof InputError) throw new InputError(`cultures (${name}): ${error.message}`);
    throw error;
  }
}

/** Each file once, with its SHA-256. */
export async function digests(files: readonly (string | null)[]): Promise<{ file: string; sha256: string }[]> {
  const known = [...new Set(files.filter((file) => file !== null))];
  return Promise.all(known.map(async (file) => ({ file, sha256: await digestFile(file) })));
}

/**
 * Held-out questions to rank, one a cue; the same words in the same order whatever stands before them. None where rankings are
 * not measured. Throws InputError where no cue has enough associates.
 */
export function testQuestions(culture: StudyCulture, recipe: Recipe, preamble: string | null): RankingRow[] {
  if (!culture.rankingPrompt || !recipe.measures.has('ranking')) return [];
  const prompt = withPreamble(culture.rankingPrompt, preamble);
  return askCues(culture.norms.test, 'test', culture, recipe, { prompt, questions: 1, seed: recipe.data.seed }).rows;
}

/** Ranking questions about a part's cues. Throws InputError where none can be asked. */
function askCues(
  part: Norms,
  name: 'training' | 'test',
  culture: Pick<StudyCulture, 'name'>,
  { data }: Recipe,
  options: Omit<RankingRowOptions, 'k'>,
): RankingRows {
  const made = rankingRows(part, { ...options, k: data.ranking });
  if (made.rows.length > 0) return made;
  throw new InputError(
    `cultures (${culture.name}): no ${name} cue has ${data.ranking} associates to rank: lower ranking.`,
  );
}

/** Where a culture's data lies. */
export function dataPaths(output: string, { name }: Pick<Culture, 'name'>) {
  const root = join(output, 'data', name);
  return {
    lists: join(root, 'lists'),
    sft: join(root, 'sft'),
    ranking: join(root, 'ranking'),
    test: join(root, 'test.tsv'),
  };
}

/** Writes the rows of every stage; gives a line about them. Of a resumed study they come out as they were. */
export async function writeCultureData(culture: StudyCulture, recipe: Recipe): Promise<string> {
  const { args, data, stages } = recipe;
  const { train, valid, test } = culture.norms;
  const paths = dataPaths(args.output, culture);
  const lists = [train, valid].map((part, i) =>
    associationRows(part, {
      prompt: culture.prompt,
      maxAssociates: data.maxAssociates || undefined,
      sublists: i === 0 ? data.augment : 0,
      seed: data.seed,
    }),
  );
  const mixed = [train, valid].map((part, i) => mixRankings(lists[i], part, culture, recipe));
  const write = async (directory: string, parts: readonly (readonly object[])[]) => {
    await makeDirectory(directory);
    for (const [i, rows] of parts.entries())
      if (rows.length > 0)
        await writeFileAtomic(join(directory, i === 0 ? 'train.jsonl' : 'valid.jsonl'), [...jsonLines(rows)].join(''));
  };
  if (stages.includes('sft-lists')) await write(paths.lists, lists);
  if (stages.includes('sft') || stages.includes('sft-ppo')) await write(paths.sft, mixed);
  let asked = '';
  if (stages.some((stage) => stage.endsWith('ppo')) && culture.rankingPrompt) {
    const options = { prompt: culture.rankingPrompt, questions: data.rankingQuestions, seed: data.seed };
    const part = { ...train, cues: args.ppoCues > 0 ? sampleCues(train.cues, args.ppoCues, data.seed) : train.cues };
    const { rows, skipped, unaskable } = askCues(part, 'training', culture, recipe, options);
    await write(paths.ranking, [rows]);
    asked = `, ${rows.length} questions for PPO (left out: ${skipped} cues with fewer than ${data.ranking} to rank, ${unaskable} associates with a comma)`;
  }
  await makeDirectory(join(args.output, 'data', culture.name));
  await writeFileAtomic(paths.test, [...normLines(test)].join(''));
  return (
    `${culture.name} (${culture.language}): ${train.cues.length} cues to train on, ${valid.cues.length} to validate, ${test.cues.length} to test; ` +
    `${lists[0].length} rows of lists, ${mixed[0].length - lists[0].length} of rankings${asked}.`
  );
}

/**
 * Lists with ranking examples among them, so many that they are `ranking-share` of all, evenly drawn of the part's cues.
 * Their words are drawn otherwise than those of PPO's questions.
 */
function mixRankings(lists: readonly object[], part: Norms, culture: StudyCulture, { args, data }: Recipe): object[] {
  const share = args.rankingShare;
  const wanted = Math.round((lists.length * share) / (1 - share));
  const { rankingPrompt: prompt } = culture;
  if (wanted === 0 || !prompt) return [...lists];
  const ask = (questions: number) =>
    rankingRows(part, { prompt, k: data.ranking, questions, seed: data.seed + 1 }).rows;
  const rows = ask(Math.ceil(wanted / Math.max(1, ask(1).length)));
  const examples = shuffle(rows, createRandom(data.seed)).slice(0, wanted);
  return [
    ...lists,
    ...examples.map(({ messages, ranking, language }) => ({
      messages: [...messages, { role: 'assistant', content: rankingAnswer(language, ranking) }],
    })),
  ];
}

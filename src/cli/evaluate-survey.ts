import { fold, requireKnown } from '../../datasets/participants.js';
import { readSurvey } from '../../datasets/survey-file.js';
import { InputError, UsageError } from '../errors.js';
import { type ScoredSurvey, scoreSurvey, surveyExamples, surveyTries } from '../evaluate/score-survey.js';
import {
  type CountryPair,
  compareSurveys,
  massPercent,
  type SurveyAnswer,
  type SurveyQuestion,
  type SurveySummary,
  surveyDistance,
} from '../evaluate/survey.js';
import {
  describeAsking,
  earthMoverDistances,
  otherDistances,
  surveyLines,
  surveyMovements,
} from '../evaluate/survey-tables.js';
import { alignTable, percent } from '../evaluate/table-text.js';
import type { OptionFormat } from '../text/survey-prompts.js';
import type { EvaluateArguments } from './evaluate.js';
import { checkPositions, chooseRuns, measureRuns, provenance } from './evaluate-runs.js';
import { writeJson } from './output-file.js';
import { openModel, requireTokenizer } from './session.js';
import { chooseSurveyPrompts } from './survey-prompt.js';

export async function evaluateSurvey(args: EvaluateArguments, given: ReadonlySet<string>): Promise<void> {
  const runs = chooseRuns(args);
  const formats = parseFormats(args.formats);
  if (args.survey === undefined) throw new UsageError('evaluate survey needs --survey.');
  const { questions, language } = chooseLanguage(await readSurvey(args.survey), args.language);
  const pair = choosePair(questions, args.country, args.survey);
  const model = await openModel(args);
  try {
    const prompts = await chooseSurveyPrompts(args.promptFile, model, language, args.wordings);
    const tries = surveyTries(questions, prompts, formats);
    const examples = surveyExamples(tries, requireTokenizer(model), model.config.vocabSize);
    const longest = examples.reduce((most, { ids }) => Math.max(most, ids.length), 0);
    checkPositions(model, longest, 'The longest question and its options', 'leave that question out');
    const what = `${tries.length} answers`;
    const { measured: scored, base } = await measureRuns(
      args,
      model,
      runs,
      longest,
      what,
      (loaded, weights, onProgress) =>
        scoreSurvey(loaded, weights, { questions, tries, examples }, args.microBatchTokens, onProgress),
    );
    const { subsets, summaries, change } = compareSurveys(
      questions,
      scored.map(({ answers }) => answers),
      pair,
      args,
    );
    const { cost } = scored[0];
    if (args.json !== '-') {
      console.log(describeCost(questions.length, describeAsking(questions, prompts.length, formats), cost));
      const named = runs.map(({ name }, i) => ({ name, summaries: summaries[i] }));
      const lines = surveyLines(named);
      const tables = [
        earthMoverDistances(lines, pair),
        ...(change ? [surveyMovements(change, named)] : []),
        otherDistances(lines, pair),
      ];
      for (const table of tables) console.log(`${alignTable(table).join('\n')}\n`);
      for (const { name, summaries: own } of named) console.log(`${name}: ${describeEffects(own.all)}`);
    }
    await writeJson(args.json, {
      measure: 'survey',
      ...base,
      survey: args.survey,
      language,
      countries: pair,
      formats,
      prompts,
      seed: args.seed,
      cost,
      questions: questions.map(({ countries, ...question }) => ({
        ...question,
        countries: Object.fromEntries(pair.map((country) => [country, countries[country]])),
      })),
      high_tension: { emd: subsets.emd, sorted: subsets.sorted },
      runs: runs.map(({ name, directory }, i) => ({
        name,
        adapter: directory,
        summaries: summaries[i],
        answers: scored[i].answers.map((answer, q) => ({
          ...answer,
          distances: distances(questions[q], answer, pair),
        })),
      })),
      change,
      provenance: await provenance(args, given, runs, [args.survey, args.promptFile ?? '']),
    });
  } finally {
    await model.checkpoint.close();
  }
}

function describeCost(questions: number, asked: string, cost: ScoredSurvey['cost']): string {
  const { rows, tokens, equivalentTokens, paddedTokens, microBatches } = cost;
  const times = (other: number) => `${other} (${(other / tokens).toFixed(1)}x)`;
  const batches = microBatches === 1 ? '1 batch' : `${microBatches} batches`;
  return `${questions} questions, ${rows} answers (${asked}): ${tokens} tokens computed in ${batches}, in place of ${times(equivalentTokens)} of the answers one by one or, padded, ${times(paddedTokens)}.`;
}

function distances({ countries, ordinal }: SurveyQuestion, { shares }: SurveyAnswer, pair: CountryPair) {
  return Object.fromEntries(
    pair.map((country) => [country, surveyDistance(shares, countries[country].shares, ordinal)]),
  );
}

/** The formats of `--formats`. Throws UsageError. */
export function parseFormats(text: string): OptionFormat[] {
  const formats = [...new Set(text.split(','))];
  const wrong = formats.find((format) => !['number', 'letter', 'text'].includes(format));
  if (wrong !== undefined) throw new UsageError(`--formats ${wrong}: there are number, letter and text.`);
  return formats as OptionFormat[];
}

/** The questions of one language. Throws where that is not to be told, or there are none. */
export function chooseLanguage(survey: readonly SurveyQuestion[], wish: string | undefined) {
  const languages = [...new Set(survey.map(({ language }) => language))];
  if (wish === undefined && languages.length > 1) {
    throw new UsageError(`The survey is in ${languages.join(' and ')}: choose with --language.`);
  }
  const language = wish ?? languages[0];
  const questions = survey.filter((question) => question.language === language);
  if (questions.length === 0)
    throw new InputError(`The survey has no questions in ${language}, only in ${languages.join(', ')}.`);
  return { questions, language };
}

/** Two countries that every question has answers of. Throws UsageError or InputError. */
export function choosePair(questions: readonly SurveyQuestion[], wish: string | undefined, file: string): CountryPair {
  const known = [...new Set(questions.flatMap(({ countries }) => Object.keys(countries)))];
  const wanted = wish === undefined ? known : wish.split(',').map((country) => country.trim());
  if (wanted.length !== 2) {
    throw new UsageError(
      `Name two countries of the survey, as --country ${known.slice(0, 2).join(',')}; it has ${known.length}.`,
    );
  }
  for (const country of wanted) requireKnown('--country', country, known, file);
  const pair = wanted.map((country) => known.find((name) => fold(name) === fold(country))!) as [string, string];
  for (const { id, countries } of questions) {
    const missing = pair.find((country) => !countries[country]);
    if (missing)
      throw new InputError(
        `${file}: question ${id} has no answers of ${missing}: import with --country ${pair.join(',')}.`,
      );
  }
  return pair;
}

function describeEffects(summary: SurveySummary): string {
  const [order, wording] = [summary.order_effect, summary.wording_effect].map(({ mean }) => percent(mean));
  return `the options hold ${massPercent(summary)} % of the model's probability; order and labels move ${order} % of the shares, the wording ${wording} %.`;
}

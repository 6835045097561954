import { clearFormats, type OptionFormat } from '../text/survey-prompts.js';
import type { Estimate } from './statistics.js';
import {
  type CountryPair,
  massPercent,
  type SurveyChange,
  type SurveyQuestion,
  type SurveySubset,
  type SurveySummary,
} from './survey.js';
import { cells, gainCells, lastOverFirst, percent, signedThree, type Table } from './table-text.js';

const subsetNames: Readonly<Record<SurveySubset, string>> = {
  all: 'all questions',
  emd: 'high tension',
  sorted: "high tension by the paper's code",
};
const subsets = Object.keys(subsetNames) as SurveySubset[];

/** One model's answers to some questions. */
export interface SurveyLine {
  /** Which questions. */
  readonly questions: string;
  readonly model: string;
  readonly summary: SurveySummary;
}

/** A line a set of questions and run. */
export function surveyLines(
  runs: readonly { readonly name: string; readonly summaries: Readonly<Record<SurveySubset, SurveySummary>> }[],
): SurveyLine[] {
  return subsets.flatMap((subset) =>
    runs.map(({ name, summaries }) => ({ questions: subsetNames[subset], model: name, summary: summaries[subset] })),
  );
}

/** Earth mover's distance to each country, the first less the second, and questions on which a model is closer to either. */
export function earthMoverDistances(lines: readonly SurveyLine[], countries: CountryPair): Table {
  return {
    head: [
      ...['questions', 'model', ...countries.map((country) => `EMD to ${country}`)],
      ...['difference', '95 % interval', `closer to ${countries.join(' / ')}`, 'n'],
    ],
    rows: lines.map(({ questions, model, summary: { countries: distances, difference, closer, n } }) => [
      questions,
      model,
      ...distances.map(({ emd }) => emd.mean.toFixed(3)),
      ...cells(difference.emd, signedThree),
      `${closer.emd.first} / ${closer.emd.second}`,
      String(n),
    ]),
  };
}

/** How the last run moved from the first: toward each country, then toward the first less toward the second. */
export function surveyMovements(
  change: Readonly<Record<SurveySubset, SurveyChange>>,
  runs: readonly { readonly name: string }[],
): Table {
  return {
    head: [
      ...['questions', `moved toward, ${lastOverFirst(runs)}`],
      ...['EMD', '95 % interval', 'p', 'JS', '95 % interval', 'p', 'n'],
    ],
    rows: subsets.flatMap((subset) => {
      const { toward, specific } = change[subset];
      const both = { country: toward.map(({ country }) => country).join(' − '), ...specific };
      return [...toward, both].map(({ country, emd, js }) => [
        subsetNames[subset],
        country,
        ...gainCells(emd, signedThree),
        ...gainCells(js, signedThree),
        String(emd.n),
      ]);
    }),
  };
}

/** Jensen-Shannon distance, Kullback-Leibler divergence and questions of one mode; a line a model and set of questions. */
export function otherDistances(lines: readonly SurveyLine[], countries: CountryPair): Table {
  return {
    head: [
      ...['questions', 'model', ...countries.map((country) => `JS to ${country}`)],
      ...countries.map((country) => `KL from ${country}`),
      ...countries.map((country) => `same mode as ${country}, %`),
      'n',
    ],
    rows: lines.map(({ questions, model, summary: { countries: distances, n } }) => [
      questions,
      model,
      ...distances.map(({ js }) => three(js)),
      ...distances.map(({ kl }) => three(kl)),
      ...distances.map(({ same_mode }) => percent(same_mode.mean)),
      String(n),
    ]),
  };
}

/** How much of a model's probability the options hold, and what moves their shares. */
export function answerEffects(lines: readonly SurveyLine[]): Table {
  return {
    head: ['questions', 'model', 'options, %', 'order, %', 'wording, %', 'n'],
    rows: lines.map(({ questions, model, summary }) => [
      questions,
      model,
      massPercent(summary),
      percent(summary.order_effect.mean),
      percent(summary.wording_effect.mean),
      String(summary.n),
    ]),
  };
}

/** In which ways a survey is asked. */
export function describeAsking(
  questions: readonly Pick<SurveyQuestion, 'options'>[],
  wordings: number,
  formats: readonly OptionFormat[],
): string {
  const clear = questions.map(({ options }) =>
    clearFormats(
      options.map(({ text }) => text),
      formats,
    ),
  );
  const unclear = clear.filter((own) => own.length < formats.length).length;
  const without = unclear === 0 ? '' : ` (${unclear} without number: an option of theirs begins with one)`;
  return `${wordings} ${wordings === 1 ? 'wording' : 'wordings'}; every rotation; ${formats.join(', ')}${without}`;
}

/** What the columns of `otherDistances` mean. */
export const distancesNote =
  'JS: Jensen-Shannon distance, base 2; KL: divergence of the model from the country, nats; same mode: questions on which the likeliest option is the country’s commonest.';

/** What the columns of `answerEffects` mean. */
export const effectsNote =
  "Options: share of a model's probability that they hold at all; order: how much of the shares their order and labels move; wording: how much the wording of the question does.";

/** A divergence from shares of which the model gives one none is infinite; in a result that was read it is null. */
function three({ mean }: Estimate): string {
  return Number.isFinite(mean) ? mean.toFixed(3) : '∞';
}

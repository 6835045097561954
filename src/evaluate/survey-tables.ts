import { clearFormats, type OptionFormat } from '../text/survey-prompts.js';
import type { Estimate } from './statistics.js';
import { massPercent, type SurveyChange, type SurveyQuestion, type SurveySummary } from './survey.js';
import { percent } from './table-text.js';

/** One model's answers to some questions. */
export interface SurveyLine {
  /** Which questions. */
  readonly questions: string;
  readonly model: string;
  readonly summary: SurveySummary;
}

/** What stands beside a survey's earth mover's distances, for the terminal and reports alike. */
export interface SurveyTable {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** Jensen-Shannon distance, Kullback-Leibler divergence and questions of one mode; a line a model and set of questions. */
export function otherDistances(lines: readonly SurveyLine[], countries: readonly [string, string]): SurveyTable {
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
export function answerEffects(lines: readonly SurveyLine[]): SurveyTable {
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

/** Movements toward each country, then toward the first less toward the second; none without a change. */
export function surveyMovements(change: SurveyChange | undefined) {
  if (!change) return [];
  const [first, second] = change.toward;
  return [
    ...change.toward.map(({ country, emd, js }) => ({ what: country, emd, js })),
    { what: `${first.country} − ${second.country}`, ...change.specific },
  ];
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

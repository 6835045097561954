import { InputError } from '../errors.js';
import {
  jensenShannonDistance,
  klDivergence,
  normalize,
  ordinalEmd,
  sameMode,
  tension,
  tensionOfSortedShares,
  totalVariation,
} from './distribution.js';
import { bootstrapMean, type Estimate, type Gain, mean, pairedGain } from './statistics.js';

/** An answer that a question offers. */
export interface SurveyOption {
  /** As the data codes it. */
  readonly code: string;
  readonly text: string;
}

/** A question with what people of several countries answered. */
export interface SurveyQuestion {
  readonly id: string;
  /** BCP 47. */
  readonly language: string;
  readonly question: string;
  /** In their order: distances between them are those of their places, unless `ordinal` is false. */
  readonly options: readonly SurveyOption[];
  /** False where the options have no order, as parties to vote for: all are as far from each other. True where left out. */
  readonly ordinal?: boolean;
  /** For each country the share of each option, summing to 1, and the respondents where known. */
  readonly countries: Readonly<Record<string, { readonly shares: readonly number[]; readonly n: number | null }>>;
}

/** What a model answers to a question, over all wordings, formats and rotations. */
export interface SurveyAnswer {
  /** Share of each option, in the question's order: the mean over all tries. */
  readonly shares: readonly number[];
  /** Probability that the model gives any of the options, mean over the tries. */
  readonly mass: number;
  /** Mean total variation distance of a try from the mean of its wording: what order and labels of the options do. */
  readonly orderEffect: number;
  /** Mean total variation distance of a wording's mean from `shares`: what the wording does; 0 of one wording. */
  readonly wordingEffect: number;
}

/** Distances between a model and a country on one question. */
export interface SurveyDistance {
  /** Ordinal earth mover's / (N − 1); of options without an order total variation, which is earth mover's of these. */
  readonly emd: number;
  /** Jensen-Shannon, base 2. */
  readonly js: number;
  /** Kullback-Leibler of the model from the country, nats. */
  readonly kl: number;
  readonly same_mode: boolean;
}

/**
 * Averages tries of one question.
 * @param wordings by wording and try the log-probabilities of the options, in the question's order; as many tries of each
 */
export function averageTries(wordings: readonly (readonly (readonly number[])[])[]): SurveyAnswer {
  const own = wordings.map((tries) => tries.map(optionShares));
  const means = own.map(meanShares);
  const shares = meanShares(means);
  return {
    shares,
    mass: mean(wordings.flat().map((logprobs) => logprobs.reduce((sum, logprob) => sum + Math.exp(logprob), 0))),
    orderEffect: mean(own.flatMap((tries, w) => tries.map((one) => totalVariation(one, means[w])))),
    wordingEffect: mean(means.map((one) => totalVariation(one, shares))),
  };
}

function optionShares(logprobs: readonly number[]): number[] {
  // Against the likeliest option: the probabilities themselves may be too small for a number.
  const most = Math.max(...logprobs);
  return normalize(logprobs.map((logprob) => Math.exp(logprob - most)));
}

function meanShares(rows: readonly (readonly number[])[]): number[] {
  return rows[0].map((_, option) => mean(rows.map((shares) => shares[option])));
}

export function surveyDistance(model: readonly number[], country: readonly number[], ordinal = true): SurveyDistance {
  return {
    emd: ordinal ? ordinalEmd(model, country) : totalVariation(model, country),
    js: jensenShannonDistance(model, country),
    kl: klDivergence(country, model),
    same_mode: sameMode(model, country),
  };
}

/** Two countries to compare a model with. */
export type CountryPair = readonly [string, string];

/** How high tension between two countries is told. */
export const tensions = { emd: tension, sorted: tensionOfSortedShares } as const;

/** Places of the `count` questions on which the countries differ most, the first in the survey before equal ones. */
export function highTension(
  questions: readonly SurveyQuestion[],
  [a, b]: CountryPair,
  count: number,
  by: keyof typeof tensions,
): number[] {
  const values = questions.map(({ countries, ordinal }) =>
    tensions[by](countries[a].shares, countries[b].shares, ordinal),
  );
  return [...questions.keys()]
    .sort((i, j) => values[j] - values[i] || i - j)
    .slice(0, count)
    .sort((i, j) => i - j);
}

/** One model on some questions, against two countries. */
export interface SurveySummary {
  readonly n: number;
  readonly mass: Estimate;
  readonly order_effect: Estimate;
  readonly wording_effect: Estimate;
  readonly countries: readonly {
    readonly country: string;
    readonly emd: Estimate;
    readonly js: Estimate;
    readonly kl: Estimate;
    /** Share of the questions. */
    readonly same_mode: Estimate;
  }[];
  /** Mean of d(model, first country) − d(model, second): below zero the model is closer to the first. */
  readonly difference: { readonly emd: Estimate; readonly js: Estimate };
  /** Questions on which the model is closer to either country. */
  readonly closer: Readonly<
    Record<'emd' | 'js', { readonly first: number; readonly second: number; readonly tie: number }>
  >;
}

/** How much of the model's probability the options hold, in percent: of a base model it may be very little. */
export function massPercent({ mass }: SurveySummary): string {
  const percent = 100 * mass.mean;
  return percent >= 0.1 || percent === 0 ? percent.toFixed(1) : percent.toPrecision(2);
}

export function summarizeSurvey(
  questions: readonly SurveyQuestion[],
  answers: readonly SurveyAnswer[],
  pair: CountryPair,
  seed = 42,
): SurveySummary {
  const distances = pair.map((country) => distancesTo(questions, answers, country));
  const differences = (by: 'emd' | 'js') => distances[0].map((distance, i) => distance[by] - distances[1][i][by]);
  const closer = (by: 'emd' | 'js') => {
    const signs = differences(by).map(Math.sign);
    const count = (sign: number) => signs.filter((own) => own === sign).length;
    return { first: count(-1), second: count(1), tie: count(0) };
  };
  const over = (measure: (answer: SurveyAnswer) => number) => bootstrapMean(answers.map(measure), seed);
  return {
    n: questions.length,
    mass: over(({ mass }) => mass),
    order_effect: over(({ orderEffect }) => orderEffect),
    wording_effect: over(({ wordingEffect }) => wordingEffect),
    countries: pair.map((country, i) => {
      const estimate = (measure: (distance: SurveyDistance) => number) =>
        bootstrapMean(distances[i].map(measure), seed);
      return {
        country,
        emd: estimate(({ emd }) => emd),
        js: estimate(({ js }) => js),
        kl: estimate(({ kl }) => kl),
        same_mode: estimate(({ same_mode }) => Number(same_mode)),
      };
    }),
    difference: { emd: bootstrapMean(differences('emd'), seed), js: bootstrapMean(differences('js'), seed) },
    closer: { emd: closer('emd'), js: closer('js') },
  };
}

/** How a model moved between two answers to the same questions. */
export interface SurveyChange {
  readonly n: number;
  /** By how much the distance to a country shrank: above zero the model moved toward it. */
  readonly toward: readonly {
    readonly country: string;
    readonly emd: Gain;
    readonly js: Gain;
  }[];
  /**
   * By how much more it moved toward the first country than toward the second: the gain of d(model, second) −
   * d(model, first). Answers that only grow flatter can come nearer to both countries; this says to which more.
   */
  readonly specific: { readonly emd: Gain; readonly js: Gain };
}

export function surveyChange(
  questions: readonly SurveyQuestion[],
  before: readonly SurveyAnswer[],
  after: readonly SurveyAnswer[],
  pair: CountryPair,
  seed = 42,
): SurveyChange {
  const [first, second] = pair.map((country) => {
    const to = distancesTo(questions, after, country);
    const shrank = (by: 'emd' | 'js') => distancesTo(questions, before, country).map((from, i) => from[by] - to[i][by]);
    return { emd: shrank('emd'), js: shrank('js') };
  });
  const specific = (by: 'emd' | 'js') =>
    pairedGain(
      first[by].map((toward, i) => toward - second[by][i]),
      seed,
    );
  return {
    n: questions.length,
    toward: [first, second].map(({ emd, js }, i) => ({
      country: pair[i],
      emd: pairedGain(emd, seed),
      js: pairedGain(js, seed),
    })),
    specific: { emd: specific('emd'), js: specific('js') },
  };
}

/** All questions, or those of high tension by either formula. */
export type SurveySubset = 'all' | keyof typeof tensions;

/** What several runs answered, on all questions and on those of high tension, and how the first differs from the last. */
export function compareSurveys(
  questions: readonly SurveyQuestion[],
  runs: readonly (readonly SurveyAnswer[])[],
  pair: CountryPair,
  { highTension: count, seed }: { readonly highTension: number; readonly seed: number },
) {
  const subsets: Readonly<Record<SurveySubset, readonly number[]>> = {
    all: questions.map((_, i) => i),
    emd: highTension(questions, pair, count, 'emd'),
    sorted: highTension(questions, pair, count, 'sorted'),
  };
  const perSubset = <T>(make: (indices: readonly number[]) => T) =>
    Object.fromEntries(Object.entries(subsets).map(([name, indices]) => [name, make(indices)])) as Record<
      SurveySubset,
      T
    >;
  const pick = <T>(values: readonly T[], indices: readonly number[]) => indices.map((i) => values[i]);
  const change = (first: readonly SurveyAnswer[], last: readonly SurveyAnswer[]) =>
    perSubset((at) => surveyChange(pick(questions, at), pick(first, at), pick(last, at), pair, seed));
  return {
    subsets,
    summaries: runs.map((answers) =>
      perSubset((at) => summarizeSurvey(pick(questions, at), pick(answers, at), pair, seed)),
    ),
    change: runs.length < 2 ? null : change(runs[0], runs[runs.length - 1]),
  };
}

/** From a model's answers to a country's, by question. Throws InputError where that has none. */
export function distancesTo(
  questions: readonly SurveyQuestion[],
  answers: readonly SurveyAnswer[],
  country: string,
): SurveyDistance[] {
  return questions.map(({ id, countries, ordinal }, i) => {
    if (!countries[country]) throw new InputError(`question ${id} has no answers of ${country}`);
    return surveyDistance(answers[i].shares, countries[country].shares, ordinal);
  });
}

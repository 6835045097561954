import { aboveOther, type CueScore } from './association.js';
import { jensenShannonDistance } from './distribution.js';
import {
  bootstrapMean,
  bootstrapSeeds,
  type Estimate,
  type SeedEstimate,
  type SeedGain,
  seedGain,
} from './statistics.js';
import { distancesTo, type SurveyAnswer, type SurveyQuestion } from './survey.js';

/** The scores of one model's runs, one a seed, on the same cues. */
export type ScoredRuns = readonly (readonly CueScore[])[];

/**
 * How much better a culture's own adapter meets its people than another culture's does, both asked about the same cues in
 * the same words: mean difference of P@K own − other list. About zero where the adapters are not distinct. Each is given as
 * its runs, one a seed, paired in their order.
 */
export function crossGap(own: ScoredRuns, foreign: ScoredRuns, k: number, seed = 42): SeedGain {
  return seedGain(
    own.map((run, s) => run.map((score, i) => aboveOther(score, k) - aboveOther(foreign[s][i], k))),
    seed,
  );
}

/**
 * How far two models' lists for the same cues are apart: mean Jensen-Shannon divergence (base 2) of their first `length`
 * words, each list an even distribution over its words. Of equally long lists it is 1 − the share of words that they have
 * in common: 0 for equal lists in any order, 1 for lists without a common word. Two empty lists are equal.
 * Runs are paired in their order.
 */
export function listDistance(a: ScoredRuns, b: ScoredRuns, length: number, seed = 42): SeedEstimate {
  const first = ({ predictions }: CueScore) => predictions.slice(0, length);
  return bootstrapSeeds(
    a.map((run, s) => run.map((score, i) => evenDistance(first(score), first(b[s][i])))),
    seed,
  );
}

function evenDistance(a: readonly string[], b: readonly string[]): number {
  if (a.length === 0 || b.length === 0) return a.length === b.length ? 0 : 1;
  const words = [...new Set([...a, ...b])];
  const share = (list: readonly string[]) => words.map((word) => (list.includes(word) ? 1 : 0));
  return jensenShannonDistance(share(a), share(b)) ** 2;
}

/** A culture's survey: its questions in its language, and what a model's runs answer to them. */
export interface AnsweredSurvey {
  readonly questions: readonly SurveyQuestion[];
  readonly answers: readonly (readonly SurveyAnswer[])[];
}

/** Places in two surveys of the questions that both ask: by id, with options of the same codes in the same order. */
export function commonQuestions(
  a: readonly Pick<SurveyQuestion, 'id' | 'options'>[],
  b: readonly Pick<SurveyQuestion, 'id' | 'options'>[],
): (readonly [number, number])[] {
  const key = ({ id, options }: Pick<SurveyQuestion, 'id' | 'options'>) =>
    JSON.stringify([id, ...options.map(({ code }) => code)]);
  const other = new Map(b.map((question, j) => [key(question), j]));
  return a.flatMap((question, i) => {
    const j = other.get(key(question));
    return j === undefined ? [] : [[i, j] as const];
  });
}

/**
 * Mean Jensen-Shannon distance (base 2) between two models' answers to the questions that both were asked, each in its own
 * language; null where there is no such question. Runs are paired in their order.
 */
export function surveyGap(a: AnsweredSurvey, b: AnsweredSurvey, seed = 42): SeedEstimate | null {
  const common = commonQuestions(a.questions, b.questions);
  const distances = a.answers.map((run, s) =>
    common.map(([i, j]) => jensenShannonDistance(run[i].shares, b.answers[s][j].shares)),
  );
  return common.length === 0 ? null : bootstrapSeeds(distances, seed);
}

/** The same between two countries' people, over the questions of `questions` that both countries answered. */
export function peopleGap(questions: readonly SurveyQuestion[], a: string, b: string, seed = 42): Estimate | null {
  const distances = questions.flatMap(({ countries }) =>
    countries[a] && countries[b] ? [jensenShannonDistance(countries[a].shares, countries[b].shares)] : [],
  );
  return distances.length === 0 ? null : bootstrapMean(distances, seed);
}

/**
 * By how much a culture's own adapter answers its survey nearer to its own country than another culture's adapter does, both
 * asked the same questions in the same words: mean difference of the ordinal earth mover's distances over N − 1, above zero
 * where the own one is nearer. Runs are paired in their order.
 */
export function surveyCrossGap(
  questions: readonly SurveyQuestion[],
  country: string,
  own: AnsweredSurvey['answers'],
  foreign: AnsweredSurvey['answers'],
  seed = 42,
): SeedGain {
  const emds = (run: readonly SurveyAnswer[]) => distancesTo(questions, run, country).map(({ emd }) => emd);
  const gaps = own.map((run, s) => {
    const [near, far] = [emds(run), emds(foreign[s])];
    return near.map((emd, i) => far[i] - emd);
  });
  return seedGain(gaps, seed);
}

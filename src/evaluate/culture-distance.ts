import type { CueScore } from './association.js';
import { jensenShannonDistance } from './distribution.js';
import { bootstrapGain, bootstrapMean, type Estimate } from './statistics.js';
import type { SurveyAnswer, SurveyQuestion } from './survey.js';

/**
 * How much better a culture's own adapter meets its people than another culture's does, both asked about the same cues in
 * the same words: mean difference of P@K own − other list. About zero where the adapters are not distinct.
 */
export function crossGap(own: readonly CueScore[], foreign: readonly CueScore[], k: number, seed = 42): Estimate {
  const above = ({ precision, otherPrecision }: CueScore) => precision[k] - otherPrecision[k];
  return bootstrapGain(foreign.map(above), own.map(above), seed);
}

/**
 * How far two models' lists for the same cues are apart: mean Jensen-Shannon divergence (base 2) of their first `length`
 * words, each list an even distribution over its words. Of equally long lists it is 1 − the share of words that they have
 * in common: 0 for equal lists in any order, 1 for lists without a common word. Two empty lists are equal.
 */
export function listDistance(a: readonly CueScore[], b: readonly CueScore[], length: number, seed = 42): Estimate {
  return bootstrapMean(
    a.map(({ predictions }, i) => evenDistance(predictions.slice(0, length), b[i].predictions.slice(0, length))),
    seed,
  );
}

function evenDistance(a: readonly string[], b: readonly string[]): number {
  if (a.length === 0 || b.length === 0) return a.length === b.length ? 0 : 1;
  const words = [...new Set([...a, ...b])];
  const share = (list: readonly string[]) => words.map((word) => (list.includes(word) ? 1 : 0));
  return jensenShannonDistance(share(a), share(b)) ** 2;
}

/** A culture's survey: its questions in its language, and what a model answers to them. */
export interface AnsweredSurvey {
  readonly questions: readonly SurveyQuestion[];
  readonly answers: readonly SurveyAnswer[];
}

/**
 * Mean Jensen-Shannon distance (base 2) between two models' answers to the questions that both were asked, by id, each in
 * its own language; null where there is no such question with as many options.
 */
export function surveyGap(a: AnsweredSurvey, b: AnsweredSurvey, seed = 42): Estimate | null {
  const other = new Map(b.questions.map(({ id }, i) => [id, b.answers[i].shares]));
  const distances = a.questions.flatMap(({ id }, i) => {
    const shares = other.get(id);
    const own = a.answers[i].shares;
    return shares?.length === own.length ? [jensenShannonDistance(own, shares)] : [];
  });
  return distances.length === 0 ? null : bootstrapMean(distances, seed);
}

/** The same between two countries' people, over the questions of `questions` that both countries answered. */
export function peopleGap(questions: readonly SurveyQuestion[], a: string, b: string, seed = 42): Estimate | null {
  const distances = questions.flatMap(({ countries }) =>
    countries[a] && countries[b] ? [jensenShannonDistance(countries[a].shares, countries[b].shares)] : [],
  );
  return distances.length === 0 ? null : bootstrapMean(distances, seed);
}

import { affectMedians } from './affect.js';
import { aboveOther, type CueScore } from './association.js';
import { rewardGains, rewardOf, scoreRankings, spearmanGains } from './ranking-summary.js';
import { tokenCounts, tokenRates } from './side-effects.js';
import { bootstrapSeeds, type SeedEstimate } from './statistics.js';
import type { StudyAnswers, StudyCultureAnswers, StudySettings } from './study.js';
import { distancesTo, highTension, type SurveyAnswer } from './survey.js';

/** What is told of a training over its seeds. Gains and changes are paired, over the untouched base. */
export type SeedsMeasureName =
  | 'precision'
  | 'above_other'
  | 'gain'
  | 'spearman'
  | 'rankings_read'
  | 'rankings_whole'
  | 'ranking_spearman'
  | 'ranking_spearman_gain'
  | 'ranking_reward'
  | 'ranking_reward_gain'
  | 'rating_distance'
  | 'rating_nearer'
  | 'survey_distance'
  | 'survey_toward'
  | 'survey_toward_other'
  | 'survey_specific'
  | 'perplexity_factor'
  | 'followed_change';

export interface SeedsMeasure {
  readonly measure: SeedsMeasureName;
  /** Of precision and its gains K, of ratings the dimension, of the survey which questions (all, or emd: high tension); else null. */
  readonly of: string | null;
  readonly estimate: SeedEstimate;
}

/** One training of a culture over its seeds. */
export interface SeedsSummary {
  readonly name: string;
  readonly seeds: readonly number[];
  readonly measures: readonly SeedsMeasure[];
}

/** What one run answered, with the scores of its lists. */
interface StudyRun {
  readonly model: StudyAnswers;
  readonly scores: readonly CueScore[];
}

/**
 * Each training of a study of several seeds: means over its seeds on the same cues, questions and texts, with the intervals
 * of `bootstrapSeeds`. Null in a study of one. `scores` are those of `culture.models`, the base's first.
 */
export function summarizeSeeds(
  culture: StudyCultureAnswers,
  scores: readonly (readonly CueScore[])[],
  settings: StudySettings,
): SeedsSummary[] | null {
  const { models } = culture;
  const trained = [...models.keys()].filter((i) => models[i].seed !== null);
  if (trained.length === 0) return null;
  const runAt = (i: number) => ({ model: models[i], scores: scores[i] });
  const names = [...new Set(trained.map((i) => models[i].name))];
  return names.map((name) => {
    const places = trained.filter((i) => models[i].name === name);
    const runs = places.map((i) => measureItems(culture, runAt(i), runAt(0), settings));
    return {
      name,
      seeds: places.flatMap((i) => models[i].seed ?? []),
      measures: runs[0].map(([measure, of], m): SeedsMeasure => {
        const values = runs.map((run) => run[m][2]);
        const estimate = bootstrapSeeds(values, settings.seed, runs[0][m][3]);
        return { measure, of, estimate: measure === 'perplexity_factor' ? exponential(estimate) : estimate };
      }),
    };
  });
}

/** A measure of one run, item by item; of perplexity's factor the logarithms, with the tokens that they weigh. */
type MeasuredItems = readonly [
  measure: SeedsMeasureName,
  of: string | null,
  values: readonly (number | null)[],
  weights?: readonly number[],
];

function measureItems(
  culture: StudyCultureAnswers,
  run: StudyRun,
  before: StudyRun,
  { ks, highTension: count }: StudySettings,
): MeasuredItems[] {
  return [
    ...associationItems(run.scores, before.scores, ks),
    ...rankingItems(culture, run.model.rankings, before.model.rankings),
    ...ratingItems(culture, run.scores, before.scores),
    ...surveyItems(culture, run.model.survey, before.model.survey, count),
    ...sideEffectItems(run.model.sideEffects, before.model.sideEffects),
  ];
}

function associationItems(
  scores: readonly CueScore[],
  before: readonly CueScore[],
  ks: readonly number[],
): MeasuredItems[] {
  const ofK = ks.flatMap((k, i): MeasuredItems[] => {
    const above = (score: CueScore) => aboveOther(score, i);
    const gains = scores.map((score, cue) => above(score) - above(before[cue]));
    return [
      ['precision', String(k), scores.map(({ precision }) => precision[i])],
      ['above_other', String(k), scores.map(above)],
      ['gain', String(k), gains],
    ];
  });
  return [...ofK, ['spearman', null, scores.map(({ spearman }) => spearman)]];
}

function rankingItems(
  { questions }: StudyCultureAnswers,
  answers: StudyAnswers['rankings'],
  before: StudyAnswers['rankings'],
): MeasuredItems[] {
  if (!answers || !before) return [];
  const [from, to] = [before, answers].map((own) => scoreRankings(questions, own));
  return [
    ['rankings_read', null, to.map(({ parsed }) => Number(parsed))],
    ['rankings_whole', null, to.map(({ spearman }) => Number(spearman !== null))],
    ['ranking_spearman', null, to.map(({ spearman }) => spearman)],
    ['ranking_spearman_gain', null, spearmanGains(from, to)],
    ['ranking_reward', null, to.map(rewardOf)],
    ['ranking_reward_gain', null, rewardGains(from, to)],
  ];
}

function ratingItems(
  { human, lexicon }: StudyCultureAnswers,
  scores: readonly CueScore[],
  before: readonly CueScore[],
): MeasuredItems[] {
  const theirs = human.map(({ responses }) => responses.map(({ word }) => word));
  return [...(lexicon?.dimensions ?? [])].flatMap(([dimension, ratings]): MeasuredItems[] => {
    const people = affectMedians(theirs, ratings).medians;
    const distances = (run: readonly CueScore[]) =>
      affectMedians(
        run.map(({ predictions }) => predictions),
        ratings,
      )
        .medians.map((median, i) => difference(median, people[i]))
        .map((gap) => gap && Math.abs(gap));
    const [from, to] = [before, scores].map(distances);
    return [
      ['rating_distance', dimension, to],
      ['rating_nearer', dimension, from.map((distance, i) => difference(distance, to[i]))],
    ];
  });
}

/** Null where either is. */
function difference(a: number | null, b: number | null): number | null {
  return a === null || b === null ? null : a - b;
}

function surveyItems(
  { surveyed }: StudyCultureAnswers,
  answers: StudyAnswers['survey'],
  before: StudyAnswers['survey'],
  count: number,
): MeasuredItems[] {
  if (!surveyed || !answers || !before) return [];
  const { questions, pair } = surveyed;
  const subsets = { all: [...questions.keys()], emd: highTension(questions, pair, count, 'emd') };
  const emds = (own: readonly SurveyAnswer[], country: string) =>
    distancesTo(questions, own, country).map(({ emd }) => emd);
  const distance = emds(answers, pair[0]);
  const [toward, towardOther] = pair.map((country) => {
    const to = emds(answers, country);
    return emds(before, country).map((from, i) => from - to[i]);
  });
  return Object.entries(subsets).flatMap(([subset, places]): MeasuredItems[] => [
    ['survey_distance', subset, places.map((i) => distance[i])],
    ['survey_toward', subset, places.map((i) => toward[i])],
    ['survey_toward_other', subset, places.map((i) => towardOther[i])],
    ['survey_specific', subset, places.map((i) => toward[i] - towardOther[i])],
  ]);
}

function sideEffectItems(after: StudyAnswers['sideEffects'], before: StudyAnswers['sideEffects']): MeasuredItems[] {
  if (!after || !before) return [];
  const from = tokenRates(before.texts);
  const followed = after.followed.map((own, i) => Number(own) - Number(before.followed[i]));
  return [
    ['perplexity_factor', null, tokenRates(after.texts).map((rate, i) => rate - from[i]), tokenCounts(before.texts)],
    ['followed_change', null, followed],
  ];
}

function exponential({ mean, low, high, n, seeds }: SeedEstimate): SeedEstimate {
  return { mean: Math.exp(mean), low: Math.exp(low), high: Math.exp(high), n, seeds: seeds.map(Math.exp) };
}

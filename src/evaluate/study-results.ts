import { scoreAssociations } from './association.js';
import { associationGains } from './association-summary.js';
import { rankingGain, scoreRankings } from './ranking-summary.js';
import type { Common, EvaluationResult } from './result.js';
import { sideEffectChange } from './side-effects.js';
import {
  type StudyCultureAnswers,
  type StudyCultureResult,
  type StudyResult,
  type StudySettings,
  titleOf,
} from './study.js';
import { compareSurveys } from './survey.js';

/**
 * One culture's measures in the form of `lexalign evaluate --json`, with all its models as runs; gains and changes are
 * those of the last over the base, and none of several seeds, whose gains `summary.seeds` has; but ratings have each model's.
 */
export function cultureResults(
  culture: StudyCultureAnswers,
  summary: StudyCultureResult,
  common: Common,
  { ks, highTension, seed }: StudySettings,
): Exclude<EvaluationResult, StudyResult>[] {
  const { name, human, questions, surveyed } = culture;
  const models = culture.models.filter(({ of }) => of === null || of === name);
  const several = models.some(({ seed: trained }) => trained !== null);
  const scores = models.map(({ lists }) => scoreAssociations(human, lists, ks, seed));
  const results: Exclude<EvaluationResult, StudyResult>[] = [];
  results.push({
    ...common,
    measure: 'association',
    norms: name,
    ks,
    human: human.map(({ cue, responses }) => ({ cue, words: responses.map(({ word }) => word) })),
    runs: models.map(({ adapter, lists, ...model }, i) => ({
      name: titleOf(model),
      adapter,
      ...summary.variants[i].association,
      cues: scores[i].map((score, cue) => ({ ...score, text: lists[cue] })),
    })),
    gains: several ? null : associationGains(scores[0], scores[scores.length - 1], ks, seed),
  });
  const ranked = models.flatMap(({ rankings, ...model }, i) => {
    const own = summary.variants[i].ranking;
    return rankings && own ? [{ ...model, rankings, own, scores: scoreRankings(questions, rankings) }] : [];
  });
  if (ranked.length > 0)
    results.push({
      ...common,
      measure: 'ranking',
      questions: `the test cues of ${name}`,
      runs: ranked.map(({ adapter, rankings, own, scores: each, ...model }) => ({
        name: titleOf(model),
        adapter,
        ...own,
        answers: each.map((score, i) => ({ cue: questions[i].cue, ...score, text: rankings[i] })),
      })),
      gain: several ? null : rankingGain(ranked[0].scores, ranked[ranked.length - 1].scores, seed),
    });
  if (summary.affect)
    results.push({
      ...common,
      measure: 'affect',
      cues: human.map(({ cue }) => cue),
      run_names: models.map(({ adapter, ...model }) => ({ name: titleOf(model), adapter })),
      dimensions: summary.affect,
    });
  if (surveyed) {
    const asked = models.flatMap(({ survey, ...model }) => (survey ? [{ ...model, survey }] : []));
    const { subsets, summaries, change } = compareSurveys(
      surveyed.questions,
      asked.map(({ survey }) => survey),
      surveyed.pair,
      { highTension, seed },
    );
    results.push({
      ...common,
      measure: 'survey',
      countries: surveyed.pair,
      prompts: surveyed.prompts,
      formats: surveyed.formats,
      questions: surveyed.questions,
      high_tension: { emd: subsets.emd, sorted: subsets.sorted },
      runs: asked.map(({ adapter, survey, ...model }, i) => ({
        name: titleOf(model),
        adapter,
        answers: survey,
        summaries: summaries[i],
      })),
      change: several ? null : change,
    });
  }
  const measured = models.flatMap(({ sideEffects, ...model }, i) => {
    const own = summary.variants[i].sideEffects;
    return sideEffects && own ? [{ ...model, sideEffects, own }] : [];
  });
  if (measured.length > 0)
    results.push({
      ...common,
      measure: 'side-effects',
      runs: measured.map(({ adapter, own, ...model }) => ({ name: titleOf(model), adapter, ...own })),
      change: several
        ? null
        : sideEffectChange(measured[0].sideEffects, measured[measured.length - 1].sideEffects, seed),
    });
  return results;
}

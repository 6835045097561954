import { scoreAssociations } from './association.js';
import { scoreRankings } from './ranking-summary.js';
import type { Common, EvaluationResult } from './result.js';
import {
  type StudyCultureAnswers,
  type StudyCultureResult,
  type StudyResult,
  type StudySettings,
  titleOf,
} from './study.js';
import { highTension } from './survey.js';

/**
 * One culture's measures in the form of `lexalign evaluate --json`, with all its models as runs; gains and changes are
 * those of the last over the base, and none of several seeds, whose gains `summary.seeds` has; but ratings have each model's.
 */
export function cultureResults(
  culture: StudyCultureAnswers,
  summary: StudyCultureResult,
  common: Common,
  { ks, highTension: count, seed }: StudySettings,
): Exclude<EvaluationResult, StudyResult>[] {
  const { name, human, questions, surveyed } = culture;
  const models = culture.models.filter(({ of }) => of === null || of === name);
  const several = models.some(({ seed: trained }) => trained !== null);
  const measured = models.map(({ adapter, ...model }, i) => ({
    run: { name: titleOf(model), adapter },
    ...model,
    summary: summary.variants[i],
  }));
  const last = (own: typeof measured) => (several ? null : own[own.length - 1].summary);
  const results: Exclude<EvaluationResult, StudyResult>[] = [];
  results.push({
    ...common,
    measure: 'association',
    norms: name,
    ks,
    human: human.map(({ cue, responses }) => ({ cue, words: responses.map(({ word }) => word) })),
    runs: measured.map(({ run, lists, summary: { association } }) => ({
      ...run,
      ...association,
      cues: scoreAssociations(human, lists, ks, seed).map((score, cue) => ({ ...score, text: lists[cue] })),
    })),
    gains: last(measured)?.gains ?? null,
  });
  const ranked = measured.filter(({ rankings }) => rankings !== null);
  if (ranked.length > 0)
    results.push({
      ...common,
      measure: 'ranking',
      questions: `the test cues of ${name}`,
      runs: ranked.map(({ run, rankings, summary: { ranking } }) => ({
        ...run,
        ...ranking!,
        answers: scoreRankings(questions, rankings!).map((score, i) => ({
          ...{ cue: questions[i].cue, ...score },
          text: rankings![i],
        })),
      })),
      gain: last(ranked)?.rankingGain ?? null,
    });
  if (summary.affect)
    results.push({
      ...common,
      measure: 'affect',
      cues: human.map(({ cue }) => cue),
      run_names: measured.map(({ run }) => run),
      dimensions: summary.affect,
    });
  if (surveyed) {
    const { questions: asked, pair, prompts, formats } = surveyed;
    const answered = measured.filter(({ survey }) => survey !== null);
    const tense = (by: 'emd' | 'sorted') => highTension(asked, pair, count, by);
    results.push({
      ...common,
      measure: 'survey',
      countries: pair,
      prompts,
      formats,
      questions: asked,
      high_tension: { emd: tense('emd'), sorted: tense('sorted') },
      runs: answered.map(({ run, survey, summary: own }) => ({ ...run, answers: survey!, summaries: own.survey! })),
      change: last(answered)?.surveyChange ?? null,
    });
  }
  const affected = measured.filter(({ sideEffects }) => sideEffects !== null);
  if (affected.length > 0)
    results.push({
      ...common,
      measure: 'side-effects',
      runs: affected.map(({ run, summary: own }) => ({ ...run, ...own.sideEffects! })),
      change: last(affected)?.sideEffectChange ?? null,
    });
  return results;
}

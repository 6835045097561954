import { type HumanRanking, humanPlaces, parseRanking, type RankingLanguage, wholeRanking } from './ranking.js';
import {
  attainableCorrelation,
  bootstrapMean,
  type Estimate,
  type Gain,
  mean,
  meanOrNull,
  pairedGain,
} from './statistics.js';

/** What one answer to a ranking question is worth. */
export interface RankingScore {
  /** A ranking could be read at all. */
  readonly parsed: boolean;
  /** Spearman's correlation with people's order where the answer ranks every word once and no other; else null. */
  readonly spearman: number | null;
  /** What people's own order would score: less than 1 where their counts tie; null where all do. */
  readonly attainable: number | null;
}

/** Scores an answer a question. */
export function scoreRankings(
  questions: readonly (HumanRanking & { readonly language: RankingLanguage })[],
  answers: readonly string[],
): RankingScore[] {
  return questions.map((question, i) => {
    const predicted = parseRanking(answers[i], question.language);
    return {
      parsed: predicted !== null,
      spearman: predicted && wholeRanking(predicted, question),
      attainable: attainableCorrelation(humanPlaces(question)),
    };
  });
}

/** One model on a set of ranking questions; estimates over cues, each with the mean of its questions. */
export interface RankingSummary {
  /** Share of the answers that a ranking can be read from. */
  readonly parsed: Estimate;
  /** Share of the answers that rank every word once and no other. */
  readonly whole: Estimate;
  /** Mean over the whole rankings of `n` cues alone, so that form does not pass for order; null without any. */
  readonly spearman: Estimate | null;
  /** Mean over the same rankings of what people's own order would score; null without any. */
  readonly attainable: number | null;
  /** The strict reward: the correlation, −1 for what is no whole ranking. */
  readonly reward: Estimate;
}

/** `cues`: which cue each question is about; by default each question is about one of its own. */
export function summarizeRankings(
  scores: readonly RankingScore[],
  seed = 42,
  cues: readonly unknown[] = [...scores.keys()],
): RankingSummary {
  const over = (values: readonly (number | null)[]) => bootstrapMean(meanByCue(cues, values), seed);
  const spearman = over(scores.map((score) => score.spearman));
  return {
    parsed: over(scores.map(({ parsed }) => Number(parsed))),
    whole: over(scores.map((score) => Number(score.spearman !== null))),
    spearman: spearman.n === 0 ? null : spearman,
    attainable: meanOrNull(
      meanByCue(
        cues,
        scores.map((score) => (score.spearman === null ? null : score.attainable)),
      ),
    ),
    reward: over(scores.map(rewardOf)),
  };
}

/** Gains of one model over another on the same questions. */
export interface RankingGain {
  readonly reward: Gain;
  /** Over the questions that both rank whole; null without any. */
  readonly spearman: Gain | null;
}

/** `cues` as for `summarizeRankings`. */
export function rankingGain(
  before: readonly RankingScore[],
  after: readonly RankingScore[],
  seed = 42,
  cues: readonly unknown[] = [...before.keys()],
): RankingGain {
  const over = (values: readonly (number | null)[]) => pairedGain(meanByCue(cues, values), seed);
  const spearman = over(spearmanGains(before, after));
  return {
    reward: over(rewardGains(before, after)),
    spearman: spearman.n === 0 ? null : spearman,
  };
}

/** Gain in the reward of each question, of form and order together. */
export function rewardGains(before: readonly RankingScore[], after: readonly RankingScore[]): number[] {
  return after.map((score, i) => rewardOf(score) - rewardOf(before[i]));
}

/** Gain in the order of each question that both rank whole; null of the others. */
export function spearmanGains(before: readonly RankingScore[], after: readonly RankingScore[]): (number | null)[] {
  return before.map(({ spearman: from }, i) => {
    const to = after[i].spearman;
    return from === null || to === null ? null : to - from;
  });
}

/** The mean of each cue's values, in the order in which the cues appear; a cue without any value is left out. */
function meanByCue(cues: readonly unknown[], values: readonly (number | null)[]): number[] {
  const known = new Map<unknown, number[]>();
  values.forEach((value, i) => {
    if (value === null) return;
    const own = known.get(cues[i]);
    if (own) own.push(value);
    else known.set(cues[i], [value]);
  });
  return [...known.values()].map(mean);
}

/** The strict reward of an answer. */
export function rewardOf({ spearman }: Pick<RankingScore, 'spearman'>): number {
  return spearman ?? -1;
}

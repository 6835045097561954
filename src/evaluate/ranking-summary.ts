import { parseRanking, type RankingLanguage, strictRankingReward } from './ranking.js';
import { bootstrapGain, bootstrapMean, type Estimate } from './statistics.js';

/** What one answer to a ranking question is worth. */
export interface RankingScore {
  /** A ranking could be read at all. */
  readonly parsed: boolean;
  /** Spearman's correlation with people's order where the answer ranks every word once and no other; else null. */
  readonly spearman: number | null;
}

/** Scores an answer a question: `ranking` is people's order, strongest first. */
export function scoreRankings(
  questions: readonly { readonly ranking: readonly string[]; readonly language: RankingLanguage }[],
  answers: readonly string[],
): RankingScore[] {
  return questions.map(({ ranking, language }, i) => {
    const predicted = parseRanking(answers[i], language);
    if (!predicted) return { parsed: false, spearman: null };
    const known = new Set(predicted);
    const whole = predicted.length === ranking.length && ranking.every((word) => known.has(word));
    return { parsed: true, spearman: whole ? strictRankingReward(predicted, ranking) : null };
  });
}

/** One model on a set of ranking questions. */
export interface RankingSummary {
  /** Share of the answers that a ranking can be read from. */
  readonly parsed: Estimate;
  /** Share of those that rank every word once and no other. */
  readonly whole: Estimate;
  /** Mean over the `n` whole rankings alone, so that form does not pass for order; null without any. */
  readonly spearman: Estimate | null;
  /** The strict reward: the correlation, −1 for what is no whole ranking. */
  readonly reward: Estimate;
}

export function summarizeRankings(scores: readonly RankingScore[], seed = 42): RankingSummary {
  const whole = scores.flatMap(({ spearman }) => spearman ?? []);
  return {
    parsed: bootstrapMean(
      scores.map(({ parsed }) => Number(parsed)),
      seed,
    ),
    whole: bootstrapMean(
      scores.map(({ spearman }) => Number(spearman !== null)),
      seed,
    ),
    spearman: whole.length === 0 ? null : bootstrapMean(whole, seed),
    reward: bootstrapMean(scores.map(rewardOf), seed),
  };
}

/** Gains of one model over another on the same questions. */
export interface RankingGain {
  readonly reward: Estimate;
  /** Over the questions that both rank whole; null without any. */
  readonly spearman: Estimate | null;
}

export function rankingGain(before: readonly RankingScore[], after: readonly RankingScore[], seed = 42): RankingGain {
  const both = before.flatMap(({ spearman: from }, i) => {
    const to = after[i].spearman;
    return from === null || to === null ? [] : [[from, to] as const];
  });
  const [from, to] = [0, 1].map((side) => both.map((pair) => pair[side]));
  return {
    reward: bootstrapGain(before.map(rewardOf), after.map(rewardOf), seed),
    spearman: both.length === 0 ? null : bootstrapGain(from, to, seed),
  };
}

/** The strict reward of an answer. */
export function rewardOf({ spearman }: RankingScore): number {
  return spearman ?? -1;
}

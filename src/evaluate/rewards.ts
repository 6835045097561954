import type { Message } from '../text/chat-template.js';
import { parseAssociates, precisionAtK } from './association.js';
import {
  type HumanRanking,
  parseRanking,
  type RankingLanguage,
  rankingReward,
  strictRankingReward,
} from './ranking.js';

/** An answer to be scored, and what it answers. */
export interface RewardSample extends HumanRanking {
  readonly answer: string;
  readonly language: RankingLanguage;
  /** Null where the row names none. */
  readonly cue: string | null;
  readonly messages: readonly Message[];
}

export interface Score {
  readonly score: number;
  /** The answer had the form that was asked for. */
  readonly parsed: boolean;
}

/** Scores an answer; those of a rollout are asked for all at once. */
export type Reward = (sample: RewardSample) => Score | Promise<Score>;

/** The rewards that `--reward` knows by name. */
export const rewardNames = ['rank', 'strict-rank', 'coverage'] as const;
export type RewardName = (typeof rewardNames)[number];

/** `coverageK` is the K of coverage; 0: the length of each question's human list. */
export function namedReward(name: RewardName, { coverageK }: { coverageK: number }): Reward {
  switch (name) {
    case 'rank': // ALIGN's published one
      return (sample) => scoreRanking(sample, rankingReward);
    case 'strict-rank':
      return (sample) => scoreRanking(sample, strictRankingReward);
    case 'coverage':
      return (sample) => scoreList(sample, coverageK || sample.ranking.length);
  }
}

/** P@K of a list of associates. */
function scoreList({ answer, ranking, cue }: RewardSample, k: number): Score {
  const words = parseAssociates(answer, cue ?? undefined);
  return { score: precisionAtK(words, ranking, k), parsed: words.length > 0 };
}

function scoreRanking(sample: RewardSample, reward: typeof strictRankingReward): Score {
  const predicted = parseRanking(sample.answer, sample.language);
  return predicted ? { score: reward(predicted, sample), parsed: true } : { score: -1, parsed: false };
}

/**
 * The reward of a user's ES module: its default export is called as `(sample) => number | {score, parsed}`, or a
 * promise of that. What it throws, or a score that is not a finite number, becomes an Error that names the module.
 */
export function moduleReward(name: string, call: (sample: RewardSample) => unknown): Reward {
  return async (sample) => {
    let value: unknown;
    try {
      value = await call(structuredClone(sample)); // its own, to sort as it likes
    } catch (error) {
      throw new Error(`${name} threw: ${error instanceof Error ? error.message : error}`);
    }
    const { score, parsed = true } = (typeof value === 'object' && value !== null ? value : { score: value }) as {
      score?: unknown;
      parsed?: unknown;
    };
    if (typeof score !== 'number' || !Number.isFinite(score) || typeof parsed !== 'boolean')
      throw new Error(`${name} gave ${JSON.stringify(value)}, not a finite number or {score, parsed}`);
    return { score, parsed };
  };
}

import { wordKey } from './association.js';
import { averageRanks, spearman } from './statistics.js';

/** Language of a ranking question; it says what the answer's headings are. */
export type RankingLanguage = 'en' | 'zh';

/** People's order of a question's words. */
export interface HumanRanking {
  /** Strongest first. */
  readonly ranking: readonly string[];
  /** How often each was given, in that order: words of one count share a rank. Null where only the order is known. */
  readonly counts: readonly number[] | null;
}

const forms = {
  en: {
    heading: /final\s+ranking/giu,
    entry: /\brank\s*([\d０-９]{1,4})\s*[:：.]\s*(.*?)(?=[,，;；]?\s*\brank\s*[\d０-９]{1,4}\s*[:：.]|$)/gimu,
  },
  zh: {
    heading: /最终排名/gu,
    entry: /排名\s*([\d０-９]{1,4})\s*[:：.]\s*(.*?)(?=[,，;；、]?\s*排名\s*[\d０-９]{1,4}\s*[:：.]|$)/gmu,
  },
} as const;

/**
 * The words of an answer's last "Final Ranking" ("最终排名"), by their "Rank n: word" ("排名n：word"); of two words
 * with one rank the first counts. Null where there is no such heading or no such line behind it.
 */
export function parseRanking(answer: string, language: RankingLanguage): string[] | null {
  const { heading, entry } = forms[language];
  const last = [...answer.matchAll(heading)].at(-1);
  if (!last) return null;
  const byRank = new Map<number, string>();
  for (const [, rank, text] of answer.slice(last.index + last[0].length).matchAll(entry)) {
    const word = wordKey(text);
    const place = Number(rank.normalize('NFKC'));
    if (word !== '' && !byRank.has(place)) byRank.set(place, word);
  }
  if (byRank.size === 0) return null;
  return [...byRank].sort(([a], [b]) => a - b).map(([, word]) => word);
}

/**
 * ALIGN's reward of a predicted order against people's: the human ranks of the predicted words that are on the human
 * list, in predicted order, padded with K + 1 to the list's length K, correlated (Spearman, ties averaged) with 1..K.
 * −1 where nothing is left to correlate, or more words than K. As published it takes words of equal count in the list's
 * order, and pays +0.52 for one right word out of ten: for what does neither, see `strictRankingReward`.
 */
export function rankingReward(predicted: readonly string[], { ranking }: Pick<HumanRanking, 'ranking'>): number {
  const rankOf = new Map(ranking.map((word, i) => [wordKey(word), i + 1]));
  const ranks = predicted.flatMap((word) => rankOf.get(wordKey(word)) ?? []);
  if (ranks.length > ranking.length) return -1;
  while (ranks.length < ranking.length) ranks.push(ranking.length + 1);
  return correlateWithOrder(ranks);
}

/** `wholeRanking`, or −1 for what is none. */
export function strictRankingReward(predicted: readonly string[], human: HumanRanking): number {
  return wholeRanking(predicted, human) ?? -1;
}

/**
 * Spearman's correlation of the two orders, words of one count sharing the average of their ranks, where the prediction holds
 * every human word once and nothing else; else null.
 */
export function wholeRanking(predicted: readonly string[], { ranking, counts }: HumanRanking): number | null {
  const places = humanPlaces({ ranking, counts });
  const rankOf = new Map(ranking.map((word, i) => [wordKey(word), places[i]]));
  const words = predicted.map(wordKey);
  const whole =
    words.length === ranking.length && new Set(words).size === words.length && words.every((word) => rankOf.has(word));
  return whole ? correlateWithOrder(words.map((word) => rankOf.get(word)!)) : null;
}

/** Ranks of people's words, those of one count sharing the average of theirs. */
export function humanPlaces({ ranking, counts }: HumanRanking): number[] {
  return averageRanks(counts ? counts.map((count) => -count) : ranking.map((_, i) => i));
}

function correlateWithOrder(ranks: readonly number[]): number {
  return (
    spearman(
      ranks,
      ranks.map((_, i) => i + 1),
    ) ?? -1
  ); // null: one word, or all ranks alike
}

import { normalizeWord } from './association.js';
import { spearman } from './statistics.js';

/** Language of a ranking question; it says what the answer's headings are. */
export type RankingLanguage = 'en' | 'zh';

const forms = {
  en: {
    heading: /final\s+ranking/giu,
    entry: /\brank\s*(\d{1,4})\s*[:：.]\s*(.*?)(?=[,，;；]?\s*\brank\s*\d{1,4}\s*[:：.]|$)/gimu,
  },
  zh: {
    heading: /最终排名/gu,
    entry: /排名\s*(\d{1,4})\s*[:：.]\s*(.*?)(?=[,，;；、]?\s*排名\s*\d{1,4}\s*[:：.]|$)/gmu,
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
    const word = normalizeWord(text.replace(/^[\s*_"'“”‘’「」《》`]+|[\s*_"'“”‘’「」《》`.。,，;；]+$/gu, ''));
    if (word !== '' && !byRank.has(Number(rank))) byRank.set(Number(rank), word);
  }
  if (byRank.size === 0) return null;
  return [...byRank].sort(([a], [b]) => a - b).map(([, word]) => word);
}

/**
 * ALIGN's reward of a predicted order against people's: the human ranks of the predicted words that are on the human
 * list, in predicted order, padded with K + 1 to the list's length K, correlated (Spearman, ties averaged) with 1..K.
 * −1 where nothing is left to correlate, or more words than K. It pays +0.52 for one right word out of ten: for what
 * does not, see `strictRankingReward`.
 */
export function rankingReward(predicted: readonly string[], human: readonly string[]): number {
  const rankOf = new Map(human.map((word, i) => [normalizeWord(word), i + 1]));
  const ranks = predicted.flatMap((word) => rankOf.get(normalizeWord(word)) ?? []);
  if (ranks.length > human.length) return -1;
  while (ranks.length < human.length) ranks.push(human.length + 1);
  return correlateWithOrder(ranks);
}

/** Spearman's correlation of the two orders where the prediction holds every human word once and nothing else; else −1. */
export function strictRankingReward(predicted: readonly string[], human: readonly string[]): number {
  const rankOf = new Map(human.map((word, i) => [normalizeWord(word), i + 1]));
  const ranks = predicted.map((word) => rankOf.get(normalizeWord(word)));
  const complete = ranks.length === human.length && new Set(ranks).size === human.length && !ranks.includes(undefined);
  return complete ? correlateWithOrder(ranks as number[]) : -1;
}

function correlateWithOrder(ranks: readonly number[]): number {
  return (
    spearman(
      ranks,
      ranks.map((_, i) => i + 1),
    ) ?? -1
  ); // null: one word, or all ranks alike
}

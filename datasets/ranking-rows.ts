import { wordKey } from '../src/evaluate/association.js';
import { createRandom, type Random, shuffle } from '../src/random.js';
import type { Message } from '../src/text/chat-template.js';
import { askRanking, type RankingPrompt } from '../src/text/prompts.js';
import { drawSublist } from './association-rows.js';
import type { Associate, Language, Norms } from './norms.js';

/** A question to rank words, as `lexalign ppo` reads it. */
export interface RankingRow {
  readonly messages: readonly Message[];
  /** The words in people's order, strongest first. */
  readonly ranking: readonly string[];
  /** How often each of them was given. */
  readonly counts: readonly number[];
  /** Whose headings the answer has: of a language other than zh English ones, "Final Ranking" and "Rank 1: word". */
  readonly language: Language;
  readonly cue: string;
}

export interface RankingRowOptions {
  readonly prompt: RankingPrompt;
  /** Words to rank in a question. */
  readonly k: number;
  /** Questions about each cue, each with words of its own draw. */
  readonly questions: number;
  readonly seed: number;
}

export interface RankingRows {
  readonly rows: RankingRow[];
  /** Cues with fewer than k associates to rank, or with k that were all given equally often. */
  readonly skipped: number;
  /** Associates that hold a comma or the like and so would be two words in a question. */
  readonly unaskable: number;
}

/**
 * `questions` rows a cue: k of its associates, drawn evenly but never all of one count, are shown shuffled; their order in the
 * norms is the label. Norms are split by cue before (`splitByCue`).
 */
export function rankingRows(norms: Norms, options: RankingRowOptions): RankingRows {
  const { prompt, k, questions, seed } = options;
  const language = norms.language === 'zh' ? 'zh' : 'en';
  const random = createRandom(seed);
  const rows: RankingRow[] = [];
  let [skipped, unaskable] = [0, 0];
  for (const { cue, responses } of norms.cues) {
    const words = new Map<string, Associate>();
    for (const one of responses) {
      if (/[,，、;；:：\n]/u.test(one.word)) unaskable++;
      else if (!words.has(wordKey(one.word))) words.set(wordKey(one.word), one);
    }
    const known = [...words.values()];
    if (known.length < k || new Set(known.map(({ count }) => count)).size < 2) {
      skipped++;
      continue;
    }
    for (let i = 0; i < questions; i++) {
      const drawn = drawUneven(known, k, random);
      const ranking = drawn.map(({ word }) => word);
      const messages = askRanking(prompt, cue, shuffle(ranking, random));
      rows.push({ messages, ranking, counts: drawn.map(({ count }) => count), language, cue });
    }
  }
  return { rows, skipped, unaskable };
}

/** k associates, drawn anew while all have one count; of one alone there is nothing to rank anyway. */
function drawUneven(known: readonly Associate[], k: number, random: Random): Associate[] {
  for (;;) {
    const drawn = drawSublist(known, k, random);
    if (k < 2 || drawn.some(({ count }) => count !== drawn[0].count)) return drawn;
  }
}

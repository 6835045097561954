import { InputError } from '../src/errors.js';
import { createRandom, shuffle } from '../src/random.js';
import { askRanking, type Message, type RankingPrompt } from '../src/text/prompts.js';
import { drawSublist } from './association-rows.js';
import type { Language, Norms } from './norms.js';

/** A question to rank words, as `lexalign ppo` reads it. */
export interface RankingRow {
  readonly messages: readonly Message[];
  /** The words in people's order, strongest first. */
  readonly ranking: readonly string[];
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

/**
 * `questions` rows a cue: k of its associates, drawn evenly, are shown shuffled; their order in the norms is the label.
 * Cues with fewer than k associates are left out and counted. Norms are split by cue before (`splitByCue`).
 */
export function rankingRows(norms: Norms, options: RankingRowOptions): { rows: RankingRow[]; skipped: number } {
  const { prompt, k, questions, seed } = options;
  const { language } = norms;
  if (language !== 'en' && language !== 'zh') {
    throw new InputError(`rankings are read in en and zh, not in ${language}: there are no questions to rank in it`);
  }
  const random = createRandom(seed);
  const rows: RankingRow[] = [];
  const known = norms.cues.filter(({ responses }) => responses.length >= k);
  for (const { cue, responses } of known) {
    for (let i = 0; i < questions; i++) {
      const ranking = drawSublist(
        responses.map(({ word }) => word),
        k,
        random,
      );
      const messages = askRanking(prompt, cue, shuffle(ranking, random));
      rows.push({ messages, ranking, language, cue });
    }
  }
  return { rows, skipped: norms.cues.length - known.length };
}

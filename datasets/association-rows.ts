import { createRandom, type Random } from '../src/random.js';
import type { Message } from '../src/text/chat-template.js';
import { type AssociationPrompt, askMessages, fillQuestion, joinAssociates } from '../src/text/prompts.js';
import type { Norms } from './norms.js';

/** A supervised example as `lexalign sft` reads it. */
export type AssociationRow =
  | { readonly prompt: string; readonly completion: string }
  | { readonly messages: readonly Message[] };

export interface AssociationRowOptions {
  readonly prompt: AssociationPrompt;
  /** Take only this many of a cue's associates, the most frequent; all by default. */
  readonly maxAssociates?: number;
  /** Further rows a cue, each with a random 70 % of its associates in their order; 0 by default. */
  readonly sublists?: number;
  readonly seed: number;
}

/**
 * One row a cue (and `sublists` more): the question about it, answered with its associates by falling count. The
 * number of words asked for is drawn evenly from the answer's length ±10 %.
 */
export function associationRows(norms: Norms, options: AssociationRowOptions): AssociationRow[] {
  const { prompt, maxAssociates = Number.POSITIVE_INFINITY, sublists = 0 } = options;
  const random = createRandom(options.seed);
  const rows: AssociationRow[] = [];
  for (const { cue, responses } of norms.cues) {
    const words = responses.slice(0, maxAssociates).map(({ word }) => word);
    rows.push(row(prompt, cue, words, random));
    for (let i = 0; i < sublists; i++)
      rows.push(row(prompt, cue, drawSublist(words, Math.max(1, Math.round(words.length * 0.7)), random), random));
  }
  return rows;
}

function row(prompt: AssociationPrompt, cue: string, words: readonly string[], random: Random): AssociationRow {
  const n = drawWanted(words.length, random);
  const answer = joinAssociates(prompt, words);
  if (prompt.form === 'text') return { prompt: fillQuestion(prompt, cue, n), completion: answer };
  return { messages: [...askMessages(prompt, cue, n), { role: 'assistant', content: answer }] };
}

/** How many words a question asks for that `length` would answer: drawn evenly within 10 % of that. */
export function drawWanted(length: number, random: Random): number {
  const spread = Math.round(length * 0.1);
  return Math.max(1, length - spread + random.below(2 * spread + 1));
}

/** `count` of the words in their order. */
export function drawSublist<T>(words: readonly T[], count: number, random: Random): T[] {
  let wanted = count;
  // Selection sampling (Knuth, TAOCP 2, 3.4.2, algorithm S): every sub-list of this length is equally likely.
  return words.filter((_, i) => {
    const taken = random.below(words.length - i) < wanted;
    if (taken) wanted--;
    return taken;
  });
}

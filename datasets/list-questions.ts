import { wordKey } from '../src/evaluate/association.js';
import { createRandom } from '../src/random.js';
import type { Message } from '../src/text/chat-template.js';
import { type AssociationPrompt, askMessages } from '../src/text/prompts.js';
import { drawWanted } from './association-rows.js';
import type { Language, Norms } from './norms.js';

/** A question for a list of associates, as `lexalign ppo --reward coverage` reads it. */
export interface ListQuestion {
  readonly messages: readonly Message[];
  /** All that people gave, most frequent first, as answers are read: without quotes and stops around them. */
  readonly ranking: readonly string[];
  readonly language: Language;
  readonly cue: string;
}

export interface ListQuestionOptions {
  /** Of the form chat. */
  readonly prompt: AssociationPrompt;
  /** Ask for no more than about so many words; by default about as many as people gave. */
  readonly maxAssociates?: number;
  readonly seed: number;
}

/** One question a cue, asked as in `associationRows`. */
export function listQuestions(norms: Norms, options: ListQuestionOptions): ListQuestion[] {
  const { prompt, maxAssociates = Number.POSITIVE_INFINITY, seed } = options;
  const language = norms.language === 'zh' ? 'zh' : 'en';
  const random = createRandom(seed);
  return norms.cues.map(({ cue, responses }) => {
    const ranking = responses.map(({ word }) => wordKey(word));
    const wanted = drawWanted(Math.min(ranking.length, maxAssociates), random);
    return { messages: askMessages(prompt, cue, wanted), ranking, language, cue };
  });
}

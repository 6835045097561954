import { encodeQuestion } from '../batch/messages.js';
import type { AdapterWeights } from '../model/adapter.js';
import type { LanguageModel } from '../model/language-model.js';
import { type AssociationPrompt, askMessages, fillQuestion } from '../text/prompts.js';
import type { Tokenizer } from '../text/tokenizer.js';
import { type DecodeOptions, decodeAnswers } from './decode.js';

/** By default as suits ten words of lexi-base. */
export interface DecodeAssociationsOptions extends Partial<Omit<DecodeOptions, 'unpenalised'>> {
  /** Words asked for, where the prompt says how many. */
  readonly words?: number;
}

/** What the penalty spares: tokens that part words, in either language. */
const separators = [', ', ',', ' ,', '，', '、', ' ', '\n', '.', '。', '：', ' and'];

/** Tokens that ask for the associates of a cue, as in training. */
export function associationPromptIds(
  tokenizer: Tokenizer,
  prompt: AssociationPrompt,
  cue: string,
  words: number,
): Int32Array {
  if (prompt.form === 'text') return tokenizer.encode(fillQuestion(prompt, cue, words), { specials: true });
  return encodeQuestion(askMessages(prompt, cue, words), tokenizer, `the cue ${cue}`);
}

/**
 * A list of associates for each cue, as text, decoded greedily with a penalty on tokens already given: a word that repeats
 * one of them, such as a Chinese character of an earlier word, is held back too. Throws InputError where a prompt and the new
 * tokens pass the positions the model was opened for.
 */
export async function decodeAssociations(
  model: LanguageModel,
  adapter: AdapterWeights | null,
  tokenizer: Tokenizer,
  prompt: AssociationPrompt,
  cues: readonly string[],
  options: DecodeAssociationsOptions = {},
): Promise<string[]> {
  const { words = 10, maxNewTokens = 28, presencePenalty = 4, ...rest } = options;
  return decodeAnswers(
    model,
    adapter,
    tokenizer,
    cues.map((cue) => associationPromptIds(tokenizer, prompt, cue, words)),
    {
      maxNewTokens,
      presencePenalty,
      unpenalised: new Set(separators.flatMap((text) => [...tokenizer.encodeContinuation(text)])),
      ...rest,
    },
  );
}

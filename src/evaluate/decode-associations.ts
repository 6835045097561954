import type { AdapterWeights } from '../model/adapter.js';
import type { LanguageModel } from '../model/language-model.js';
import { type AssociationPrompt, askMessages, fillQuestion } from '../text/prompts.js';
import type { Tokenizer } from '../text/tokenizer.js';
import { type DecodeOptions, decodeAnswers } from './decode.js';

export interface DecodeAssociationsOptions extends Pick<DecodeOptions, 'deterministic' | 'stop'> {
  /** Words asked for, where the prompt says how many; 10 by default. */
  readonly words?: number;
  /** Tokens of a list at most; 28 by default, which is ten words of lexi-base. */
  readonly maxNewTokens?: number;
  /** Subtracted from the logits of tokens already given, so that a greedy list does not repeat itself; 4 by default. */
  readonly presencePenalty?: number;
  /** Cues decoded together; 64 by default. */
  readonly batchSize?: number;
  /** Told after every token which share of the tokens at most to come has come. */
  readonly onProgress?: (share: number) => void;
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
  const text = tokenizer.applyChatTemplate(askMessages(prompt, cue, words), { addGenerationPrompt: true });
  return tokenizer.encode(text, { specials: false });
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

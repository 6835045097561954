import { countPromptPlaces } from '../batch/prompt-places.js';
import type { AdapterWeights } from '../model/adapter.js';
import type { LanguageModel } from '../model/language-model.js';
import { RolloutEngine } from '../model/rollout.js';
import { stopIdsOf } from '../text/stop-ids.js';
import { beforeStop, stopAt } from '../text/stop-strings.js';
import type { Tokenizer } from '../text/tokenizer.js';

export interface DecodeOptions {
  /** Tokens of an answer at most. */
  readonly maxNewTokens: number;
  /** Subtracted from the logits of tokens already given; 0 by default. */
  readonly presencePenalty?: number;
  /** Tokens that the penalty spares; none by default. */
  readonly unpenalised?: ReadonlySet<number>;
  /** Answers decoded together; 64 by default. */
  readonly batchSize?: number;
  /** No answer depends on those decoded with it; false by default. */
  readonly deterministic?: boolean;
  /** Strings that end an answer and are left out; none by default. */
  readonly stop?: readonly string[];
  /** Told after every token which share of the tokens at most to come has come. */
  readonly onProgress?: (share: number) => void;
}

/**
 * An answer to each prompt, as text, decoded greedily, in batches over one token trie, so that a prefix that prompts share
 * is computed once. Throws InputError where a prompt and the new tokens pass the positions the model was opened for.
 */
export async function decodeAnswers(
  model: LanguageModel,
  adapter: AdapterWeights | null,
  tokenizer: Tokenizer,
  prompts: readonly Int32Array[],
  options: DecodeOptions,
): Promise<string[]> {
  const {
    maxNewTokens,
    presencePenalty = 0,
    unpenalised = new Set(),
    batchSize = 64,
    deterministic,
    stop = [],
    onProgress,
  } = options;
  const longest = prompts.reduce((most, ids) => Math.max(most, ids.length), 0);
  const stopIds = stopIdsOf(model.config, tokenizer);
  let given = 0;
  const engine = await RolloutEngine.create(model, {
    adapter,
    maxNewTokens,
    stopIds,
    sampling: { temperature: 0, topP: 1, topK: 0, presencePenalty, unpenalised },
    deterministic,
    batchSize: Math.min(batchSize, prompts.length),
    maxPromptTokens: longest,
    promptPlaces: countPromptPlaces(prompts),
    promptTokens: 2048,
  });
  try {
    const answers = await engine.run(
      prompts.map((ids) => ({ prompt: ids, seed: 0 })),
      {
        onToken: () => onProgress?.(++given / (prompts.length * maxNewTokens)),
        shouldStop: stopAt(tokenizer, stop),
      },
    );
    return answers.map(({ ids }) => {
      const sampled = ids.filter((id) => !stopIds.has(id));
      return beforeStop(tokenizer.decode(sampled, { skipSpecials: true }), stop);
    });
  } finally {
    engine.destroy();
  }
}

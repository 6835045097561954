import { packMicroBatches } from '../batch/pack.js';
import { buildTrie } from '../batch/trie.js';
import type { Example } from '../batch/types.js';
import type { AdapterWeights } from './adapter.js';
import type { LanguageModel } from './language-model.js';
import { LossPrograms } from './loss-program.js';

/** Log-probabilities of examples, and what they cost. */
export interface ScoredExamples {
  /** By example and token: log p(label) given the tokens before it; null at the first token and where unsupervised. */
  readonly logprobs: (number | null)[][];
  /** Distinct tokens computed. */
  readonly tokens: number;
  /** Tokens of all examples: what packed sequences would have computed. */
  readonly equivalentTokens: number;
  /** Examples times the longest: what padded rows would have computed. */
  readonly paddedTokens: number;
  readonly microBatches: number;
}

/** `scoreExamples` of a model by itself, in tries as large as the longest example at least. */
export async function scoreWhole(
  model: LanguageModel,
  adapter: AdapterWeights | null,
  examples: readonly Example[],
  microBatchTokens: number,
  onProgress?: (share: number) => void,
): Promise<ScoredExamples> {
  const longest = examples.reduce((most, { ids }) => Math.max(most, ids.length), microBatchTokens);
  const programs = new LossPrograms(model, { adapter, backward: false });
  try {
    return await scoreExamples(programs, examples, longest, onProgress);
  } finally {
    programs.destroy();
  }
}

/**
 * Scores examples in tries of at most `microBatchTokens` nodes: a prefix that examples share is computed once in each.
 * Throws InputError where one example alone is longer.
 */
export async function scoreExamples(
  programs: LossPrograms,
  examples: readonly Example[],
  microBatchTokens: number,
  onProgress?: (share: number) => void,
): Promise<ScoredExamples> {
  const logprobs: (number | null)[][] = examples.map(({ ids }) => Array.from(ids, () => null));
  const groups = packMicroBatches(examples, microBatchTokens);
  let tokens = 0;
  for (const [done, group] of groups.entries()) {
    const trie = buildTrie(group.map((index) => examples[index]));
    // Rows of a single token predict nothing.
    if (trie.edgeTarget.length === 0) continue;
    tokens += trie.tokens.length;
    const { batch, program } = await programs.prepare(trie);
    const edges = await program.run(batch, { gradScale: 0, dropout: 0, seed: 0 });
    group.forEach((index, i) => {
      trie.edgeOf[i].forEach((edge, token) => {
        if (edge >= 0) logprobs[index][token] = edges[edge];
      });
    });
    onProgress?.((done + 1) / groups.length);
  }
  const lengths = examples.map(({ ids }) => ids.length);
  return {
    logprobs,
    tokens,
    equivalentTokens: lengths.reduce((sum, length) => sum + length, 0),
    paddedTokens: lengths.reduce((most, length) => Math.max(most, length), 0) * examples.length,
    microBatches: groups.length,
  };
}

import { headOf, type ReferenceAdapter, type ReferenceModel, runDecoder, type Tape } from './decoder.js';
import { matmulNT } from './matmul.js';
import { chain } from './trie.js';

export interface GreedyResult {
  /** [steps] the tokens after `ids`; no token ends the text early. */
  readonly tokens: number[];
  /** [steps] logit of the token minus the next best: a small one excuses another implementation's other choice. */
  readonly margins: number[];
}

/** Greedy decoding with a KV cache. Ties go to the lowest token id. */
export function greedy(
  model: ReferenceModel,
  ids: readonly number[],
  steps: number,
  adapter: ReferenceAdapter | null = null,
): GreedyResult {
  const { hiddenSize, vocabSize } = model.config;
  const tokens: number[] = [];
  const margins: number[] = [];
  let past: Tape | null = null;
  for (let step = 0; step < steps; step++) {
    past = runDecoder(model, adapter, chain([...ids, ...tokens]), past);
    const logits = matmulNT(past.hidden.subarray(-hiddenSize), headOf(model), 1, vocabSize, hiddenSize);
    const best = logits.reduce((top, logit, token) => (logit > logits[top] ? token : top), 0);
    const rest = logits.filter((_, token) => token !== best).reduce((a, b) => Math.max(a, b));
    tokens.push(best);
    margins.push(logits[best] - rest);
  }
  return { tokens, margins };
}

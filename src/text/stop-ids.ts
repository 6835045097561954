import type { Tokenizer } from './tokenizer.js';

/**
 * Tokens that end an answer: by config.json and generation_config.json, by the tokenizer, and by the chat template, whose end
 * of a turn a base model's files need not name (Qwen2.5).
 */
export function stopIdsOf(
  config: { readonly eosTokenIds: readonly number[] },
  tokenizer: Pick<Tokenizer, 'eosId' | 'turnEndId'> | null,
): Set<number> {
  const own = [tokenizer?.eosId ?? null, tokenizer?.turnEndId ?? null];
  return new Set([...config.eosTokenIds, ...own.filter((id) => id !== null)]);
}

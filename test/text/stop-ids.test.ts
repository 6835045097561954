import { expect, it } from 'vitest';
import { stopIdsOf } from '../../src/text/stop-ids.js';
import { loadTokenizer, makeTokenizer } from './shared.js';

it('ends answers where the chat template ends a turn, though config.json and the tokenizer name another token', async () => {
  // As Qwen2.5's base models: the end of a text everywhere but in the chat template.
  const base = await loadTokenizer(await makeTokenizer({ config: { eos_token: '<|endoftext|>' } }));
  expect(stopIdsOf({ eosTokenIds: [8189] }, base)).toEqual(new Set([8189, 8191]));
  const plain = await loadTokenizer(
    await makeTokenizer({ config: { eos_token: '<|endoftext|>', chat_template: null } }),
  );
  expect(stopIdsOf({ eosTokenIds: [] }, plain)).toEqual(new Set([8189]));
  expect(stopIdsOf({ eosTokenIds: [2] }, null)).toEqual(new Set([2]));
});

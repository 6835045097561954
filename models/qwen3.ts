import type { Keys } from '../src/formats/keys.js';
import type { ModelConfig } from './config.js';
import { qwenWindows, readDecoder } from './decoder.js';

/** Qwen3: RMSNorm over each head of q and k; heads of 128 whatever the hidden size; biases by option on q, k, v and o. */
export function qwen3(keys: Keys): ModelConfig {
  const attentionBias = keys.boolean('attention_bias', false);
  return readDecoder(keys, {
    architecture: 'qwen3',
    maxPositions: 32_768,
    headDim: 128,
    qkvBias: attentionBias,
    outputBias: attentionBias,
    mlpBias: false,
    qkNorm: true,
    windows: (layers) => qwenWindows(keys, layers),
  });
}

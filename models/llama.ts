import type { Keys } from '../src/formats/keys.js';
import type { ModelConfig } from './config.js';
import { readDecoder, uniformWindows } from './decoder.js';

/** Llama 2, 3, 3.1, 3.2: full attention; biases by option, `attention_bias` on all four projections. */
export function llama(keys: Keys): ModelConfig {
  const attentionBias = keys.boolean('attention_bias', false);
  return readDecoder(keys, {
    architecture: 'llama',
    maxPositions: 2048,
    specialTokens: { bos: 1, eos: 2 },
    qkvBias: attentionBias,
    outputBias: attentionBias,
    mlpBias: keys.boolean('mlp_bias', false),
    qkNorm: false,
    windows: uniformWindows(null),
  });
}

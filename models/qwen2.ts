import type { Keys } from '../src/formats/keys.js';
import type { ModelConfig } from './config.js';
import { qwenWindows, readDecoder } from './decoder.js';

/** Qwen2 and Qwen2.5: biases on q, k and v always. */
export function qwen2(keys: Keys): ModelConfig {
  return readDecoder(keys, {
    architecture: 'qwen2',
    maxPositions: 32_768,
    qkvBias: true,
    outputBias: false,
    mlpBias: false,
    qkNorm: false,
    windows: (layers) => qwenWindows(keys, layers),
  });
}

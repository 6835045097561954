import type { Keys } from '../src/formats/keys.js';
import type { ModelConfig } from './config.js';
import { readDecoder, uniformWindows } from './decoder.js';

/** Mistral: one window in all layers, 4,096 where config.json is silent, none where it says null; no biases. */
export function mistral(keys: Keys): ModelConfig {
  const unlimited = keys.has('sliding_window') && keys.get('sliding_window') === undefined;
  return readDecoder(keys, {
    architecture: 'mistral',
    maxPositions: 131_072,
    specialTokens: { bos: 1, eos: 2 },
    qkvBias: false,
    outputBias: false,
    mlpBias: false,
    qkNorm: false,
    windows: uniformWindows(unlimited ? null : keys.size('sliding_window', 4096)),
  });
}

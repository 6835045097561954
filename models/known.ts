import type { ModelConfig } from './config.js';
import { readModelConfig } from './index.js';

/** Rotary embeddings of Llama 3.1 and 3.2. */
const llama3 = (factor: number) => ({
  rope_theta: 500_000,
  rope_scaling: {
    rope_type: 'llama3',
    factor,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  },
  max_position_embeddings: 131_072,
  rms_norm_eps: 1e-5,
});

/** What config.json of well-known models says, as far as sizes go: enough to plan for one without its files. */
const configs: Readonly<Record<string, Record<string, unknown>>> = {
  'llama-3.1-8b': {
    model_type: 'llama',
    hidden_size: 4096,
    intermediate_size: 14_336,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    vocab_size: 128_256,
    ...llama3(8),
  },
  'llama-3.2-3b': {
    model_type: 'llama',
    hidden_size: 3072,
    intermediate_size: 8192,
    num_hidden_layers: 28,
    num_attention_heads: 24,
    num_key_value_heads: 8,
    vocab_size: 128_256,
    tie_word_embeddings: true,
    ...llama3(32),
  },
  'llama-3.2-1b': {
    model_type: 'llama',
    hidden_size: 2048,
    intermediate_size: 8192,
    num_hidden_layers: 16,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    vocab_size: 128_256,
    tie_word_embeddings: true,
    ...llama3(32),
  },
  'qwen2.5-7b': {
    model_type: 'qwen2',
    hidden_size: 3584,
    intermediate_size: 18_944,
    num_hidden_layers: 28,
    num_attention_heads: 28,
    num_key_value_heads: 4,
    vocab_size: 152_064,
    max_position_embeddings: 32_768,
  },
  'qwen2.5-1.5b': {
    model_type: 'qwen2',
    hidden_size: 1536,
    intermediate_size: 8960,
    num_hidden_layers: 28,
    num_attention_heads: 12,
    num_key_value_heads: 2,
    vocab_size: 151_936,
    tie_word_embeddings: true,
    max_position_embeddings: 32_768,
  },
  'qwen2.5-0.5b': {
    model_type: 'qwen2',
    hidden_size: 896,
    intermediate_size: 4864,
    num_hidden_layers: 24,
    num_attention_heads: 14,
    num_key_value_heads: 2,
    vocab_size: 151_936,
    tie_word_embeddings: true,
    max_position_embeddings: 32_768,
  },
  'qwen3-8b': {
    model_type: 'qwen3',
    hidden_size: 4096,
    intermediate_size: 12_288,
    num_hidden_layers: 36,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    head_dim: 128,
    vocab_size: 151_936,
    max_position_embeddings: 40_960,
  },
  'mistral-7b-v0.3': {
    model_type: 'mistral',
    hidden_size: 4096,
    intermediate_size: 14_336,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    vocab_size: 32_768,
    sliding_window: null,
    max_position_embeddings: 32_768,
  },
};

/** Names that `knownModel` takes. */
export const KNOWN_MODELS: readonly string[] = Object.keys(configs);

/** A well-known model's configuration by its short name, e.g. "llama-3.1-8b"; null for any other. */
export function knownModel(name: string): ModelConfig | null {
  return Object.hasOwn(configs, name) ? readModelConfig({ path: name, value: configs[name] }) : null;
}

import type { Keys } from '../src/formats/keys.js';
import type { ModelConfig, RopeConfig } from './config.js';

/** What the architectures do not share. */
interface Differences {
  readonly architecture: string;
  readonly maxPositions: number;
  readonly headDim?: number;
  readonly specialTokens?: { readonly bos: number; readonly eos: number };
  readonly qkvBias: boolean;
  readonly outputBias: boolean;
  readonly mlpBias: boolean;
  readonly qkNorm: boolean;
  readonly windows: (layers: number) => (number | null)[];
}

/**
 * Reads the keys of config.json that all architectures share, with the defaults of Hugging Face transformers; sizes it
 * always writes are required. Throws InputError naming the key.
 */
export function readDecoder(keys: Keys, differences: Differences): ModelConfig {
  const { architecture, qkvBias, outputBias, mlpBias, qkNorm } = differences;
  if (keys.string('hidden_act', 'silu') !== 'silu') throw keys.error('hidden_act', '"silu"');
  const hiddenSize = readWidth(keys, 'hidden_size');
  const layers = keys.size('num_hidden_layers', undefined, 1024);
  const heads = keys.size('num_attention_heads');
  const kvHeads = keys.size('num_key_value_heads', heads);
  if (heads % kvHeads !== 0) throw keys.error('num_key_value_heads', `a divisor of the ${heads} attention heads`);
  const vocabSize = keys.size('vocab_size');
  const { bos, eos } = differences.specialTokens ?? {};
  return {
    architecture,
    hiddenSize,
    intermediateSize: readWidth(keys, 'intermediate_size'),
    layers,
    heads,
    kvHeads,
    headDim: readHeadDim(keys, differences.headDim ?? hiddenSize / heads),
    vocabSize,
    maxPositions: keys.size('max_position_embeddings', differences.maxPositions),
    rmsNormEps: keys.positive('rms_norm_eps', 1e-6),
    rope: readRope(keys),
    tiedEmbeddings: keys.boolean('tie_word_embeddings', false),
    qkvBias,
    outputBias,
    mlpBias,
    qkNorm,
    windows: differences.windows(layers),
    bosTokenId: (keys.has('bos_token_id') ? keys.tokenIds('bos_token_id', vocabSize)[0] : bos) ?? null,
    eosTokenIds: keys.has('eos_token_id') ? keys.tokenIds('eos_token_id', vocabSize) : eos === undefined ? [] : [eos],
  };
}

/** A size of matrix rows: the kernels read four numbers at a time. */
function readWidth(keys: Keys, key: string): number {
  const width = keys.size(key);
  if (width % 4 !== 0) throw keys.error(key, 'a multiple of 4');
  return width;
}

function readHeadDim(keys: Keys, fallback: number): number {
  const must = 'a multiple of 4 up to 256 (without it, hidden_size / num_attention_heads counts)';
  const headDim = Number.isInteger(fallback) ? keys.size('head_dim', fallback) : keys.get('head_dim');
  if (typeof headDim !== 'number' || !Number.isInteger(headDim) || headDim < 4 || headDim % 4 !== 0 || headDim > 256)
    throw keys.error('head_dim', must);
  return headDim;
}

/** `rope_theta` and `rope_scaling`, or `rope_parameters`, which holds both since transformers 5. */
function readRope(keys: Keys): RopeConfig {
  const scaling = keys.object('rope_parameters') ?? keys.object('rope_scaling');
  for (const holder of [keys, scaling])
    if (holder && holder.positive('partial_rotary_factor', 1) !== 1) throw holder.error('partial_rotary_factor', '1');
  const theta = (scaling?.get('rope_theta') === undefined ? keys : scaling).positive('rope_theta', 10_000);
  if (!scaling) return { theta, llama3: null };
  const typeKey = scaling.get('rope_type') === undefined ? 'type' : 'rope_type';
  const type = scaling.string(typeKey, 'default');
  if (type === 'default') return { theta, llama3: null };
  if (type !== 'llama3') throw scaling.error(typeKey, '"default" or "llama3"');
  const lowFreqFactor = scaling.positive('low_freq_factor');
  const highFreqFactor = scaling.positive('high_freq_factor');
  if (highFreqFactor <= lowFreqFactor) throw scaling.error('high_freq_factor', 'above low_freq_factor');
  const factor = scaling.positive('factor');
  const originalMaxPositions = scaling.size('original_max_position_embeddings');
  return { theta, llama3: { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } };
}

/**
 * Windows of Qwen2 and Qwen3: none unless `use_sliding_window`; then the layers that `layer_types` names, without it
 * those from `max_window_layers` on. A query sees the keys less than the window behind it.
 */
export function qwenWindows(keys: Keys, layers: number): (number | null)[] {
  const unlimited = keys.has('sliding_window') && keys.get('sliding_window') === undefined;
  const windowed = keys.boolean('use_sliding_window', false) && !unlimited;
  const window = windowed ? keys.size('sliding_window', 4096) : null;
  const types = keys.get('layer_types');
  if (types === undefined) {
    const first = keys.get('max_window_layers') === 0 ? 0 : keys.size('max_window_layers', 28);
    return Array.from({ length: layers }, (_, layer) => (layer >= first ? window : null));
  }
  const known = ['full_attention', 'sliding_attention'];
  if (!Array.isArray(types) || types.length !== layers || !types.every((type) => known.includes(type)))
    throw keys.error('layer_types', `a list of ${layers} times "full_attention" or "sliding_attention"`);
  if (window === null && types.includes('sliding_attention'))
    throw keys.error('use_sliding_window', 'true, with a sliding_window, where layer_types has "sliding_attention"');
  return types.map((type) => (type === 'sliding_attention' ? window : null));
}

/** The same window, or none, in every layer. */
export function uniformWindows(window: number | null): (layers: number) => (number | null)[] {
  return (layers) => new Array<number | null>(layers).fill(window);
}

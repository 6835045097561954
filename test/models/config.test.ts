import { expect, test } from 'vitest';
import { readModelConfig } from '../../models/index.js';
import { InputError } from '../../src/errors.js';

const SIZES = {
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  vocab_size: 100,
};

const read = (json: object, generation?: object) =>
  readModelConfig(
    { path: 'm/config.json', value: JSON.parse(JSON.stringify(json)) },
    generation && { path: 'm/generation_config.json', value: generation },
  );
const llama = (json: object = {}) => read({ model_type: 'llama', ...SIZES, ...json });
const qwen2 = (json: object = {}) => read({ model_type: 'qwen2', ...SIZES, ...json });
const qwen3 = (json: object = {}) => read({ model_type: 'qwen3', ...SIZES, ...json });
const mistral = (json: object = {}) => read({ model_type: 'mistral', ...SIZES, ...json });

test('llama: defaults of transformers', () => {
  expect(llama({ num_key_value_heads: null, rope_scaling: null })).toEqual({
    architecture: 'llama',
    hiddenSize: 64,
    intermediateSize: 128,
    layers: 4,
    heads: 4,
    kvHeads: 4,
    headDim: 16,
    vocabSize: 100,
    maxPositions: 2048,
    rmsNormEps: 1e-6,
    rope: { theta: 10_000, llama3: null },
    tiedEmbeddings: false,
    qkvBias: false,
    outputBias: false,
    mlpBias: false,
    qkNorm: false,
    windows: [null, null, null, null],
    bosTokenId: 1,
    eosTokenIds: [2],
  });
});

test('llama: biases by option; attention_bias goes to o_proj too', () => {
  expect(llama({ attention_bias: true })).toMatchObject({ qkvBias: true, outputBias: true, mlpBias: false });
  expect(llama({ mlp_bias: true })).toMatchObject({ qkvBias: false, outputBias: false, mlpBias: true });
});

test('qwen2: q, k, v biases always; no special tokens of its own', () => {
  expect(qwen2()).toMatchObject({
    qkvBias: true,
    outputBias: false,
    qkNorm: false,
    maxPositions: 32_768,
    bosTokenId: null,
    eosTokenIds: [],
  });
});

test('qwen3: norms of q and k, heads of 128 unless said', () => {
  expect(qwen3()).toMatchObject({ qkNorm: true, qkvBias: false, headDim: 128 });
  expect(qwen3({ head_dim: 16, attention_bias: true })).toMatchObject({ headDim: 16, qkvBias: true, outputBias: true });
});

test('head_dim may differ from hidden_size / heads, which need not be whole then', () => {
  expect(llama({ head_dim: 32 }).headDim).toBe(32);
  expect(llama({ hidden_size: 68, num_attention_heads: 3, head_dim: 32 }).headDim).toBe(32);
  expect(llama({ head_dim: null }).headDim).toBe(16);
});

test('sizes need be multiples of 4 only, as those of stories260k', () => {
  const sizes = { hidden_size: 64, intermediate_size: 172, num_attention_heads: 8, num_key_value_heads: 4 };
  expect(llama(sizes)).toMatchObject({ intermediateSize: 172, headDim: 8 });
  expect(llama({ head_dim: 4 }).headDim).toBe(4);
});

test('mistral: a window in all layers, 4096 when absent, none when null', () => {
  expect(mistral({ sliding_window: 8 }).windows).toEqual([8, 8, 8, 8]);
  expect(mistral().windows).toEqual([4096, 4096, 4096, 4096]);
  expect(mistral({ sliding_window: null }).windows).toEqual([null, null, null, null]);
});

test.each([qwen2, qwen3])('qwen: windows by use_sliding_window, max_window_layers and layer_types', (qwen) => {
  const window = { sliding_window: 8, max_window_layers: 3 };
  expect(qwen(window).windows).toEqual([null, null, null, null]);
  expect(qwen({ ...window, use_sliding_window: true }).windows).toEqual([null, null, null, 8]);
  expect(qwen({ ...window, use_sliding_window: true, max_window_layers: 0 }).windows).toEqual([8, 8, 8, 8]);
  expect(qwen({ use_sliding_window: true, sliding_window: null }).windows).toEqual([null, null, null, null]);
  const types = ['sliding_attention', 'full_attention', 'sliding_attention', 'full_attention'];
  const mixed = { ...window, use_sliding_window: true, layer_types: types };
  expect(qwen(mixed).windows).toEqual([8, null, 8, null]);
  expect(() => qwen({ ...mixed, use_sliding_window: false })).toThrow(/use_sliding_window is false; it must be true/);
  expect(() => qwen({ ...mixed, layer_types: types.slice(1) })).toThrow(/layer_types/);
});

const LLAMA3 = {
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 64,
};
const PARSED = { factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 64 };

test('rope: scaling llama3, old key names, and the layout of transformers 5', () => {
  expect(llama({ rope_theta: 5e5, rope_scaling: { rope_type: 'llama3', ...LLAMA3 } }).rope).toEqual({
    theta: 5e5,
    llama3: PARSED,
  });
  expect(llama({ rope_scaling: { type: 'llama3', ...LLAMA3 } }).rope.llama3).toEqual(PARSED);
  expect(llama({ rope_scaling: { type: 'default' } }).rope.llama3).toBeNull();
  const parameters = { rope_type: 'llama3', rope_theta: 1e6, ...LLAMA3 };
  expect(llama({ rope_parameters: parameters }).rope).toEqual({ theta: 1e6, llama3: PARSED });
  expect(qwen2({ rope_parameters: { rope_type: 'default', rope_theta: 1e6 } }).rope).toEqual({
    theta: 1e6,
    llama3: null,
  });
});

test('ends of text come from config.json and generation_config.json together', () => {
  expect(llama({ eos_token_id: [5, 6] }).eosTokenIds).toEqual([5, 6]);
  expect(llama({ eos_token_id: null, bos_token_id: null })).toMatchObject({ eosTokenIds: [], bosTokenId: null });
  expect(read({ model_type: 'llama', ...SIZES, eos_token_id: 5 }, { eos_token_id: [7, 5] }).eosTokenIds).toEqual([
    5, 7,
  ]);
  expect(read({ model_type: 'llama', ...SIZES }, {}).eosTokenIds).toEqual([2]);
});

test.each<[object, RegExp]>([
  [{ model_type: 'gpt2' }, /model_type is "gpt2"; it must be one of llama, mistral, qwen2, qwen3/],
  [{ model_type: 'constructor' }, /model_type/],
  [{ model_type: null }, /model_type is missing/],
  [{ hidden_size: null }, /hidden_size is missing/],
  [{ hidden_size: '64' }, /hidden_size is "64"/],
  [{ hidden_size: 64.5 }, /hidden_size/],
  [{ hidden_size: 2 ** 40 }, /hidden_size/],
  [{ hidden_size: 66, head_dim: 32 }, /hidden_size is 66; it must be a multiple of 4$/],
  [{ intermediate_size: 130 }, /intermediate_size is 130; it must be a multiple of 4$/],
  [{ intermediate_size: 0 }, /intermediate_size is 0/],
  [{ num_hidden_layers: 1e9 }, /num_hidden_layers is 1000000000; it must be an integer from 1 to 1024/],
  [{ num_key_value_heads: 3 }, /num_key_value_heads is 3; it must be a divisor of the 4/],
  [{ vocab_size: -1 }, /vocab_size/],
  [{ head_dim: 15 }, /head_dim is 15; it must be a multiple of 4 up to 256/],
  [{ head_dim: 18 }, /head_dim is 18/],
  [{ hidden_size: 72 }, /head_dim is missing; it must be a multiple of 4 up to 256 \(without it/],
  [{ head_dim: 512 }, /head_dim/],
  [{ num_attention_heads: 3 }, /head_dim is missing/],
  [{ hidden_act: 'gelu' }, /hidden_act is "gelu"; it must be "silu"/],
  [{ rms_norm_eps: 0 }, /rms_norm_eps/],
  [{ rope_theta: -1 }, /rope_theta/],
  [{ rope_scaling: 'llama3' }, /rope_scaling is not a JSON object/],
  [{ rope_scaling: { type: 'linear', factor: 2 } }, /rope_scaling: type is "linear"/],
  [{ rope_scaling: { rope_type: 'yarn', factor: 2 } }, /rope_scaling: rope_type is "yarn"/],
  [{ rope_scaling: { rope_type: 'llama3', ...LLAMA3, factor: null } }, /rope_scaling: factor is missing/],
  [{ rope_scaling: { rope_type: 'llama3', ...LLAMA3, high_freq_factor: 1 } }, /high_freq_factor is 1/],
  [{ partial_rotary_factor: 0.5 }, /partial_rotary_factor/],
  [{ tie_word_embeddings: 'yes' }, /tie_word_embeddings/],
  [{ eos_token_id: 100 }, /eos_token_id is 100; it must be token ids from 0 to 99/],
  [{ eos_token_id: ['a'] }, /eos_token_id/],
  [{ bos_token_id: -1 }, /bos_token_id/],
])('refuses %j', (change, message) => {
  expect(() => llama(change)).toThrow(InputError);
  expect(() => llama(change)).toThrow(message);
  expect(() => llama(change)).toThrow(/^m\/config\.json: /);
});

test('refuses a config.json that is no object, and bad ids in generation_config.json', () => {
  expect(() => readModelConfig({ path: 'c', value: [1] })).toThrow(/c is not a JSON object/);
  expect(() => read({ model_type: 'llama', ...SIZES }, { eos_token_id: 1.5 })).toThrow(/generation_config.json: eos/);
});

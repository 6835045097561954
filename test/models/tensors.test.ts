import { expect, test } from 'vitest';
import { readModelConfig } from '../../models/index.js';
import { layerTensorName, linearShape, linearShapes, modulePath, tensorSpecs } from '../../models/tensors.js';

const config = (json: object) =>
  readModelConfig({
    path: 'config.json',
    value: {
      hidden_size: 48,
      intermediate_size: 96,
      num_hidden_layers: 1,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      head_dim: 16,
      vocab_size: 100,
      ...json,
    },
  });

test('names', () => {
  expect(modulePath(3, 'gate_proj')).toBe('model.layers.3.mlp.gate_proj');
  expect(layerTensorName(0, 'q_proj')).toBe('model.layers.0.self_attn.q_proj.weight');
  expect(layerTensorName(0, 'q_proj', 'bias')).toBe('model.layers.0.self_attn.q_proj.bias');
  expect(layerTensorName(1, 'input_layernorm')).toBe('model.layers.1.input_layernorm.weight');
  expect(layerTensorName(1, 'k_norm')).toBe('model.layers.1.self_attn.k_norm.weight');
});

test('a tied qwen3 checkpoint holds exactly these tensors', () => {
  const specs = tensorSpecs(config({ model_type: 'qwen3', tie_word_embeddings: true }));
  expect(Object.fromEntries(specs.map(({ name, shape }) => [name, shape]))).toEqual({
    'model.embed_tokens.weight': [100, 48],
    'model.layers.0.input_layernorm.weight': [48],
    'model.layers.0.post_attention_layernorm.weight': [48],
    'model.layers.0.self_attn.q_norm.weight': [16],
    'model.layers.0.self_attn.k_norm.weight': [16],
    'model.layers.0.self_attn.q_proj.weight': [64, 48],
    'model.layers.0.self_attn.k_proj.weight': [32, 48],
    'model.layers.0.self_attn.v_proj.weight': [32, 48],
    'model.layers.0.self_attn.o_proj.weight': [48, 64],
    'model.layers.0.mlp.gate_proj.weight': [96, 48],
    'model.layers.0.mlp.up_proj.weight': [96, 48],
    'model.layers.0.mlp.down_proj.weight': [48, 96],
    'model.norm.weight': [48],
  });
});

test('biases and the head of an untied model', () => {
  const names = (json: object) =>
    tensorSpecs(config(json))
      .filter(({ role }) => role === 'bias' || role === 'head')
      .map(({ name, shape }) => [name.replace('model.layers.0.', ''), ...shape]);
  const qkv = [
    ['self_attn.q_proj.bias', 64],
    ['self_attn.k_proj.bias', 32],
    ['self_attn.v_proj.bias', 32],
  ];
  const head = ['lm_head.weight', 100, 48];
  expect(names({ model_type: 'qwen2' })).toEqual([...qkv, head]);
  expect(names({ model_type: 'llama', attention_bias: true, mlp_bias: true })).toEqual([
    ...qkv,
    ['self_attn.o_proj.bias', 48],
    ['mlp.gate_proj.bias', 96],
    ['mlp.up_proj.bias', 96],
    ['mlp.down_proj.bias', 48],
    head,
  ]);
});

test('linear layers by path', () => {
  const llama = config({ model_type: 'llama', num_hidden_layers: 2 });
  const shapes = linearShapes(llama);
  expect(shapes.size).toBe(14);
  expect(shapes.get('model.layers.1.mlp.down_proj')).toEqual(linearShape(llama, 'down_proj'));
  expect(shapes.get('model.layers.1.mlp.down_proj')).toEqual({ out: 48, in: 96 });
});

import type { ModelConfig } from '../models/config.js';
import { readModelConfig } from '../models/index.js';
import { tensorSpecs } from '../models/tensors.js';
import type { Checkpoint } from '../src/formats/checkpoint.js';
import type { CheckpointTensor } from '../src/formats/stored-tensors.js';
import { ones, RandomBlocks, weightFill } from './random-blocks.js';

/** Size of a Llama; head_dim is hidden / heads. */
export interface LlamaShape {
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly ffn: number;
  readonly vocab: number;
}

/** config.json of a Llama of this shape, its weights in BF16. */
export function llamaConfigJson(shape: LlamaShape) {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_act: 'silu',
    hidden_size: shape.hidden,
    intermediate_size: shape.ffn,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.kvHeads,
    vocab_size: shape.vocab,
    max_position_embeddings: 8192,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    tie_word_embeddings: false,
    bos_token_id: null as number | null,
    eos_token_id: null as number | number[] | null,
    torch_dtype: 'bfloat16',
  };
}

const llama8b = { hidden: 4096, layers: 32, heads: 32, kvHeads: 8, ffn: 14336, vocab: 128256 };
const qwen7b = { hidden: 3584, layers: 28, heads: 28, kvHeads: 4, ffn: 18944, vocab: 152064 };
const smallShape = { hidden: 512, layers: 8, heads: 8, kvHeads: 4, ffn: 1408, vocab: 4096 };

/**
 * config.json of models that are written with random weights, as the Instruct ones of Meta and Alibaba have it; `small` is
 * what speed is judged by on the software driver (25.7 M in its matmuls).
 */
export const modelConfigs: Readonly<Record<string, Record<string, unknown>>> = {
  small: llamaConfigJson(smallShape),
  'llama-3.1-8b': {
    ...llamaConfigJson(llama8b),
    max_position_embeddings: 131072,
    rope_theta: 500000,
    rope_scaling: {
      factor: 8,
      high_freq_factor: 4,
      low_freq_factor: 1,
      original_max_position_embeddings: 8192,
      rope_type: 'llama3',
    },
    attention_bias: false,
    mlp_bias: false,
    bos_token_id: 128000,
    eos_token_id: [128001, 128008, 128009],
  },
  'qwen2.5-7b': {
    ...llamaConfigJson(qwen7b),
    architectures: ['Qwen2ForCausalLM'],
    model_type: 'qwen2',
    max_position_embeddings: 32768,
    rms_norm_eps: 1e-6,
    rope_theta: 1000000,
    use_sliding_window: false,
    sliding_window: 131072,
    max_window_layers: 28,
    bos_token_id: 151643,
    eos_token_id: 151645,
  },
};

export function llamaConfig(shape: LlamaShape): ModelConfig {
  return readModelConfig({ path: 'config.json', value: llamaConfigJson(shape) });
}

/** A BF16 checkpoint of random weights that lies nowhere: its bytes are made as they are read. */
export function randomCheckpoint(config: ModelConfig): Checkpoint<ModelConfig> {
  const blocks = new RandomBlocks(7);
  const tensors = new Map<string, CheckpointTensor>();
  for (const { name, shape, role } of tensorSpecs(config)) {
    const size = 2 * shape.reduce((a, b) => a * b, 1);
    const fill = role === 'norm' ? ones('BF16') : weightFill('BF16', shape.at(-1)!);
    const read = async (position: number, into: Uint8Array) => blocks.fill(into, position, name, fill);
    const source = { name, size, read, close: async () => {} };
    tensors.set(name, { name, dtype: 'BF16', shape, begin: 0, end: size, source });
  }
  return { dir: 'random', config, tensors, packed: new Map(), close: async () => {} };
}

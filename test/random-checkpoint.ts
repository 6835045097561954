import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { modelLayout } from '../models/index.js';
import { writeSafetensors } from '../src/formats/safetensors-file.js';

export interface CheckpointShape {
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly intermediate: number;
  readonly vocab: number;
  readonly tied?: boolean;
}

/** A Llama checkpoint of this shape without a tokenizer: F32, weights uniform with deviation about 1/√in, norms one. */
export async function writeRandomCheckpoint(directory: string, shape: CheckpointShape, seed = 1): Promise<void> {
  const value = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_act: 'silu',
    hidden_size: shape.hidden,
    intermediate_size: shape.intermediate,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.kvHeads,
    vocab_size: shape.vocab,
    max_position_embeddings: 512,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    tie_word_embeddings: shape.tied ?? true,
    bos_token_id: 1,
    eos_token_id: 2,
  };
  await mkdir(directory, { recursive: true });
  const path = join(directory, 'config.json');
  await writeFile(path, JSON.stringify(value));
  let state = seed >>> 0;
  const tensors = modelLayout({ path, value }, null).tensors.map(({ name, shape: dimensions }) => {
    const data = new Float32Array(dimensions.reduce((a, b) => a * b, 1)).fill(1);
    if (dimensions.length > 1) {
      const bound = Math.sqrt(3 / dimensions[1]);
      for (let i = 0; i < data.length; i++) {
        // Numerical Recipes' linear congruence: good enough, and fast for millions of weights.
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        data[i] = (state / 2 ** 31 - 1) * bound;
      }
    }
    return { name, dtype: 'F32' as const, shape: dimensions, data: new Uint8Array(data.buffer) };
  });
  await writeSafetensors(join(directory, 'model.safetensors'), tensors);
}

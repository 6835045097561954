import { llamaConfigJson } from '../bench/random-checkpoint.js';
import { writeRandomCheckpoint as write } from '../bench/write-random-checkpoint.js';

export interface CheckpointShape {
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly intermediate: number;
  readonly vocab: number;
  readonly tied?: boolean;
}

/** A Llama checkpoint of this shape without a tokenizer: F32, weights uniform with deviation 1/√in, norms one. */
export async function writeRandomCheckpoint(directory: string, shape: CheckpointShape, seed = 1): Promise<void> {
  const config = {
    ...llamaConfigJson({ ...shape, ffn: shape.intermediate }),
    max_position_embeddings: 512,
    rms_norm_eps: 1e-6,
    tie_word_embeddings: shape.tied ?? true,
    bos_token_id: 1,
    eos_token_id: 2,
  };
  await write(directory, config, 'f32', { seed });
}

import type { CheckpointLayout } from '../src/formats/checkpoint.js';
import type { JsonFile } from '../src/formats/files.js';
import { Keys } from '../src/formats/keys.js';
import type { ModelConfig } from './config.js';
import { llama } from './llama.js';
import { mistral } from './mistral.js';
import { qwen2 } from './qwen2.js';
import { qwen3 } from './qwen3.js';
import { EMBEDDING, HEAD, tensorSpecs } from './tensors.js';

/** By `model_type` of config.json; a new architecture is one file and one line here. */
const ARCHITECTURES = new Map<string, (keys: Keys) => ModelConfig>([
  ['llama', llama],
  ['mistral', mistral],
  ['qwen2', qwen2],
  ['qwen3', qwen3],
]);

/**
 * A ModelConfig from the parsed config.json and, where there is one, generation_config.json, whose `eos_token_id` adds
 * to the ids that end a text. Throws InputError naming file and key.
 */
export function readModelConfig(config: JsonFile, generation: JsonFile | null = null): ModelConfig {
  const keys = new Keys(config.path, config.value);
  const read = ARCHITECTURES.get(keys.string('model_type'));
  if (!read) throw keys.error('model_type', `one of ${[...ARCHITECTURES.keys()].join(', ')}`);
  const model = read(keys);
  if (!generation) return model;
  const added = new Keys(generation.path, generation.value).tokenIds('eos_token_id', model.vocabSize);
  return { ...model, eosTokenIds: [...new Set([...model.eosTokenIds, ...added])] };
}

/** What openCheckpoint asks of a model: `openCheckpoint(dir, modelLayout)`. */
export function modelLayout(config: JsonFile, generation: JsonFile | null): CheckpointLayout<ModelConfig> {
  const model = readModelConfig(config, generation);
  return {
    config: model,
    tensors: tensorSpecs(model),
    embedding: EMBEDDING,
    head: HEAD,
    tied: model.tiedEmbeddings,
  };
}

import type { ModelConfig } from '../models/config.js';
import { EMBEDDING, HEAD, tensorSpecs } from '../models/tensors.js';
import type { ByteSource } from '../src/formats/bytes.js';
import type { Checkpoint, CheckpointTensor } from '../src/formats/checkpoint.js';

/** Size of a decoder by Llama's names, for benches. */
export interface LlamaShape {
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly ffn: number;
  readonly vocab: number;
}

export function llamaConfig(shape: LlamaShape): ModelConfig {
  return {
    architecture: 'llama',
    hiddenSize: shape.hidden,
    intermediateSize: shape.ffn,
    layers: shape.layers,
    heads: shape.heads,
    kvHeads: shape.kvHeads,
    headDim: shape.hidden / shape.heads,
    vocabSize: shape.vocab,
    maxPositions: 8192,
    rmsNormEps: 1e-5,
    rope: { theta: 10000, llama3: null },
    tiedEmbeddings: false,
    qkvBias: false,
    outputBias: false,
    mlpBias: false,
    qkNorm: false,
    windows: new Array(shape.layers).fill(null),
    bosTokenId: null,
    eosTokenIds: [],
  };
}

/** A BF16 checkpoint of random weights that lies nowhere: its bytes are made as they are read. */
export function randomCheckpoint(config: ModelConfig): Checkpoint<ModelConfig> {
  const tensors = new Map<string, CheckpointTensor>();
  for (const { name, shape, role } of tensorSpecs(config)) {
    const elements = shape.reduce((a, b) => a * b, 1);
    tensors.set(name, {
      name,
      dtype: 'BF16',
      shape,
      begin: 0,
      end: 2 * elements,
      source: randomSource(name, 2 * elements, role === 'norm'),
    });
  }
  const embedding = tensors.get(EMBEDDING)!;
  const head = tensors.get(HEAD) ?? embedding;
  return { dir: 'random', config, tensors, embedding, head, hasTokenizer: false, close: async () => {} };
}

function randomSource(name: string, size: number, ones: boolean): ByteSource {
  let state = [...name].reduce((hash, c) => (Math.imul(hash, 31) + c.charCodeAt(0)) >>> 0, 7);
  return {
    name,
    size,
    async read(_position, into) {
      const words = new Uint16Array(into.buffer, into.byteOffset, into.byteLength / 2);
      for (let i = 0; i < words.length; i++) {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        // 1.0 for norms, else ±(1/64 … 1/32).
        words[i] = ones ? 0x3f80 : ((state >>> 16) & 0x807f) | 0x3c80;
      }
    },
    async close() {},
  };
}

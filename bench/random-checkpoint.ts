import type { ModelConfig } from '../models/config.js';
import { tensorSpecs } from '../models/tensors.js';
import type { ByteSource } from '../src/formats/bytes.js';
import type { Checkpoint, CheckpointTensor } from '../src/formats/checkpoint.js';

/** Size of a decoder by Llama's names, for benches; head_dim is hidden / heads. */
export interface LlamaShape {
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly ffn: number;
  readonly vocab: number;
}

/** Shapes that benches know by name; `small` is what speed is judged by on the software driver (25.7 M in its matmuls). */
export const modelShapes: Readonly<Record<string, LlamaShape>> = {
  small: { hidden: 512, layers: 8, heads: 8, kvHeads: 4, ffn: 1408, vocab: 4096 },
  'llama-3.1-8b': { hidden: 4096, layers: 32, heads: 32, kvHeads: 8, ffn: 14336, vocab: 128256 },
  'qwen2.5-7b': { hidden: 3584, layers: 28, heads: 28, kvHeads: 4, ffn: 18944, vocab: 152064 },
};

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
  return { dir: 'random', config, tensors, packed: new Map(), hasTokenizer: false, close: async () => {} };
}

/** Random numbers ±(1/64 … 1/32), repeated for all: made one by one, 8 billion would take minutes. */
const block = (() => {
  let state = 7;
  return Uint16Array.from({ length: (1 << 20) + 4099 }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return ((state >>> 16) & 0x807f) | 0x3c80;
  });
})();

function randomSource(name: string, size: number, ones: boolean): ByteSource {
  let turn = [...name].reduce((hash, c) => (Math.imul(hash, 31) + c.charCodeAt(0)) >>> 0, 7);
  return {
    name,
    size,
    async read(_position, into) {
      const words = new Uint16Array(into.buffer, into.byteOffset, into.byteLength / 2);
      if (ones) {
        words.fill(0x3f80);
        return;
      }
      // From another place each time, so that rows differ.
      for (let at = 0; at < words.length; at += 1 << 20, turn++)
        words.set(block.subarray(turn % 4099).subarray(0, Math.min(1 << 20, words.length - at)), at);
    },
    async close() {},
  };
}

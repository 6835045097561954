import type { ModelConfig } from '../../models/config.js';
import {
  EMBEDDING,
  FINAL_NORM,
  HEAD,
  hasBias,
  LINEAR_MODULES,
  type LinearModule,
  layerTensorName,
  linearShape,
} from '../../models/tensors.js';
import { InputError } from '../errors.js';
import { bytesOf, standIn, Tensor } from '../gpu/tensor.js';
import { layOutPacked, type Matrix, type PackedLayout } from '../ops/dequantize.js';
import type { VocabPart, VocabParts } from '../ops/embedding.js';

export interface LinearWeights {
  /** [out, in], operand type or packed */
  readonly weight: Matrix;
  /** [out], f32 */
  readonly bias: Tensor | null;
}

export interface LayerWeights {
  readonly inputNorm: Tensor;
  readonly postAttentionNorm: Tensor;
  readonly qNorm: Tensor | null;
  readonly kNorm: Tensor | null;
  readonly linear: Readonly<Record<LinearModule, LinearWeights>>;
}

/** A frozen base model on the device. Norms and biases are f32, matrices of operand type or packed. */
export interface Weights {
  readonly embedding: VocabParts;
  /** The embedding itself when the model is tied. */
  readonly head: VocabParts;
  readonly finalNorm: Tensor;
  readonly layers: readonly LayerWeights[];
}

/** Which matrices stay packed and how, by the name of their weight; the others are of operand type. */
export type PackedLayouts = ReadonlyMap<string, PackedLayout>;

type MakeTensor = (label: string, dtype: 'f16' | 'f32' | 'u32', shape: readonly number[]) => Tensor;

/** Rows of vocabulary matrices are padded to this with zeros, so that matmuls read whole vec4s of the vocabulary. */
const vocabAlign = 8;

/**
 * A part of a packed vocabulary is unpacked into scratch of its own size wherever many rows meet it: about what the
 * MLP of an 8B model needs anyway.
 */
const unpackedPartBytes = 128 << 20;

/**
 * The tensors of a model, made by `make`. Throws InputError for a matrix larger than one binding of the device, as it is
 * packed; vocabularies are split.
 */
export function layOutWeights(
  config: ModelConfig,
  operand: 'f16' | 'f32',
  maxBinding: number,
  packed: PackedLayouts,
  make: MakeTensor,
): Weights {
  const matrix = (label: string, name: string, n: number, k: number): Matrix => {
    const layout = packed.get(name);
    const bytes = layout ? largestPacked({ ...layout, n }, label) : n * k * bytesOf[operand];
    if (bytes > maxBinding)
      throw new InputError(
        `${name} needs ${bytes} bytes ${layout ? 'packed' : `in ${operand}`}, more than the ${maxBinding} this device binds at once.`,
      );
    return layout ? layOutPacked({ ...layout, n }, label, make) : make(label, operand, [n, k]);
  };
  const vocabulary = (name: string): VocabParts => {
    const { vocabSize: vocab, hiddenSize: dim } = config;
    const most = packed.has(name) ? Math.min(maxBinding, unpackedPartBytes) : maxBinding;
    const parts = splitVocabulary(vocab, dim * bytesOf[operand], most, packed.get(name)?.group ?? 1);
    return {
      dim,
      vocab,
      parts: parts.map((part) => ({ ...part, weight: matrix(`${name}[${part.first}]`, name, part.rows, dim) })),
    };
  };
  const vector = (name: string, size: number) => make(name, 'f32', [size]);
  const embedding = vocabulary(EMBEDDING);
  const layers = Array.from({ length: config.layers }, (_, i): LayerWeights => {
    const linear = {} as Record<LinearModule, LinearWeights>;
    for (const module of LINEAR_MODULES) {
      const shape = linearShape(config, module);
      const name = layerTensorName(i, module);
      linear[module] = {
        weight: matrix(name, name, shape.out, shape.in),
        bias: hasBias(config, module) ? vector(layerTensorName(i, module, 'bias'), shape.out) : null,
      };
    }
    return {
      inputNorm: vector(layerTensorName(i, 'input_layernorm'), config.hiddenSize),
      postAttentionNorm: vector(layerTensorName(i, 'post_attention_layernorm'), config.hiddenSize),
      qNorm: config.qkNorm ? vector(layerTensorName(i, 'q_norm'), config.headDim) : null,
      kNorm: config.qkNorm ? vector(layerTensorName(i, 'k_norm'), config.headDim) : null,
      linear,
    };
  });
  return {
    embedding,
    head: config.tiedEmbeddings ? embedding : vocabulary(HEAD),
    finalNorm: vector(FINAL_NORM, config.hiddenSize),
    layers,
  };
}

/** Bytes of the largest tensor of a packed matrix. */
function largestPacked(layout: PackedLayout, label: string): number {
  const { codes, scales } = layOutPacked(layout, label, standIn);
  return Math.max(codes.bytes, scales.bytes);
}

/** Splits a vocabulary into parts of at most `most` bytes that begin where a group of a packed matrix does. */
function splitVocabulary(vocab: number, rowBytes: number, most: number, group: number): Omit<VocabPart, 'weight'>[] {
  // Rows are multiples of 8 numbers, so this many hold whole groups.
  const step = Math.max(vocabAlign, group / 8);
  const perPart = Math.max(1, Math.floor(most / rowBytes / step)) * step;
  const parts = [];
  for (let first = 0; first < vocab; first += perPart) {
    const count = Math.min(perPart, vocab - first);
    parts.push({ first, count, rows: Math.ceil(count / vocabAlign) * vocabAlign });
  }
  return parts;
}

/** Weights without memory, for planning. */
export function weightsStandIn(
  config: ModelConfig,
  operand: 'f16' | 'f32',
  maxBinding: number,
  packed: PackedLayouts,
): Weights {
  return layOutWeights(config, operand, maxBinding, packed, standIn);
}

/** Every tensor of a model, once. */
export function weightTensors({ embedding, head, finalNorm, layers }: Weights): Tensor[] {
  const matrices = [...embedding.parts, ...(head === embedding ? [] : head.parts)].map(({ weight }) => weight);
  const vectors: (Tensor | null)[] = [finalNorm];
  for (const { inputNorm, postAttentionNorm, qNorm, kNorm, linear } of layers) {
    vectors.push(inputNorm, postAttentionNorm, qNorm, kNorm);
    for (const { weight, bias } of Object.values(linear)) {
      matrices.push(weight);
      vectors.push(bias);
    }
  }
  const ofMatrices = matrices.flatMap((w) => (w instanceof Tensor ? w : [w.codes, w.scales, w.columnGroup]));
  return [...ofMatrices, ...vectors].filter((tensor) => tensor !== null);
}

/** Bytes of device memory that weights take. */
export function weightBytes(weights: Weights): number {
  return weightTensors(weights).reduce((sum, { bytes }) => sum + Math.max(16, bytes), 0);
}

import type { ModelConfig } from '../../models/config.js';
import {
  FINAL_NORM,
  hasBias,
  LINEAR_MODULES,
  type LinearModule,
  layerTensorName,
  linearShape,
} from '../../models/tensors.js';
import { InputError } from '../errors.js';
import type { Checkpoint, CheckpointTensor } from '../formats/checkpoint.js';
import { BatchUniform } from '../gpu/batch.js';
import type { Device } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernels.js';
import { BufferPool, type Program, Recorder } from '../gpu/program.js';
import { bytesOf, createTensor, Tensor } from '../gpu/tensor.js';
import { convert } from '../ops/convert.js';
import type { VocabParts } from '../ops/embedding.js';

export interface LinearWeights {
  /** [out, in], operand type */
  readonly weight: Tensor;
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

/** A frozen base model on the device. Norms and biases are f32, everything else is of operand type. */
export interface Weights {
  readonly embedding: VocabParts;
  /** The embedding itself when the model is tied. */
  readonly head: VocabParts;
  readonly finalNorm: Tensor;
  readonly layers: readonly LayerWeights[];
}

/** Rows of vocabulary matrices are padded to this with zeros, so that matmuls read whole vec4s of the vocabulary. */
const vocabAlign = 8;

/** Splits a vocabulary matrix into parts that one binding holds; `rows` is `count` padded. */
function splitVocabulary(
  vocab: number,
  rowBytes: number,
  maxBinding: number,
): { first: number; count: number; rows: number }[] {
  const perPart = Math.floor(maxBinding / rowBytes / vocabAlign) * vocabAlign;
  const parts = [];
  for (let first = 0; first < vocab; first += perPart) {
    const count = Math.min(perPart, vocab - first);
    parts.push({ first, count, rows: Math.ceil(count / vocabAlign) * vocabAlign });
  }
  return parts;
}

/** Weights of this shape without memory, for planning. */
export function weightsStandIn(config: ModelConfig, operand: 'f16' | 'f32', maxBinding: number): Weights {
  const make = (dtype: 'f16' | 'f32', shape: readonly number[]) => new Tensor('weight', dtype, shape, null, 0, true);
  const { vocabSize: vocab, hiddenSize: dim } = config;
  const parts = splitVocabulary(vocab, dim * bytesOf[operand], maxBinding).map(({ first, count, rows }) => ({
    first,
    count,
    tensor: make(operand, [rows, dim]),
  }));
  const head: VocabParts = { dim, vocab, parts };
  const linear = {} as Record<LinearModule, LinearWeights>;
  for (const module of LINEAR_MODULES) {
    const shape = linearShape(config, module);
    linear[module] = {
      weight: make(operand, [shape.out, shape.in]),
      bias: hasBias(config, module) ? make('f32', [shape.out]) : null,
    };
  }
  const norm = make('f32', [config.hiddenSize]);
  const headNorm = config.qkNorm ? make('f32', [config.headDim]) : null;
  const layer: LayerWeights = { inputNorm: norm, postAttentionNorm: norm, qNorm: headNorm, kNorm: headNorm, linear };
  return { embedding: head, head, finalNorm: norm, layers: new Array(config.layers).fill(layer) };
}

/** Sizes of the buffers that `loadWeights` makes, bytes. */
export function weightBytes(
  config: ModelConfig,
  operand: 'f16' | 'f32',
  tensors: readonly { role: string; shape: readonly number[] }[],
): number {
  return tensors.reduce((sum, { role, shape }) => {
    if (role === 'norm' || role === 'bias') return sum + shape[0] * 4;
    const rows = role === 'linear' ? shape[0] : Math.ceil(config.vocabSize / vocabAlign) * vocabAlign;
    return sum + rows * shape[1] * bytesOf[operand];
  }, 0);
}

/**
 * Streams a checkpoint onto the device piece by piece: files are read by position into one small buffer, and elements
 * are converted on the device. Throws InputError for a matrix larger than one binding of the device.
 */
export async function loadWeights(
  device: Device,
  kernels: KernelCache,
  checkpoint: Checkpoint<ModelConfig>,
  operand: 'f16' | 'f32',
): Promise<Weights> {
  const { config } = checkpoint;
  const loader = new Loader(device, kernels);
  const matrix = async (name: string): Promise<Tensor> => {
    const source = tensorOf(checkpoint, name);
    const tensor = new Tensor(name, operand, source.shape);
    if (tensor.bytes > device.maxBinding) {
      throw new InputError(
        `${source.source.name}: ${name} needs ${tensor.bytes} bytes in ${operand}, more than the ${device.maxBinding} this device binds at once.`,
      );
    }
    const made = createTensor(device, name, operand, source.shape);
    await loader.load(source, 0, source.shape[0] * (source.shape[1] ?? 1), made);
    return made;
  };
  const vector = async (name: string): Promise<Tensor> => {
    const source = tensorOf(checkpoint, name);
    const made = createTensor(device, name, 'f32', source.shape);
    await loader.load(source, 0, source.shape[0], made);
    return made;
  };
  const vocabulary = async (source: CheckpointTensor): Promise<VocabParts> => {
    const [vocab, dim] = source.shape;
    const parts = [];
    for (const { first, count, rows } of splitVocabulary(vocab, dim * bytesOf[operand], device.maxBinding)) {
      const tensor = createTensor(device, `${source.name}[${first}]`, operand, [rows, dim]);
      loader.clear(tensor);
      await loader.load(source, first * dim, count * dim, tensor);
      parts.push({ first, count, tensor });
    }
    return { dim, vocab, parts };
  };
  const embedding = await vocabulary(checkpoint.embedding);
  const head = checkpoint.head === checkpoint.embedding ? embedding : await vocabulary(checkpoint.head);
  const layers: LayerWeights[] = [];
  for (let i = 0; i < config.layers; i++) {
    const linear = {} as Record<LinearModule, LinearWeights>;
    for (const module of LINEAR_MODULES) {
      linear[module] = {
        weight: await matrix(layerTensorName(i, module)),
        bias: hasBias(config, module) ? await vector(layerTensorName(i, module, 'bias')) : null,
      };
    }
    layers.push({
      inputNorm: await vector(layerTensorName(i, 'input_layernorm')),
      postAttentionNorm: await vector(layerTensorName(i, 'post_attention_layernorm')),
      qNorm: config.qkNorm ? await vector(layerTensorName(i, 'q_norm')) : null,
      kNorm: config.qkNorm ? await vector(layerTensorName(i, 'k_norm')) : null,
      linear,
    });
  }
  const finalNorm = await vector(FINAL_NORM);
  await loader.finish();
  return { embedding, head, finalNorm, layers };
}

function tensorOf(checkpoint: Checkpoint<ModelConfig>, name: string): CheckpointTensor {
  const tensor = checkpoint.tensors.get(name);
  if (!tensor) throw new InputError(`${checkpoint.dir}: tensor ${name} is missing.`);
  return tensor;
}

const pieceBytes = 4 << 20;
const types = { BF16: 'bf16', F16: 'f16', F32: 'f32' } as const;

/** Reads pieces of 4 MiB and lets the device convert them, waiting now and then so that uploads never pile up. */
class Loader {
  readonly #device: Device;
  readonly #kernels: KernelCache;
  readonly #raw: Tensor;
  readonly #pool: BufferPool;
  readonly #batch: BatchUniform;
  readonly #bytes = new Uint8Array(pieceBytes);
  #pending = 0;
  #programs: Program[] = [];

  constructor(device: Device, kernels: KernelCache) {
    this.#device = device;
    this.#kernels = kernels;
    this.#raw = createTensor(device, 'staging', 'u32', [pieceBytes / 4]);
    this.#pool = new BufferPool(device);
    this.#batch = new BatchUniform(device);
  }

  clear(tensor: Tensor): void {
    const encoder = this.#device.gpu.createCommandEncoder();
    encoder.clearBuffer(tensor.buffer!);
    this.#device.gpu.queue.submit([encoder.finish()]);
  }

  /** Elements [first, first + count) of a checkpoint tensor to the start of `into`. */
  async load(source: CheckpointTensor, first: number, count: number, into: Tensor): Promise<void> {
    const from = types[source.dtype as keyof typeof types];
    const size = bytesOf[from === 'bf16' ? 'f16' : from];
    const perPiece = pieceBytes / size;
    for (let done = 0; done < count; done += perPiece) {
      const elements = Math.min(perPiece, count - done);
      const bytes = this.#bytes.subarray(0, elements * size);
      await source.source.read(source.begin + (first + done) * size, bytes);
      const whole = Math.ceil(bytes.byteLength / 4) * 4;
      this.#device.gpu.queue.writeBuffer(this.#raw.buffer!, 0, this.#bytes, 0, whole);
      const recorder = new Recorder(this.#kernels);
      convert(
        { recorder, operand: 'f32', cpu: false },
        { raw: this.#raw, y: into, from, count: elements, first: done },
      );
      const program = await recorder.realise(this.#device, this.#pool, this.#batch.buffer);
      program.run();
      this.#programs.push(program);
      this.#pending += bytes.byteLength;
      if (this.#pending >= 16 << 20) await this.#drain();
    }
  }

  async #drain(): Promise<void> {
    await this.#device.finish();
    for (const program of this.#programs) program.destroy();
    this.#programs = [];
    this.#pending = 0;
  }

  async finish(): Promise<void> {
    await this.#drain();
    this.#device.destroyBuffer(this.#raw.buffer!);
    this.#device.destroyBuffer(this.#batch.buffer);
  }
}

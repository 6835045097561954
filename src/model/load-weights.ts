import type { ModelConfig } from '../../models/config.js';
import { FINAL_NORM, LINEAR_MODULES, layerTensorName } from '../../models/tensors.js';
import { InputError } from '../errors.js';
import type { Checkpoint, CheckpointTensor } from '../formats/checkpoint.js';
import { BatchUniform } from '../gpu/batch.js';
import type { Device } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernels.js';
import { BufferPool, type Program, Recorder } from '../gpu/program.js';
import { bytesOf, createTensor, Tensor } from '../gpu/tensor.js';
import { convert } from '../ops/convert.js';
import type { Matrix } from '../ops/dequantize.js';
import type { VocabParts } from '../ops/embedding.js';
import { layOutWeights, type Weights } from './weights.js';

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
  const weights = layOutWeights(checkpoint.config, operand, device.maxBinding, new Map(), (label, dtype, shape) =>
    createTensor(device, label, dtype, shape),
  );
  const loader = new Loader(device, kernels);
  const load = (name: string, into: Matrix | null) =>
    into instanceof Tensor ? loader.load(tensorOf(checkpoint, name), 0, into.elements, into) : undefined;
  const vocabulary = async (source: CheckpointTensor, { dim, parts }: VocabParts): Promise<void> => {
    for (const { first, count, weight } of parts) {
      if (!(weight instanceof Tensor)) continue;
      loader.clear(weight);
      await loader.load(source, first * dim, count * dim, weight);
    }
  };
  await vocabulary(checkpoint.embedding, weights.embedding);
  if (weights.head !== weights.embedding) await vocabulary(checkpoint.head, weights.head);
  for (const [i, layer] of weights.layers.entries()) {
    for (const module of LINEAR_MODULES) {
      await load(layerTensorName(i, module), layer.linear[module].weight);
      await load(layerTensorName(i, module, 'bias'), layer.linear[module].bias);
    }
    await load(layerTensorName(i, 'input_layernorm'), layer.inputNorm);
    await load(layerTensorName(i, 'post_attention_layernorm'), layer.postAttentionNorm);
    await load(layerTensorName(i, 'q_norm'), layer.qNorm);
    await load(layerTensorName(i, 'k_norm'), layer.kNorm);
  }
  await load(FINAL_NORM, weights.finalNorm);
  await loader.finish();
  return weights;
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

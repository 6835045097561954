import type { ModelConfig } from '../../models/config.js';
import { EMBEDDING, FINAL_NORM, HEAD, LINEAR_MODULES, layerTensorName } from '../../models/tensors.js';
import { InputError } from '../errors.js';
import type { LoadableCheckpoint } from '../formats/checkpoint.js';
import type { FloatsToPack, StoredMatrix } from '../formats/stored-matrix.js';
import type { CheckpointTensor } from '../formats/stored-tensors.js';
import type { Device } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernels.js';
import type { Recorder } from '../gpu/program.js';
import { type StagedRead, Staging } from '../gpu/staging.js';
import { clear, createTensor, Tensor, upload } from '../gpu/tensor.js';
import type { OpContext } from '../ops/context.js';
import { convert } from '../ops/convert.js';
import type { Matrix, PackedMatrix } from '../ops/dequantize.js';
import { biasedScales, nestedScales, zeroedScales } from '../ops/group-scales.js';
import { quantize } from '../ops/quantize.js';
import { repack } from '../ops/repack.js';
import { layOutWeights, type Weights, weightsStandIn, weightTensors } from './weights.js';

/** Told of every piece that was read: bytes so far, and of the whole. */
export type LoadProgress = (done: number, total: number) => void;

export interface LoadOptions {
  readonly progress?: LoadProgress;
  /** Bytes of each of the staging buffers; a row of a stored matrix has to fit. */
  readonly stagingBytes?: number;
}

/** Staging buffers: several reads go on while earlier pieces are uploaded and converted. */
const stagingSlots = 4;

/**
 * Streams a checkpoint onto the device piece by piece: files are read by position into mapped buffers, and what they
 * hold is converted on the device; packed weights stay packed, and others may be quantised. Throws InputError for a
 * matrix larger than one binding of the device, before anything is allocated, and for files that cannot be read.
 */
export async function loadWeights(
  device: Device,
  kernels: KernelCache,
  checkpoint: LoadableCheckpoint<ModelConfig>,
  operand: 'f16' | 'f32',
  options: LoadOptions = {},
): Promise<Weights> {
  const { config, packed } = checkpoint;
  weightsStandIn(config, operand, device.maxBinding, packed);
  const weights = layOutWeights(config, operand, device.maxBinding, packed, (label, dtype, shape) =>
    createTensor(device, label, dtype, shape),
  );
  const loader = new Loader(device, kernels, checkpoint, options);
  try {
    await loader.matrix(EMBEDDING, weights.embedding.parts);
    if (weights.head !== weights.embedding) await loader.matrix(HEAD, weights.head.parts);
    for (const [i, layer] of weights.layers.entries()) {
      for (const module of LINEAR_MODULES) {
        const { weight, bias } = layer.linear[module];
        await loader.matrix(layerTensorName(i, module), [whole(weight)]);
        await loader.vector(layerTensorName(i, module, 'bias'), bias);
      }
      await loader.vector(layerTensorName(i, 'input_layernorm'), layer.inputNorm);
      await loader.vector(layerTensorName(i, 'post_attention_layernorm'), layer.postAttentionNorm);
      await loader.vector(layerTensorName(i, 'q_norm'), layer.qNorm);
      await loader.vector(layerTensorName(i, 'k_norm'), layer.kNorm);
    }
    await loader.vector(FINAL_NORM, weights.finalNorm);
    await loader.finish();
    return weights;
  } catch (error) {
    for (const { buffer } of weightTensors(weights)) device.destroyBuffer(buffer!);
    throw error;
  } finally {
    await loader.close();
  }
}

/** Rows [first, first + count) of a matrix; `rows` with what pads it. */
interface Part<M extends Matrix = Matrix> {
  readonly first: number;
  readonly count: number;
  readonly rows: number;
  readonly weight: M;
}

function whole(weight: Matrix): Part {
  const rows = weight instanceof Tensor ? weight.shape[0] : weight.n;
  return { first: 0, count: rows, rows, weight };
}

const types = { BF16: 'bf16', F16: 'f16', F32: 'f32' } as const;
const typeOf = ({ dtype }: CheckpointTensor) => types[dtype as keyof typeof types];
const sizeOf = (tensor: CheckpointTensor) => (tensor.dtype === 'F32' ? 4 : 2);

/** Padding that staging may put between two ranges of a piece. */
const padding = 256;

class Loader {
  readonly #device: Device;
  readonly #checkpoint: LoadableCheckpoint<ModelConfig>;
  readonly #staging: Staging;
  readonly #progress: LoadProgress;
  readonly #total: number;
  #done = 0;

  constructor(device: Device, kernels: KernelCache, checkpoint: LoadableCheckpoint<ModelConfig>, options: LoadOptions) {
    const { progress = () => {}, stagingBytes = 16 << 20 } = options;
    this.#device = device;
    this.#checkpoint = checkpoint;
    this.#progress = progress;
    this.#total = [...new Set(checkpoint.tensors.values())].reduce((sum, { begin, end }) => sum + end - begin, 0);
    this.#staging = new Staging(device, kernels, stagingSlots, Math.min(stagingBytes, this.#total + (64 << 10)));
  }

  /** Waits until everything is on the device. */
  async finish(): Promise<void> {
    await this.#staging.finish();
  }

  async close(): Promise<void> {
    await this.#staging.close();
  }

  /** A tensor of f32; null where the model has none of that name. */
  async vector(name: string, into: Tensor | null): Promise<void> {
    if (into) await this.#floats(this.#stored(name), 0, into.elements, into);
  }

  /** A matrix in its parts. */
  async matrix(name: string, parts: readonly Part[]): Promise<void> {
    const stored = this.#checkpoint.packed.get(name);
    for (const { rows, count, weight } of parts)
      if (rows > count) clear(this.#device, weight instanceof Tensor ? [weight] : [weight.codes, weight.scales]);
    if (stored && 'floats' in stored) {
      await this.#quantise(stored, parts as readonly Part<PackedMatrix>[]);
      return;
    }
    if (stored) {
      await this.#codes(stored, parts as readonly Part<PackedMatrix>[]);
      await this.#scales(stored, parts as readonly Part<PackedMatrix>[]);
      return;
    }
    for (const { first, count, weight } of parts as readonly Part<Tensor>[]) {
      const k = weight.shape[1];
      await this.#floats(this.#stored(name), first * k, count * k, weight);
    }
  }

  #stored(name: string): CheckpointTensor {
    const tensor = this.#checkpoint.tensors.get(name);
    if (!tensor) throw new InputError(`${this.#checkpoint.dir}: tensor ${name} is missing.`);
    return tensor;
  }

  /** Bytes [from, from + bytes) of a stored tensor. */
  #read(tensor: CheckpointTensor, from: number, bytes: number): StagedRead {
    const read = async (into: Uint8Array) => {
      await tensor.source.read(tensor.begin + from, into);
      this.#done = Math.min(this.#done + bytes, this.#total);
      this.#progress(this.#done, this.#total);
    };
    return { bytes, read };
  }

  /** How many of `left` units of so many bytes the next piece takes, with `fixed` bytes beside them. */
  #fit(left: number, unit: number, fixed = 0): number {
    const least = fixed + Math.min(left * unit, Math.max(unit, 1 << 20));
    return Math.min(left, Math.floor((this.#staging.room(least) - fixed) / unit));
  }

  /** Elements [first, first + count), a multiple of 4, to the start of `into`. */
  async #floats(source: CheckpointTensor, first: number, count: number, into: Tensor): Promise<void> {
    const from = typeOf(source);
    const size = sizeOf(source);
    for (let done = 0; done < count; ) {
      const elements = 4 * this.#fit((count - done) / 4, 4 * size);
      const read = this.#read(source, (first + done) * size, elements * size);
      const place = done;
      if (from === into.dtype) await this.#staging.copy(read, into, place * size);
      else
        await this.#staging.convert([read], (recorder, [raw]) =>
          convert(context(recorder), { raw, y: into, from, count: elements, first: place }),
        );
      done += elements;
    }
  }

  async #codes(stored: StoredMatrix, parts: readonly Part<PackedMatrix>[]): Promise<void> {
    const { order, n, k, format, codes: source, columnGroup } = stored;
    const width = k / (format === 'affine8' ? 4 : 8);
    if (columnGroup) for (const { weight } of parts) upload(this.#device, weight.columnGroup!, columnGroup);
    if (order === 'natural' || order === 'bitsandbytes') {
      for (const { first, count, weight } of parts) {
        const { codes } = weight;
        for (let done = 0; done < count * width; ) {
          const words = this.#fit(count * width - done, 4);
          const read = this.#read(source, 4 * (first * width + done), 4 * words);
          const place = done;
          if (order === 'natural') await this.#staging.copy(read, codes, 4 * place);
          else
            await this.#staging.convert([read], (recorder, [raw]) =>
              repack(context(recorder), { raw, codes, order, words, first: place }),
            );
          done += words;
        }
      }
      return;
    }
    for (let done = 0; done < width; ) {
      const columns = this.#fit(width - done, 4 * n);
      const first = done;
      await this.#staging.convert([this.#read(source, 4 * n * done, 4 * n * columns)], (recorder, [raw]) => {
        for (const { first: row, count, weight } of parts) {
          const piece = { columns, row, n, width, words: columns * count, first };
          repack(context(recorder), { raw, codes: weight.codes, order, ...piece });
        }
      });
      done += columns;
    }
  }

  /** Codes and scales of parts that begin where a group does. */
  async #quantise({ floats: source, k, group }: FloatsToPack, parts: readonly Part<PackedMatrix>[]): Promise<void> {
    const from = typeOf(source);
    const size = sizeOf(source);
    for (const { first: row, count: rows, weight } of parts) {
      for (let done = 0; done < rows * k; ) {
        const first = done;
        const groups = this.#fit(Math.ceil((rows * k - done) / group), group * size);
        const count = Math.min(rows * k - done, groups * group);
        await this.#staging.convert([this.#read(source, (row * k + done) * size, count * size)], (recorder, [raw]) =>
          quantize(context(recorder), { raw, matrix: weight, from, count, first }),
        );
        done += count;
      }
    }
  }

  async #scales({ scales: stored, k, n, group }: StoredMatrix, parts: readonly Part<PackedMatrix>[]): Promise<void> {
    if (stored.kind === 'zeroed') {
      const { scales, zeros, order, add } = stored;
      const width = k / group;
      const size = sizeOf(scales);
      for (let done = 0; done < width; ) {
        const columns = this.#fit(width - done, n * size + n / 2, 2 * padding);
        const reads = [
          this.#read(scales, n * size * done, n * size * columns),
          this.#read(zeros, (n / 2) * done, (n / 2) * columns),
        ];
        const first = done;
        await this.#staging.convert(reads, (recorder, [rawScales, rawZeros]) => {
          for (const { first: row, count, weight } of parts) {
            const tensors = { scales: rawScales, zeros: rawZeros, y: weight.scales };
            const piece = { columns, row, n, width, count: columns * count, first, add };
            zeroedScales(context(recorder), tensors, { type: typeOf(scales), order }, piece);
          }
        });
        done += columns;
      }
      return;
    }
    for (const { first: row, count: rows, weight } of parts) {
      const before = (row * k) / group;
      const total = Math.ceil((rows * k) / group);
      const y = weight.scales;
      for (let done = 0; done < total; ) {
        const first = done;
        const place = before + done;
        if (stored.kind === 'plain') {
          const count = this.#fit(total - done, 4);
          await this.#staging.copy(this.#read(stored.scales, 4 * place, 4 * count), y, 4 * first);
          done += count;
        } else if (stored.kind === 'biased') {
          const { scales, biases } = stored;
          const size = sizeOf(scales);
          const count = this.#fit(total - done, 2 * size, 2 * padding);
          const reads = [scales, biases].map((source) => this.#read(source, size * place, size * count));
          await this.#staging.convert(reads, (recorder, [rawScales, rawBiases]) => {
            const tensors = { scales: rawScales, biases: rawBiases, y };
            biasedScales(context(recorder), tensors, typeOf(scales), { count, first });
          });
          done += count;
        } else {
          const { absmax, map, nestedAbsmax, block, offset } = stored;
          const shared = [map, nestedAbsmax].map((source) => this.#read(source, 0, source.end - source.begin));
          const fixed = shared.reduce((sum, { bytes }) => sum + bytes, 3 * padding);
          const count = this.#fit(total - done, 1, fixed);
          await this.#staging.convert([this.#read(absmax, place, count), ...shared], (recorder, raw) => {
            const tensors = { absmax: raw[0], map: raw[1], nestedAbsmax: raw[2], y };
            nestedScales(context(recorder), tensors, { count, first, place, block, offset });
          });
          done += count;
        }
      }
    }
  }
}

function context(recorder: Recorder): OpContext {
  return { recorder, operand: 'f32', cpu: false };
}

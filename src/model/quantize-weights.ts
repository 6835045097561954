import type { ModelConfig } from '../../models/config.js';
import { tensorSpecs } from '../../models/tensors.js';
import { InputError } from '../errors.js';
import type { Checkpoint, LoadableCheckpoint } from '../formats/checkpoint.js';
import type { FloatMatrix, QuantisedFormat } from '../formats/quantised-format.js';
import { byteLength, type TensorDeclaration } from '../formats/safetensors.js';
import type { TensorPiece } from '../formats/safetensors-writer.js';
import type { FloatsToPack } from '../formats/stored-matrix.js';
import type { CheckpointTensor } from '../formats/stored-tensors.js';
import { BatchUniform } from '../gpu/batch.js';
import type { Device } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernels.js';
import { BufferPool, type Program, Recorder } from '../gpu/program.js';
import { createTensor, type Tensor } from '../gpu/tensor.js';
import { layOutPacked, type PackedLayout, type PackedMatrix } from '../ops/dequantize.js';
import { quantize } from '../ops/quantize.js';
import { type QuantizedFormat, quantizedLayouts } from './quantized-layouts.js';

/** File bytes that are quantised at once: whole groups of any size, and small against what a device binds. */
const pieceBytes = 16 << 20;
const types = { BF16: 'bf16', F16: 'f16', F32: 'f32' } as const;

/** What a piece of a matrix becomes. */
export interface QuantisedPiece {
  /** As src/ops/dequantize.ts packs them. */
  readonly codes: Uint8Array;
  /** (scale, offset) of each group, or its scale (NF4). */
  readonly scales: Float32Array;
  /** Bytes of the file that were read for it. */
  readonly read: number;
}

/** Quantises matrices of a checkpoint piece by piece on the device and hands the pieces back; keeps nothing of them. */
export class Quantizer {
  readonly #device: Device;
  readonly #kernels: KernelCache;
  readonly #raw: Tensor;
  readonly #piece: PackedMatrix;
  readonly #pool: BufferPool;
  readonly #batch: BatchUniform;
  /** By element type and number of elements. */
  readonly #programs = new Map<string, Program>();

  constructor(device: Device, kernels: KernelCache, { format, group }: Pick<PackedLayout, 'format' | 'group'>) {
    this.#device = device;
    this.#kernels = kernels;
    this.#raw = createTensor(device, 'raw', 'u32', [pieceBytes / 4]);
    // Of 16-bit elements, the most that a piece holds.
    this.#piece = layOutPacked({ format, n: pieceBytes / 16, k: 8, group, ordered: true }, 'piece', (...tensor) =>
      createTensor(device, ...tensor),
    );
    this.#pool = new BufferPool(device);
    this.#batch = new BatchUniform(device);
  }

  /** The pieces of a matrix in order. Throws InputError where it holds a NaN or an infinity. */
  async *pieces(source: CheckpointTensor): AsyncGenerator<QuantisedPiece> {
    const { begin, end, name } = source;
    // The next piece is read while the device works on one.
    const read = async (position: number): Promise<Uint8Array<ArrayBuffer>> => {
      const bytes = new Uint8Array(Math.max(0, Math.min(pieceBytes, end - position)));
      await source.source.read(position, bytes);
      return bytes;
    };
    let next = read(begin);
    for (let position = begin; position < end; position += pieceBytes) {
      const bytes = await next;
      next = read(position + pieceBytes);
      // Should this piece fail, nobody waits for the next one.
      next.catch(() => {});
      this.#device.gpu.queue.writeBuffer(this.#raw.buffer!, 0, bytes);
      const piece = await this.#quantize(types[source.dtype as keyof typeof types], bytes.length);
      if (piece.scales.some((scale) => Math.abs(scale) > 1e38))
        throw new InputError(`${source.source.name}: tensor ${name} holds a NaN or an infinity`);
      yield piece;
    }
  }

  async #quantize(from: 'bf16' | 'f16' | 'f32', bytes: number): Promise<QuantisedPiece> {
    const { format, group, codes, scales } = this.#piece;
    const count = bytes / (from === 'f32' ? 4 : 2);
    const key = `${from} ${count}`;
    let program = this.#programs.get(key);
    if (!program) {
      const recorder = new Recorder(this.#kernels);
      quantize(
        { recorder, operand: 'f32', cpu: false },
        { raw: this.#raw, matrix: this.#piece, from, count, first: 0 },
      );
      program = await recorder.realise(this.#device, this.#pool, this.#batch.buffer);
      this.#programs.set(key, program);
    }
    program.run();
    const codeBytes = format === 'affine8' ? count : count / 2;
    const scaleBytes = Math.ceil(count / group) * (format === 'nf4' ? 4 : 8);
    return {
      codes: new Uint8Array(await this.#device.read(codes.buffer!, 0, codeBytes)),
      scales: new Float32Array(await this.#device.read(scales.buffer!, 0, scaleBytes)),
      read: bytes,
    };
  }

  destroy(): void {
    for (const program of this.#programs.values()) program.destroy();
    for (const { buffer } of [this.#raw, this.#piece.codes, this.#piece.scales]) this.#device.destroyBuffer(buffer!);
    this.#device.destroyBuffer(this.#batch.buffer);
  }
}

/** A tensor of a model: where it stands, and what is written for it. */
interface PlannedTensor {
  readonly name: string;
  readonly source: CheckpointTensor;
  readonly quantised: boolean;
  readonly written: readonly TensorDeclaration[];
}

/** A checkpoint to write. */
export interface QuantisedPlan {
  readonly format: QuantisedFormat;
  /** Codes and groups of every matrix that is quantised. */
  readonly layout: Pick<PackedLayout, 'format' | 'group'>;
  readonly tensors: readonly PlannedTensor[];
  /** Of the matrices that are quantised. */
  readonly dtype: FloatMatrix['dtype'];
  /** Of the tensors that are read, and of those that are written. */
  readonly sourceBytes: number;
  readonly bytes: number;
}

/**
 * The checkpoint as its weights are to be loaded: the matrices that the format packs become on the device what they were
 * if `lexalign quantize` had written them. Its own are floats.
 */
export function quantiseOnLoad(
  checkpoint: Checkpoint<ModelConfig>,
  format: Exclude<QuantizedFormat, 'none'>,
): LoadableCheckpoint<ModelConfig> {
  const packed = new Map<string, FloatsToPack>();
  for (const [name, layout] of quantizedLayouts(checkpoint.config, format))
    packed.set(name, { ...layout, floats: checkpoint.tensors.get(name)! });
  return { ...checkpoint, packed };
}

/** Every tensor that the model needs, for a format. Throws InputError where there is nothing to quantise to it. */
export function planQuantised(checkpoint: LoadableCheckpoint<ModelConfig>, format: QuantisedFormat): QuantisedPlan {
  if (checkpoint.packed.size > 0)
    throw new InputError(`${checkpoint.dir}: its weights are quantised; give the model that they were made from`);
  const { packing, group } = format;
  const layouts = quantizedLayouts(checkpoint.config, packing, { group });
  const [layout] = layouts.values();
  if (!layout) throw new InputError(`${checkpoint.dir}: no matrix has rows that divide into groups of ${group}`);
  const tensors = tensorSpecs(checkpoint.config).map(({ name }): PlannedTensor => {
    const source = checkpoint.tensors.get(name)!;
    const { dtype, shape } = source;
    const quantised = layouts.has(name);
    const written = quantised ? format.tensors(matrixOf(name, source)) : [{ name, dtype, shape }];
    return { name, source, quantised, written };
  });
  const first = tensors.find(({ quantised }) => quantised)!;
  return {
    format,
    layout,
    tensors,
    dtype: matrixOf(first.name, first.source).dtype,
    sourceBytes: tensors.reduce((sum, { source }) => sum + source.end - source.begin, 0),
    bytes: tensors.flatMap(({ written }) => written).reduce((sum, t) => sum + byteLength(t.dtype, t.shape), 0),
  };
}

function matrixOf(name: string, { shape, dtype }: CheckpointTensor): FloatMatrix {
  return { name, shape, dtype: dtype as FloatMatrix['dtype'] };
}

/** What a plan writes, tensor by tensor; `advance` is told of the bytes read. Throws InputError as Quantizer does. */
export async function* quantisedPieces(
  { tensors, format }: QuantisedPlan,
  quantizer: Quantizer,
  advance: (bytes: number) => void,
): AsyncGenerator<TensorPiece> {
  for (const { name, source, quantised } of tensors) {
    if (quantised) {
      const scales: Float32Array[] = [];
      for await (const piece of quantizer.pieces(source)) {
        yield { name, bytes: format.pack(piece.codes) };
        scales.push(piece.scales);
        advance(piece.read);
      }
      yield* format.scales(matrixOf(name, source), joined(scales));
      continue;
    }
    for (let position = source.begin; position < source.end; position += pieceBytes) {
      const bytes = new Uint8Array(Math.min(pieceBytes, source.end - position));
      await source.source.read(position, bytes);
      yield { name, bytes };
      advance(bytes.length);
    }
  }
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

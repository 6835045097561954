import { join } from 'node:path';
import { type Adapter, adapterRank, adapterScale, type LoraPair } from './adapter.js';
import type { Checkpoint } from './checkpoint.js';
import { copyCompanions } from './companions.js';
import { readJsonInside, writeDirectoryAtomic, writeFileAtomic } from './files.js';
import type { LoraShare, MergePiece } from './merge.js';
import { byteLength, DTYPE_BYTES, type Dtype, type FloatDtype, type TensorDeclaration } from './safetensors.js';
import { type TensorPiece, writeShards } from './safetensors-writer.js';
import { type UnpackedMatrix, unpackMatrix } from './unpack.js';

/** Bytes of a tensor that are read and merged at once, about: whole rows. */
const PIECE_BYTES = 4 << 20;

const TORCH_NAMES = { F16: 'float16', BF16: 'bfloat16' } as const;

export interface MergeOptions {
  /** Of every float tensor. */
  readonly dtype: 'F16' | 'BF16';
  /** Names of the tensors that the architecture has. */
  readonly known: ReadonlySet<string>;
  /** By default 5 GB. */
  readonly maxShardBytes?: number;
  /** Text of the directory's README.md. */
  readonly readme: string;
  /** Merges a piece, whose buffer it may write to and return; as many as `parallel` at once. */
  readonly run: (piece: MergePiece) => Promise<Uint8Array>;
  readonly parallel: number;
  readonly progress: (done: number, total: number) => void;
}

/**
 * Writes base and adapter as one Hugging Face directory, which appears whole or not at all: every float tensor as W +
 * s·B·A or as it is, in 16 bits, quantised ones unpacked; config.json with that type; files of the tokenizer and the
 * licence. Pieces stream, so that memory holds a few megabytes for each that is merged at once, and a quantised matrix
 * as it is stored. Throws InputError, also when the directory is there.
 */
export async function writeMergedModel<Config>(
  dir: string,
  checkpoint: Checkpoint<Config>,
  adapter: Adapter,
  options: MergeOptions,
): Promise<void> {
  const weights = [...storedWeights(checkpoint, options.known), ...packedWeights(checkpoint)];
  const declared = weights.map(({ name, dtype, shape }): TensorDeclaration => {
    return { name, dtype: isFloat(dtype) ? options.dtype : dtype, shape };
  });
  await writeDirectoryAtomic(dir, async (temporary) => {
    await copyConfig(checkpoint.dir, temporary, options.dtype);
    await copyCompanions(checkpoint.dir, temporary);
    await writeFileAtomic(join(temporary, 'README.md'), options.readme);
    await writeShards(temporary, declared, mergedPieces(weights, adapter, options), options);
  });
}

/** A weight of the base model, in the type that `read` gives. */
interface Weight {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Elements [first, first + count), perhaps in a buffer of `spares`; of a packed matrix whole rows, in order. */
  read(first: number, count: number, spares: Spares): Promise<Uint8Array>;
}

/** Buffers of pieces that are written, for the next: a fresh one costs about as much as its merge. */
class Spares {
  readonly #free: ArrayBuffer[] = [];
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  /** Holds anything. */
  take(bytes: number): Uint8Array {
    const spare = this.#free.pop();
    const fits = spare && spare.byteLength >= bytes;
    return new Uint8Array(fits ? spare : new ArrayBuffer(Math.max(bytes, PIECE_BYTES)), 0, bytes);
  }

  give({ buffer }: Uint8Array): void {
    if (this.#free.length < this.#most) this.#free.push(buffer as ArrayBuffer);
  }
}

/**
 * Each tensor of the files once, under the name it is stored by, but for those of quantised matrices. Of these a bias
 * is kept where the architecture has one: AutoGPTQ writes biases of zeros elsewhere, too.
 */
function storedWeights({ tensors, packed }: Checkpoint<unknown>, known: ReadonlySet<string>): Weight[] {
  const modules = [...packed.keys()].map((name) => name.slice(0, -'weight'.length));
  const isPart = (name: string) =>
    modules.some((module) => name.startsWith(module) && !(name === `${module}bias` && known.has(name)));
  const places = new Map<string, Weight>();
  for (const tensor of tensors.values()) {
    const place = `${tensor.source.name}\0${tensor.begin}\0${tensor.end}`;
    if (places.has(place) || isPart(tensor.name)) continue;
    const size = DTYPE_BYTES[tensor.dtype];
    places.set(place, {
      ...tensor,
      async read(first, count, spares) {
        const bytes = spares.take(count * size);
        await tensor.source.read(tensor.begin + first * size, bytes);
        return bytes;
      },
    });
  }
  return [...places.values()];
}

function packedWeights({ packed }: Checkpoint<unknown>): Weight[] {
  return [...packed].map(([name, stored]) => {
    const { n, k } = stored;
    let matrix: Promise<UnpackedMatrix> | null = null;
    return {
      name,
      dtype: 'F32',
      shape: [n, k],
      async read(first, count) {
        matrix ??= unpackMatrix(stored);
        const unpacked = await matrix;
        if (first + count === n * k) matrix = null; // the last rows: what is packed may go
        return new Uint8Array(unpacked.rows(first / k, count / k).buffer);
      },
    };
  });
}

function isFloat(dtype: string): dtype is FloatDtype {
  return dtype === 'F32' || dtype === 'F16' || dtype === 'BF16';
}

/** The weights' bytes in order, with pieces read and merged ahead. */
async function* mergedPieces(
  weights: readonly Weight[],
  adapter: Adapter,
  { dtype, run, parallel, progress }: MergeOptions,
): AsyncGenerator<TensorPiece> {
  const sizes = weights.map(({ dtype, shape }) => byteLength(dtype, shape));
  const total = sizes.reduce((sum, size) => sum + size, 0);
  let done = 0;
  const spares = new Spares(parallel + 2);
  const ahead: { name: string; size: number; bytes: Promise<Uint8Array> }[] = [];
  const take = async () => {
    const { name, size, bytes } = ahead.shift()!;
    const piece = { name, bytes: await bytes };
    done += size;
    progress(done, total);
    return piece;
  };
  for (const weight of weights) {
    for (const piece of cut(weight, adapter, dtype)) {
      const bytes = piece.make(run, spares);
      bytes.catch(() => undefined); // told where it is awaited, which may be later
      ahead.push({ name: weight.name, size: piece.size, bytes });
      if (ahead.length <= parallel + 1) continue;
      const first = await take();
      yield first;
      spares.give(first.bytes);
    }
  }
  while (ahead.length > 0) yield await take();
}

interface Cut {
  /** Bytes that are read. */
  readonly size: number;
  make(run: MergeOptions['run'], spares: Spares): Promise<Uint8Array>;
}

/** A weight in pieces of whole rows; a vector is one row. */
function* cut({ name, dtype, shape, read }: Weight, adapter: Adapter, to: 'F16' | 'BF16'): Generator<Cut> {
  const path = name.replace(/\.weight$/, '');
  const pair = adapter.tensors.get(path);
  const columns = shape.at(-1) || 1;
  const rows = shape.reduce((product, size) => product * size, 1) / columns;
  const rowBytes = columns * DTYPE_BYTES[dtype];
  const step = Math.max(1, Math.floor(PIECE_BYTES / rowBytes));
  for (let row = 0; row < rows; row += step) {
    const count = Math.min(step, rows - row);
    yield {
      size: count * rowBytes,
      async make(run, spares) {
        const bytes = await read(row * columns, count * columns, spares);
        if (!isFloat(dtype) || (!pair && dtype === to)) return bytes;
        return run({
          name,
          from: dtype,
          to,
          columns,
          bytes,
          lora: pair ? share(adapter, path, pair, row, count) : null,
        });
      },
    };
  }
}

/** The adapter's share of rows of a module. */
function share({ config }: Adapter, path: string, { A, B }: LoraPair, row: number, count: number): LoraShare {
  const r = adapterRank(config, path);
  return { A, B: B.slice(row * r, (row + count) * r), r, scale: adapterScale(config, path) };
}

/** config.json, which names the new type and no quantisation. */
async function copyConfig(from: string, to: string, dtype: 'F16' | 'BF16'): Promise<void> {
  const { value } = await readJsonInside(from, 'config.json');
  const { quantization_config: _, quantization: __, ...config } = value as Record<string, unknown>;
  // transformers 4 calls it torch_dtype, 5 dtype.
  const keys = ['torch_dtype', 'dtype'].filter((key) => key in config);
  for (const key of keys.length > 0 ? keys : ['torch_dtype']) config[key] = TORCH_NAMES[dtype];
  await writeFileAtomic(join(to, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
}

import { join } from 'node:path';
import { type Adapter, adapterRank, adapterScale } from './adapter.js';
import type { Checkpoint, CheckpointTensor } from './checkpoint.js';
import { copyCompanions } from './companions.js';
import { readJsonInside, writeDirectoryAtomic, writeFileAtomic } from './files.js';
import type { MergePiece } from './merge.js';
import { DTYPE_BYTES, type FloatDtype, type TensorDeclaration } from './safetensors.js';
import { type TensorPiece, writeShards } from './safetensors-writer.js';

/** Bytes of a tensor that are read and merged at once, about: whole rows. */
const PIECE_BYTES = 4 << 20;
const MAX_CONFIG_BYTES = 4_000_000;

const TORCH_NAMES = { F16: 'float16', BF16: 'bfloat16' } as const;

export interface MergeOptions {
  /** Of every float tensor. */
  readonly dtype: 'F16' | 'BF16';
  /** By default 5 GB. */
  readonly maxShardBytes?: number;
  /** Text of the directory's README.md. */
  readonly readme: string;
  /** Merges a piece; as many as `parallel` at once. */
  readonly run: (piece: MergePiece) => Promise<Uint8Array>;
  readonly parallel: number;
  readonly progress: (done: number, total: number) => void;
}

/**
 * Writes base and adapter as one Hugging Face directory, which appears whole or not at all: every float tensor as W +
 * s·B·A or as it is, in 16 bits; config.json with that type; files of the tokenizer and the licence. Pieces stream, so
 * that memory holds a few megabytes for each that is merged at once. Throws InputError, also when the directory is there.
 */
export async function writeMergedModel<Config>(
  dir: string,
  checkpoint: Checkpoint<Config>,
  adapter: Adapter,
  options: MergeOptions,
): Promise<void> {
  const tensors = storedTensors(checkpoint);
  const declared = tensors.map(({ name, dtype, shape }): TensorDeclaration => {
    return { name, dtype: isFloat(dtype) ? options.dtype : dtype, shape };
  });
  await writeDirectoryAtomic(dir, async (temporary) => {
    await copyConfig(checkpoint.dir, temporary, options.dtype);
    await copyCompanions(checkpoint.dir, temporary);
    await writeFileAtomic(join(temporary, 'README.md'), options.readme);
    await writeShards(temporary, declared, mergedPieces(tensors, adapter, options), options);
  });
}

/** Each tensor of the files once, under the name it is stored by. */
function storedTensors({ tensors }: Checkpoint<unknown>): CheckpointTensor[] {
  const places = new Map<string, CheckpointTensor>();
  for (const tensor of tensors.values()) {
    const place = `${tensor.source.name}\0${tensor.begin}\0${tensor.end}`;
    if (!places.has(place)) places.set(place, tensor);
  }
  return [...places.values()];
}

function isFloat(dtype: string): dtype is FloatDtype {
  return dtype === 'F32' || dtype === 'F16' || dtype === 'BF16';
}

/** The tensors' bytes in order, with pieces read and merged ahead. */
async function* mergedPieces(
  tensors: readonly CheckpointTensor[],
  adapter: Adapter,
  { dtype, run, parallel, progress }: MergeOptions,
): AsyncGenerator<TensorPiece> {
  const total = tensors.reduce((sum, { begin, end }) => sum + end - begin, 0);
  let done = 0;
  const ahead: { name: string; size: number; bytes: Promise<Uint8Array> }[] = [];
  const take = async () => {
    const { name, size, bytes } = ahead.shift()!;
    const piece = { name, bytes: await bytes };
    done += size;
    progress(done, total);
    return piece;
  };
  for (const tensor of tensors) {
    for (const { begin, end, prepare } of cut(tensor, adapter)) {
      const merge = async () => {
        const bytes = new Uint8Array(end - begin);
        await tensor.source.read(begin, bytes);
        const piece = prepare(bytes, dtype);
        return piece ? run(piece) : bytes;
      };
      const bytes = merge();
      bytes.catch(() => undefined); // told where it is awaited, which may be later
      ahead.push({ name: tensor.name, size: end - begin, bytes });
      if (ahead.length > parallel + 1) yield await take();
    }
  }
  while (ahead.length > 0) yield await take();
}

interface Cut {
  /** Bytes in the file. */
  readonly begin: number;
  readonly end: number;
  /** What is to be done with them; null when they stay as they are. */
  prepare(bytes: Uint8Array, to: 'F16' | 'BF16'): MergePiece | null;
}

/** A tensor in pieces of whole rows. */
function* cut(tensor: CheckpointTensor, adapter: Adapter): Generator<Cut> {
  const { name, dtype, shape } = tensor;
  const path = name.replace(/\.weight$/, '');
  const pair = adapter.tensors.get(path);
  // Only an adapted matrix has rows that matter.
  const columns = pair ? shape[1] : 1;
  const rowBytes = columns * DTYPE_BYTES[dtype];
  const step = Math.max(1, Math.floor(PIECE_BYTES / rowBytes));
  const rows = (tensor.end - tensor.begin) / rowBytes;
  for (let row = 0; row < rows; row += step) {
    const count = Math.min(step, rows - row);
    const begin = tensor.begin + row * rowBytes;
    yield {
      begin,
      end: begin + count * rowBytes,
      prepare(bytes, to) {
        if (!isFloat(dtype) || (!pair && dtype === to)) return null;
        const r = pair && adapterRank(adapter.config, path);
        const lora = pair &&
          r && { A: pair.A, B: pair.B.slice(row * r, (row + count) * r), r, scale: adapterScale(adapter.config, path) };
        return { name, from: dtype, to, columns: pair ? columns : count, bytes, lora: lora || null };
      },
    };
  }
}

/** config.json, which names the new type. */
async function copyConfig(from: string, to: string, dtype: 'F16' | 'BF16'): Promise<void> {
  const { value } = await readJsonInside(from, 'config.json', MAX_CONFIG_BYTES);
  const config = { ...(value as Record<string, unknown>) };
  // transformers 4 calls it torch_dtype, 5 dtype.
  const keys = ['torch_dtype', 'dtype'].filter((key) => key in config);
  for (const key of keys.length > 0 ? keys : ['torch_dtype']) config[key] = TORCH_NAMES[dtype];
  await writeFileAtomic(join(to, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
}

// The weights of a checkpoint as Hugging Face lays them out: one model.safetensors, or numbered shards and an index.

import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../errors.js';
import { explainFileError, writeFileAtomic } from './files.js';
import { byteLength, layOutSafetensors, type TensorDeclaration, type TensorInfo } from './safetensors.js';

/** Bytes of a tensor. Those of one tensor come in order; tensors come in any order, also by turns. */
export interface TensorPiece {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export interface ShardOptions {
  /** Bytes of tensors after which a new shard begins; by default 5 GB, as transformers and mlx-lm have it. */
  readonly maxShardBytes?: number;
  /** `__metadata__` of every shard. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** A tensor that is being written: its file, and how far it is. */
interface OpenTensor {
  readonly file: FileHandle;
  readonly path: string;
  readonly info: TensorInfo;
  written: number;
}

/**
 * Writes a model's weights into a directory, tensor by tensor as they come: model.safetensors, or shards in the order
 * of `tensors` and model.safetensors.index.json. An inner list of tensors goes into one shard. All files are synced, but
 * they grow in place: use a directory that is renamed once all is there (`writeDirectoryAtomic`). Throws InputError when
 * a name stands twice, a tensor's data has not the length of its shape, or a file cannot be written, and what `pieces`
 * throws.
 */
export async function writeShards(
  directory: string,
  tensors: readonly (TensorDeclaration | readonly TensorDeclaration[])[],
  pieces: AsyncIterable<TensorPiece>,
  { maxShardBytes = 5e9, metadata }: ShardOptions = {},
): Promise<void> {
  const shards = splitShards(tensors, maxShardBytes);
  const names = shards.map((_, i) => shardName(i, shards.length));
  const files: FileHandle[] = [];
  const opened = new Map<string, OpenTensor>();
  try {
    for (const [i, shard] of shards.entries()) {
      const path = join(directory, names[i]);
      const layout = layOutSafetensors(shard, metadata);
      const file = await create(path);
      files.push(file);
      await writeAt(path, file, layout.head, 0);
      for (const info of layout.tensors) {
        if (opened.has(info.name)) throw new InputError(`tensor name ${info.name} cannot be written twice`);
        opened.set(info.name, { file, path, info, written: 0 });
      }
    }
    for await (const { name, bytes } of pieces) {
      const tensor = opened.get(name);
      if (!tensor) throw new InputError(`tensor ${name} has data, but was not announced`);
      const { file, path, info } = tensor;
      const at = info.begin + tensor.written;
      tensor.written += bytes.length;
      if (at + bytes.length <= info.end) await writeAt(path, file, bytes, at);
    }
    for (const { info, written } of opened.values())
      if (written !== info.end - info.begin)
        throw new InputError(`tensor ${info.name} has ${written} bytes, its shape takes ${info.end - info.begin}`);
    for (const [i, file] of files.entries())
      await file.sync().catch((error) => explainFileError(join(directory, names[i]), error));
  } finally {
    for (const file of files) await file.close();
  }
  if (shards.length > 1) await writeIndex(directory, names, shards);
}

function splitShards(
  tensors: readonly (TensorDeclaration | readonly TensorDeclaration[])[],
  maxBytes: number,
): TensorDeclaration[][] {
  const shards: TensorDeclaration[][] = [[]];
  let filled = 0;
  for (const entry of tensors) {
    const group = [entry].flat() as TensorDeclaration[];
    const bytes = totalBytes(group);
    if (filled > 0 && filled + bytes > maxBytes) {
      shards.push([]);
      filled = 0;
    }
    shards.at(-1)!.push(...group);
    filled += bytes;
  }
  return shards;
}

function totalBytes(tensors: readonly TensorDeclaration[]): number {
  return tensors.reduce((sum, { dtype, shape }) => sum + byteLength(dtype, shape), 0);
}

function shardName(index: number, count: number): string {
  const digits = (n: number) => String(n).padStart(5, '0');
  return count === 1 ? 'model.safetensors' : `model-${digits(index + 1)}-of-${digits(count)}.safetensors`;
}

async function writeIndex(
  directory: string,
  names: readonly string[],
  shards: readonly (readonly TensorDeclaration[])[],
): Promise<void> {
  const index = {
    metadata: { total_size: shards.reduce((sum, shard) => sum + totalBytes(shard), 0) },
    weight_map: Object.fromEntries(shards.flatMap((shard, i) => shard.map(({ name }) => [name, names[i]]))),
  };
  await writeFileAtomic(join(directory, 'model.safetensors.index.json'), `${JSON.stringify(index, null, 2)}\n`);
}

async function create(path: string): Promise<FileHandle> {
  return open(path, 'wx').catch((error) => explainFileError(path, error));
}

async function writeAt(path: string, file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file
      .write(bytes, done, bytes.length - done, position + done)
      .catch((error) => explainFileError(path, error));
    done += bytesWritten;
  }
}

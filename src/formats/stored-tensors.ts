import { join } from 'node:path';
import { InputError } from '../errors.js';
import type { ByteSource } from './bytes.js';
import { readTensor, type TensorInfo, toFloat32 } from './safetensors.js';

export const FLOAT_DTYPES = ['F32', 'F16', 'BF16'];

/** A tensor and the file it lies in; read it with readTensor(tensor.source, tensor) or piece by piece. */
export interface CheckpointTensor extends TensorInfo {
  readonly source: ByteSource;
}

/** The tensors of a model directory, checked as they are looked up. */
export class StoredTensors {
  readonly dir: string;
  readonly #tensors: ReadonlyMap<string, CheckpointTensor>;

  constructor(dir: string, tensors: ReadonlyMap<string, CheckpointTensor>) {
    this.dir = dir;
    this.#tensors = tensors;
  }

  get(name: string): CheckpointTensor | undefined {
    return this.#tensors.get(name);
  }

  /** A tensor of one of these dtypes and this shape. Throws InputError naming file and tensor. */
  require(name: string, dtypes: readonly string[], shape: readonly number[]): CheckpointTensor {
    const tensor = this.#tensors.get(name);
    if (!tensor) throw new InputError(`${this.dir}: the weights lack tensor ${name}, which config.json calls for`);
    const file = tensor.source.name;
    if (!dtypes.includes(tensor.dtype))
      throw new InputError(
        `${file}: tensor ${tensor.name} has dtype ${tensor.dtype}; only ${listed(dtypes)} ${dtypes.length > 1 ? 'are' : 'is'} read`,
      );
    if (tensor.shape.length !== shape.length || tensor.shape.some((size, i) => size !== shape[i]))
      throw new InputError(
        `${file}: tensor ${tensor.name} has shape [${tensor.shape.join(', ')}], config.json calls for [${shape.join(', ')}]`,
      );
    return tensor;
  }

  /** The numbers of a small F32 tensor. */
  async floats(name: string, count: number): Promise<Float32Array> {
    const tensor = this.require(name, ['F32'], [count]);
    return toFloat32(tensor.dtype, await readTensor(tensor.source, tensor));
  }

  /** An error about a tensor that is there. */
  error(name: string, what: string): InputError {
    return new InputError(`${this.#tensors.get(name)?.source.name ?? join(this.dir, name)}: tensor ${name} ${what}`);
  }
}

function listed(words: readonly string[]): string {
  return words.length < 2 ? words.join() : `${words.slice(0, -1).join(', ')} and ${words[words.length - 1]}`;
}

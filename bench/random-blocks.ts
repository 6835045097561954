import { float32ToFloat16 } from '../src/formats/half.js';

/** What a tensor is filled with: random bits, or numbers uniform in mean ± spread. */
export type RandomFill =
  | 'bits'
  | { readonly dtype: 'F32' | 'F16' | 'BF16'; readonly mean: number; readonly spread: number };

/** Elements of a block of random numbers, which stands for all: 8 billion made one by one would take minutes. */
const blockElements = 1 << 20;
/** Each repetition begins at another of so many places, so that rows of a matrix differ. */
const places = 4099;

/** Bytes of tensors of any size that follow from a seed, at any position and in memory of a few blocks. */
export class RandomBlocks {
  readonly #words: Uint32Array;
  readonly #blocks = new Map<string, Uint8Array>();

  constructor(seed: number) {
    let state = seed >>> 0;
    this.#words = Uint32Array.from({ length: blockElements + places }, () => {
      // Numerical Recipes' linear congruence; its low bits have short periods, so two draws give the high halves.
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      const high = state >>> 16;
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return ((high << 16) | (state >>> 16)) >>> 0;
    });
  }

  /** Bytes [position, position + into.length) of the tensor `name`; position and length are whole elements (or words). */
  fill(into: Uint8Array, position: number, name: string, kind: RandomFill): void {
    const block = this.#block(kind);
    const size = block.length / (blockElements + places);
    let turn = [...name].reduce((hash, c) => (Math.imul(hash, 31) + c.charCodeAt(0)) >>> 0, 7);
    turn += Math.floor(position / size / blockElements);
    for (let done = 0; done < into.length; turn++) {
      const within = (position + done) % (blockElements * size);
      const length = Math.min(blockElements * size - within, into.length - done);
      const from = (turn % places) * size + within;
      into.set(block.subarray(from, from + length), done);
      done += length;
    }
  }

  #block(kind: RandomFill): Uint8Array {
    if (kind === 'bits') return new Uint8Array(this.#words.buffer);
    const { dtype, mean, spread } = kind;
    const key = `${dtype} ${mean} ${spread}`;
    let block = this.#blocks.get(key);
    if (!block) {
      const values = Float32Array.from(this.#words, (word) => mean + spread * (word / 2 ** 31 - 1));
      block = new Uint8Array(encode(dtype, values).buffer);
      this.#blocks.set(key, block);
    }
    return block;
  }
}

function encode(dtype: 'F32' | 'F16' | 'BF16', values: Float32Array): Float32Array | Uint16Array {
  if (dtype === 'F32') return values;
  if (dtype === 'F16') return float32ToFloat16(values);
  return Uint16Array.from(new Uint32Array(values.buffer), (word) => word >>> 16);
}

/** Uniform numbers around zero of the deviation 1/√width, which keeps activations of a matrix of that width in bounds. */
export function weightFill(dtype: 'F32' | 'F16' | 'BF16', width: number): RandomFill {
  return { dtype, mean: 0, spread: Math.sqrt(3 / width) };
}

/** All numbers are 1. */
export function ones(dtype: 'F32' | 'F16' | 'BF16'): RandomFill {
  return { dtype, mean: 1, spread: 0 };
}

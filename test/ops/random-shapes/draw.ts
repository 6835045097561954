import type { BatchValues } from '../../../src/gpu/batch.js';
import type { DType, Tensor } from '../../../src/gpu/tensor.js';
import { type OpRun, rounded, type Tier } from '../../gpu.js';
import { randomNormal, randomSource } from '../../reference/random.js';

/** What a kernel should have written: `expected` at the start of the tensor, nothing behind. */
export interface Check {
  readonly tensor: Tensor;
  readonly expected: Float64Array;
  /** Relative L2 error. */
  readonly limit: number;
}

export interface Recorded {
  readonly batch: Partial<BatchValues>;
  readonly checks: readonly Check[];
}

export interface RandomCase {
  /** The kernel that must run, where it is not named as the case. */
  readonly kernel?: string;
  readonly form?: 'direct' | 'registers' | 'rows' | 'matrices';
  readonly tiers?: readonly Tier[];
  record(op: OpRun, tier: Tier, draw: Draw): Recorded;
}

/** Numbers and shapes that follow from a seed. */
export class Draw {
  readonly #random: () => number;
  #seed: number;

  constructor(seed: number) {
    this.#random = randomSource(seed);
    this.#seed = seed * 1000;
  }

  /** From and to included. */
  int(from: number, to: number): number {
    return from + Math.floor(this.#random() * (to - from + 1));
  }

  pick<T>(values: readonly T[]): T {
    return values[this.int(0, values.length - 1)];
  }

  normal(length: number, deviation = 1): Float64Array {
    return randomNormal(length, this.#seed++, deviation);
  }

  /** A tensor of `capacity` rows, NaN past the live ones, and the live values as the device has them. */
  rows(op: OpRun, dtype: DType, [rows, capacity]: readonly [number, number], width: number, deviation = 1) {
    const values = rounded(dtype, this.normal(capacity * width, deviation)).fill(Number.NaN, rows * width);
    return { tensor: op.input('rows', dtype, [capacity, width], values), values: values.subarray(0, rows * width) };
  }
}

/** Live rows of a capacity. */
export function drawRows(draw: Draw, most: number): [number, number] {
  const rows = draw.int(1, most);
  return [rows, rows + draw.int(0, 5)];
}

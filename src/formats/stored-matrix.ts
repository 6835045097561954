import type { PackedLayout } from '../ops/dequantize.js';
import type { CodeOrder } from '../ops/repack.js';
import type { Keys } from './keys.js';
import type { CheckpointTensor, StoredTensors } from './stored-tensors.js';

/** A matrix as a quantised checkpoint stores it; src/model/load-weights.ts brings it into the order that kernels read. */
export interface StoredMatrix extends PackedLayout {
  readonly codes: CheckpointTensor;
  readonly order: CodeOrder | 'natural';
  readonly scales: StoredScales;
  /** Each column's group, where these are not in order. */
  readonly columnGroup: Uint32Array<ArrayBuffer> | null;
}

/** A matrix of floats that is quantised as it is loaded. */
export interface FloatsToPack extends PackedLayout {
  readonly floats: CheckpointTensor;
}

export type StoredScales =
  /** F32, as they are read. */
  | { readonly kind: 'plain'; readonly scales: CheckpointTensor }
  /** map[absmax] · nestedAbsmax + offset, `block` of them sharing one nestedAbsmax. */
  | {
      readonly kind: 'nested';
      readonly absmax: CheckpointTensor;
      readonly map: CheckpointTensor;
      readonly nestedAbsmax: CheckpointTensor;
      readonly block: number;
      readonly offset: number;
    }
  /** A scale and a bias for each group, both [n, groups]. */
  | { readonly kind: 'biased'; readonly scales: CheckpointTensor; readonly biases: CheckpointTensor }
  /** scales [groups, n] and the codes that mean zero [groups, n / 8], packed as the matrix; `add` belongs to each word. */
  | {
      readonly kind: 'zeroed';
      readonly scales: CheckpointTensor;
      readonly zeros: CheckpointTensor;
      readonly order: 'gptq' | 'awq';
      readonly add: number;
    };

/** How the matrix [n, k] whose weight has this name is stored; null where it was left as floats. Throws InputError. */
export type MatrixReader = (weights: StoredTensors, name: string, n: number, k: number) => Promise<StoredMatrix | null>;

/** A format of quantised checkpoints, for reading. */
export interface QuantisedReader {
  /** `quant_method` of config.json; MLX names none. */
  readonly method: 'bitsandbytes' | 'gptq' | 'awq' | null;
  /** Checks config.json's settings. Throws InputError naming file and key. */
  readonly read: (settings: Keys) => MatrixReader;
}

/** Of a group size that config.json gives, what does not fit a matrix. */
export function checkGroup(settings: Keys, key: string, group: number, name: string, k: number): void {
  if (group % 8 !== 0 || k % group !== 0)
    throw settings.error(key, `a multiple of 8 that divides the ${k} columns of ${name}`);
}

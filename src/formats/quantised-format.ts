import type { TensorDeclaration } from './safetensors.js';
import type { TensorPiece } from './safetensors-writer.js';

/** A matrix [out, in] of a checkpoint that is to be quantised, as it stands there. */
export interface FloatMatrix {
  /** Ends in `.weight`. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: 'F32' | 'F16' | 'BF16';
}

/** How others' checkpoints store quantised matrices, for writing them. */
export interface QuantisedFormat {
  /** Which matrices it quantises, and how: src/model/quantized-layouts.ts. */
  readonly packing: 'nf4' | 'int4' | 'int8';
  /** Numbers of a row, or of the flattened matrix, that share a scale. */
  readonly group: number;
  /** `__metadata__` of the files. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The tensors that stand for a matrix. */
  tensors(matrix: FloatMatrix): TensorDeclaration[];
  /** Bytes of codes as the device packs them (the first number in the low bits), as the format has them. */
  pack(codes: Uint8Array): Uint8Array;
  /** All tensors of a matrix but its codes, from what the device makes of it: (scale, offset) or, for NF4, scale. */
  scales(matrix: FloatMatrix, scales: Float32Array): Iterable<TensorPiece>;
  /** What config.json says; `dtype` is that of the matrices. */
  config(dtype: FloatMatrix['dtype']): Record<string, unknown>;
}

// 4-bit checkpoints as bitsandbytes and transformers write them (QuantState.as_dict, BitsAndBytesConfig.to_dict):
// https://github.com/bitsandbytes-foundation/bitsandbytes/blob/main/bitsandbytes/functional.py

import type { FloatMatrix, QuantisedFormat } from './quantised-format.js';
import type { TensorDeclaration } from './safetensors.js';
import type { TensorPiece } from './safetensors-writer.js';

/** Numbers that share an absmax, and absmaxes that share one of their own. */
const BLOCK = 64;
const NESTED_BLOCK = 256;

/** NormalFloat of 4 bits (QLoRA, Dettmers et al. 2023, appendix E), as F32. */
export const NF4_LEVELS = Float32Array.of(
  -1.0,
  -0.6961928009986877,
  -0.5250730514526367,
  -0.39491748809814453,
  -0.28444138169288635,
  -0.18477343022823334,
  -0.09105003625154495,
  0.0,
  0.07958029955625534,
  0.16093020141124725,
  0.24611230194568634,
  0.33791524171829224,
  0.44070982933044434,
  0.5626170039176941,
  0.7229568362236023,
  1.0,
);

/**
 * The 256 levels of bitsandbytes' signed dynamic type, ascending: 0, 1, and ± the means of 2^i equal parts of
 * [0.1, 1] times 10^(i − 6), i = 0 … 6 (Dettmers et al. 2022, 8-bit Optimizers, section 1.3).
 */
export function dynamicLevels(): Float32Array {
  const levels = [0, 1];
  for (let i = 0; i < 7; i++) {
    for (let part = 0; part < 2 ** i; part++) {
      const mean = 0.1 + (0.9 * (part + 0.5)) / 2 ** i;
      levels.push(mean * 10 ** (i - 6), -mean * 10 ** (i - 6));
    }
  }
  return Float32Array.from(levels).sort();
}

export interface NestedAbsmax {
  /** Of each absmax, into the dynamic levels. */
  readonly codes: Uint8Array;
  /** The mean of all, taken off first. */
  readonly offset: number;
  /** Of each block of 256: the largest magnitude of what is left. */
  readonly absmax: Float32Array;
}

/** Double quantisation (QLoRA, section 3): absmax ≈ dynamicLevels[code] · nested absmax + offset. */
export function quantizeAbsmax(absmax: Float32Array, levels: Float32Array): NestedAbsmax {
  const offset = Math.fround(absmax.reduce((sum, value) => sum + value, 0) / absmax.length);
  const codes = new Uint8Array(absmax.length);
  const nested = new Float32Array(Math.ceil(absmax.length / NESTED_BLOCK));
  for (const [block] of nested.entries()) {
    const end = Math.min((block + 1) * NESTED_BLOCK, absmax.length);
    let largest = 0;
    for (let i = block * NESTED_BLOCK; i < end; i++)
      largest = Math.max(largest, Math.abs(Math.fround(absmax[i] - offset)));
    nested[block] = largest;
    for (let i = block * NESTED_BLOCK; i < end; i++)
      codes[i] = nearest(levels, largest === 0 ? 0 : Math.fround(absmax[i] - offset) / largest);
  }
  return { codes, offset, absmax: nested };
}

/** Index of the level nearest to x, the lower one of two. */
function nearest(levels: Float32Array, x: number): number {
  let [low, high] = [0, levels.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (levels[middle] < x) low = middle;
    else high = middle;
  }
  return x - levels[low] <= levels[high] - x ? low : high;
}

/**
 * bitsandbytes' NF4, blocks of 64 numbers, absmaxes in F32 or, with `doubleQuant`, in 8 bits. Embedding and head are left
 * as they are.
 */
export function nf4Format(doubleQuant: boolean): QuantisedFormat {
  return {
    packing: 'nf4',
    group: BLOCK,
    metadata: { format: 'pt' },
    tensors: (matrix) => tensorsOf(matrix, doubleQuant),
    pack: swapNibbles,
    scales: (matrix, absmax) => piecesOf(matrix, absmax, doubleQuant),
    config: (dtype) => ({ quantization_config: configOf(dtype, doubleQuant) }),
  };
}

function tensorsOf(matrix: FloatMatrix, doubleQuant: boolean): TensorDeclaration[] {
  const { name, shape } = matrix;
  const numbers = shape[0] * shape[1];
  const blocks = Math.ceil(numbers / BLOCK);
  const nested: TensorDeclaration[] = [
    { name: `${name}.nested_absmax`, dtype: 'F32', shape: [Math.ceil(blocks / NESTED_BLOCK)] },
    { name: `${name}.nested_quant_map`, dtype: 'F32', shape: [256] },
  ];
  return [
    { name, dtype: 'U8', shape: [numbers / 2, 1] },
    { name: `${name}.absmax`, dtype: doubleQuant ? 'U8' : 'F32', shape: [blocks] },
    { name: `${name}.quant_map`, dtype: 'F32', shape: [16] },
    ...(doubleQuant ? nested : []),
    { name: `${name}.${STATE}`, dtype: 'U8', shape: [stateOf(matrix, doubleQuant ? 0 : null).length] },
  ];
}

/** The first number of a byte stands in its high bits. */
function swapNibbles(codes: Uint8Array): Uint8Array {
  const words = new Uint32Array(codes.slice().buffer);
  for (let i = 0; i < words.length; i++) words[i] = ((words[i] & 0x0f0f0f0f) << 4) | ((words[i] >>> 4) & 0x0f0f0f0f);
  return new Uint8Array(words.buffer);
}

function* piecesOf(matrix: FloatMatrix, absmax: Float32Array, doubleQuant: boolean): Generator<TensorPiece> {
  const { name } = matrix;
  const floats = (suffix: string, values: Float32Array): TensorPiece => ({
    name: `${name}.${suffix}`,
    bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  });
  yield floats('quant_map', NF4_LEVELS);
  if (!doubleQuant) {
    yield floats('absmax', absmax);
    yield { name: `${name}.${STATE}`, bytes: stateOf(matrix, null) };
    return;
  }
  const levels = dynamicLevels();
  const nested = quantizeAbsmax(absmax, levels);
  yield { name: `${name}.absmax`, bytes: nested.codes };
  yield floats('nested_absmax', nested.absmax);
  yield floats('nested_quant_map', levels);
  yield { name: `${name}.${STATE}`, bytes: stateOf(matrix, nested.offset) };
}

/** Name of a matrix's state, behind the weight's. */
export const STATE = 'quant_state.bitsandbytes__nf4';
const TORCH_TYPES = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' } as const;

/** The JSON text of a matrix's state; with an offset padded with spaces, so that its length does not depend on it. */
function stateOf({ shape, dtype }: FloatMatrix, offset: number | null): Uint8Array {
  const state = { quant_type: 'nf4', blocksize: BLOCK, dtype: TORCH_TYPES[dtype], shape };
  if (offset === null) return new TextEncoder().encode(JSON.stringify(state));
  const nested = { nested_blocksize: NESTED_BLOCK, nested_dtype: 'float32', nested_offset: offset };
  const longest = JSON.stringify({ ...state, ...nested, nested_offset: 0 }).length + 24;
  return new TextEncoder().encode(JSON.stringify({ ...state, ...nested }).padEnd(longest));
}

function configOf(dtype: FloatMatrix['dtype'], doubleQuant: boolean): Record<string, unknown> {
  return {
    _load_in_4bit: true,
    _load_in_8bit: false,
    bnb_4bit_compute_dtype: TORCH_TYPES[dtype],
    bnb_4bit_quant_storage: 'uint8',
    bnb_4bit_quant_type: 'nf4',
    bnb_4bit_use_double_quant: doubleQuant,
    llm_int8_enable_fp32_cpu_offload: false,
    llm_int8_has_fp16_weight: false,
    llm_int8_skip_modules: null,
    llm_int8_threshold: 6.0,
    load_in_4bit: true,
    load_in_8bit: false,
    quant_method: 'bitsandbytes',
  };
}

// GGUF version 3, the file format of llama.cpp: metadata, descriptions of tensors, then their data.
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

import { InputError } from '../errors.js';
import { float32ToFloat16 } from './half.js';
import { fromFloat32 } from './safetensors.js';

/** Types of tensors written here, with ggml's numbers for them. */
const TENSOR_TYPES = { F32: 0, F16: 1, Q8_0: 8, BF16: 30 } as const;
export type GgufType = keyof typeof TENSOR_TYPES;

/** ggml's numbers for what most of a file's tensors are: `general.file_type`. */
export const GGUF_FILE_TYPES = { F32: 0, F16: 1, Q8_0: 7, BF16: 32 } as const satisfies Record<GgufType, number>;

/** Version of ggml's quantised types: `general.quantization_version`. */
export const GGUF_QUANTIZATION_VERSION = 2;

const VALUE_TYPES = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, array: 9 } as const;

type GgufScalar =
  | { readonly type: 'uint32' | 'int32' | 'float32'; readonly value: number }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'string'; readonly value: string };

/** A value of the metadata. */
export type GgufValue =
  | GgufScalar
  | { readonly type: 'array'; readonly of: 'uint32' | 'int32' | 'float32'; readonly value: readonly number[] }
  | { readonly type: 'array'; readonly of: 'string'; readonly value: readonly string[] };

/** A tensor to write: [columns], or [rows, columns] row by row, which GGUF's own order of sizes turns round. */
export interface GgufTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly type: GgufType;
  /** Called once, when the tensor's turn has come. */
  readonly values: () => Float32Array | Promise<Float32Array>;
}

/** Bytes that the data section and every tensor in it are aligned to. */
const ALIGNMENT = 32;
/** Elements of a block of Q8_0: an f16 scale and as many signed bytes. */
const Q8_BLOCK = 32;

/**
 * The type of a matrix where `wanted` is asked for: rows that are no whole blocks of Q8_0 become F16, and vectors F32, as
 * llama.cpp's converter has it.
 */
export function ggufTypeOf(wanted: GgufType, shape: readonly number[]): GgufType {
  if (shape.length < 2) return 'F32';
  return wanted === 'Q8_0' && shape[shape.length - 1] % Q8_BLOCK !== 0 ? 'F16' : wanted;
}

/** The bytes of a GGUF file, in pieces. Throws InputError when a tensor's values have not the length of its shape. */
export async function* encodeGguf(
  metadata: Readonly<Record<string, GgufValue>>,
  tensors: readonly GgufTensor[],
): AsyncGenerator<Uint8Array> {
  const head = new ByteWriter();
  head.bytes(new TextEncoder().encode('GGUF'));
  head.uint32(3);
  head.uint64(tensors.length);
  head.uint64(Object.keys(metadata).length);
  for (const [key, value] of Object.entries(metadata)) {
    head.string(key);
    head.uint32(VALUE_TYPES[value.type]);
    writeValue(head, value);
  }
  let offset = 0;
  for (const { name, shape, type } of tensors) {
    head.string(name);
    head.uint32(shape.length);
    for (const size of [...shape].reverse()) head.uint64(size);
    head.uint32(TENSOR_TYPES[type]);
    head.uint64(offset);
    offset += aligned(tensorBytes(type, shape));
  }
  head.pad(ALIGNMENT);
  yield head.finish();
  for (const { name, shape, type, values } of tensors) {
    const data = encodeTensor(name, type, await values());
    const wanted = tensorBytes(type, shape);
    if (data.length !== wanted)
      throw new InputError(`tensor ${name} has ${data.length} bytes, its shape takes ${wanted}`);
    yield data;
    if (aligned(wanted) > wanted) yield new Uint8Array(aligned(wanted) - wanted);
  }
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

function tensorBytes(type: GgufType, shape: readonly number[]): number {
  const elements = shape.reduce((product, size) => product * size, 1);
  return type === 'Q8_0' ? (elements / Q8_BLOCK) * (Q8_BLOCK + 2) : elements * (type === 'F32' ? 4 : 2);
}

function encodeTensor(name: string, type: GgufType, values: Float32Array): Uint8Array {
  return type === 'Q8_0' ? encodeQ8(values) : fromFloat32(type, values, name);
}

/** Blocks of 32: a scale d = max |x| / 127 in f16, then round(x / d), halves away from zero; in f32, as ggml. */
function encodeQ8(values: Float32Array): Uint8Array {
  const blocks = values.length / Q8_BLOCK;
  const bytes = new Uint8Array(blocks * (Q8_BLOCK + 2));
  const view = new DataView(bytes.buffer);
  for (let block = 0; block < blocks; block++) {
    const of = values.subarray(block * Q8_BLOCK, (block + 1) * Q8_BLOCK);
    const scale = Math.fround(of.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127);
    const inverse = scale > 0 ? Math.fround(1 / scale) : 0;
    const at = block * (Q8_BLOCK + 2);
    view.setUint16(at, float32ToFloat16(Float32Array.of(scale))[0], true);
    for (let i = 0; i < Q8_BLOCK; i++) {
      const scaled = Math.fround(of[i] * inverse);
      view.setInt8(at + 2 + i, Math.sign(scaled) * Math.round(Math.abs(scaled)));
    }
  }
  return bytes;
}

function writeValue(out: ByteWriter, value: GgufValue): void {
  switch (value.type) {
    case 'array':
      out.uint32(VALUE_TYPES[value.of]);
      out.uint64(value.value.length);
      for (const item of value.value) writeValue(out, { type: value.of, value: item } as GgufScalar);
      break;
    case 'string':
      out.string(value.value);
      break;
    case 'bool':
      out.bytes(Uint8Array.of(value.value ? 1 : 0));
      break;
    case 'float32':
      out.float32(value.value);
      break;
    default:
      out.uint32(value.value); // two's complement, of an int32 too
  }
}

/** Little-endian numbers one after another. */
class ByteWriter {
  #bytes = new Uint8Array(1024);
  #length = 0;

  #extend(by: number): DataView {
    const end = this.#length + by;
    if (end > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(end, 2 * this.#bytes.length));
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    const view = new DataView(this.#bytes.buffer, this.#length, by);
    this.#length = end;
    return view;
  }

  uint32(value: number): void {
    this.#extend(4).setUint32(0, value, true);
  }

  uint64(value: number): void {
    this.#extend(8).setBigUint64(0, BigInt(value), true);
  }

  float32(value: number): void {
    this.#extend(4).setFloat32(0, value, true);
  }

  bytes(bytes: Uint8Array): void {
    const { byteOffset } = this.#extend(bytes.length);
    this.#bytes.set(bytes, byteOffset);
  }

  string(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.uint64(bytes.length);
    this.bytes(bytes);
  }

  pad(to: number): void {
    this.#extend(Math.ceil(this.#length / to) * to - this.#length);
  }

  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }
}

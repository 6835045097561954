// The safetensors format: 8 bytes of header length, a JSON header, tensor bytes without holes.
// https://github.com/huggingface/safetensors#format

import { InputError } from '../errors.js';
import type { ByteSource } from './bytes.js';
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from './half.js';
import { parseJson } from './json.js';
import { isRecord } from './keys.js';

/** Bytes of an element. */
export const DTYPE_BYTES = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
} as const;

export type Dtype = keyof typeof DTYPE_BYTES;

/** Where a tensor lies: `begin` and `end` are offsets from the start of the file, in bytes. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** `__metadata__`. */
  readonly metadata: ReadonlyMap<string, string>;
}

/** A tensor to write. */
export interface TensorDeclaration {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

/** A tensor to write with its bytes (little-endian, row-major), or what yields them. */
export interface TensorData extends TensorDeclaration {
  readonly data: Uint8Array | (() => AsyncIterable<Uint8Array>);
}

/** The reference implementation's limit. */
const MAX_HEADER_BYTES = 100_000_000;

/**
 * Reads and validates the header; no tensor is read. Throws InputError naming file and tensor when the file is
 * truncated, the header is no JSON of the format, a name stands twice, a dtype is unknown, a length is not that of the
 * shape, or the tensors do not cover the rest of the file without overlap or hole.
 */
export async function readHeader(source: ByteSource): Promise<SafetensorsHeader> {
  const file = source.name;
  if (source.size < 8) throw new InputError(`${file} is not a safetensors file: it has ${source.size} bytes`);
  const prefix = new Uint8Array(8);
  await source.read(0, prefix);
  const length = new DataView(prefix.buffer).getBigUint64(0, true);
  if (length > MAX_HEADER_BYTES)
    throw new InputError(`${file}: its header would take ${length} bytes; this is no safetensors file`);
  const dataStart = 8 + Number(length);
  if (dataStart > source.size)
    throw new InputError(`${file} is truncated: its header ends at byte ${dataStart}, the file at ${source.size}`);
  const bytes = new Uint8Array(dataStart - 8);
  await source.read(8, bytes);
  const header = parseHeader(file, bytes);
  const tensors = new Map<string, TensorInfo>();
  let metadata = new Map<string, string>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') metadata = parseMetadata(file, entry);
    else tensors.set(name, parseEntry(file, name, entry, dataStart));
  }
  checkCoverage(file, tensors, dataStart, source.size);
  return { tensors, metadata };
}

function parseHeader(file: string, bytes: Uint8Array): Record<string, unknown> {
  let text: string;
  let header: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    header = parseJson(text);
  } catch (error) {
    throw new InputError(`${file} is not a safetensors file: its header is not JSON: ${(error as Error).message}`);
  }
  if (!isRecord(header)) throw new InputError(`${file} is not a safetensors file: its header is not an object`);
  const names = new Set<string>();
  for (const name of topLevelKeys(text)) {
    if (names.has(name)) throw new InputError(`${file}: tensor ${name} stands twice in the header`);
    names.add(name);
  }
  return header;
}

/** The keys of a valid JSON object in order; JSON.parse alone would keep the last of equal ones and say nothing. */
function* topLevelKeys(json: string): Generator<string> {
  let depth = 0;
  for (let i = 0; i < json.length; i++) {
    const c = json[i];
    if (c === '{' || c === '[') depth++;
    else if (c === '}' || c === ']') depth--;
    else if (c === '"') {
      const start = i++;
      while (json[i] !== '"') i += json[i] === '\\' ? 2 : 1;
      if (depth !== 1) continue;
      let next = i + 1;
      while (' \t\n\r'.includes(json[next])) next++;
      if (json[next] === ':') yield JSON.parse(json.slice(start, i + 1)) as string;
    }
  }
}

function parseMetadata(file: string, entry: unknown): Map<string, string> {
  const metadata = new Map<string, string>();
  if (!isRecord(entry)) throw new InputError(`${file}: __metadata__ is not an object`);
  for (const [key, value] of Object.entries(entry)) {
    if (typeof value !== 'string') throw new InputError(`${file}: __metadata__ key ${key} is not a string`);
    metadata.set(key, value);
  }
  return metadata;
}

function parseEntry(file: string, name: string, entry: unknown, dataStart: number): TensorInfo {
  if (!isRecord(entry)) throw new InputError(`${file}: tensor ${name} has no description`);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== 'string' || !Object.hasOwn(DTYPE_BYTES, dtype))
    throw new InputError(`${file}: tensor ${name} has unknown dtype ${JSON.stringify(dtype)}`);
  if (!isSizes(shape)) throw new InputError(`${file}: tensor ${name} has no valid shape`);
  if (!isSizes(offsets) || offsets.length !== 2)
    throw new InputError(`${file}: tensor ${name} has no valid data_offsets`);
  const wanted = byteLength(dtype as Dtype, shape);
  const [begin, end] = offsets;
  if (end - begin !== wanted)
    throw new InputError(
      `${file}: tensor ${name} (${dtype} [${shape.join(', ')}]) takes ${wanted} bytes, its data_offsets [${begin}, ${end}] span ${end - begin}`,
    );
  return { name, dtype: dtype as Dtype, shape, begin: dataStart + begin, end: dataStart + end };
}

function checkCoverage(file: string, tensors: Map<string, TensorInfo>, dataStart: number, size: number): void {
  let position = dataStart;
  for (const tensor of [...tensors.values()].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (tensor.end > size)
      throw new InputError(
        `${file} is truncated: tensor ${tensor.name} ends at byte ${tensor.end}, the file at ${size}`,
      );
    if (tensor.begin < position) throw new InputError(`${file}: tensor ${tensor.name} overlaps the one before it`);
    if (tensor.begin > position)
      throw new InputError(`${file}: ${tensor.begin - position} bytes before tensor ${tensor.name} belong to none`);
    position = tensor.end;
  }
  if (position < size) throw new InputError(`${file}: ${size - position} bytes after the last tensor belong to none`);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

/** Bytes of a tensor; infinity or an unsafe integer, equal to no length of a file, when the product is too large. */
export function byteLength(dtype: Dtype, shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, DTYPE_BYTES[dtype]);
}

/** Reads a whole tensor: its bytes as stored. */
export async function readTensor(source: ByteSource, info: TensorInfo): Promise<Uint8Array> {
  const bytes = new Uint8Array(info.end - info.begin);
  await source.read(info.begin, bytes);
  return bytes;
}

/**
 * Converts stored floats; exact but for F64, which is rounded. The result may share memory with `bytes` (F32). Throws
 * InputError for other dtypes.
 */
export function toFloat32(dtype: Dtype, bytes: Uint8Array): Float32Array {
  // Typed arrays want aligned offsets; a copy has offset 0.
  const { buffer, byteOffset } = bytes.byteOffset % 8 === 0 ? bytes : bytes.slice();
  const length = bytes.length / DTYPE_BYTES[dtype];
  switch (dtype) {
    case 'F64':
      return Float32Array.from(new Float64Array(buffer, byteOffset, length));
    case 'F32':
      return new Float32Array(buffer, byteOffset, length);
    case 'F16':
      return float16ToFloat32(new Uint16Array(buffer, byteOffset, length));
    case 'BF16':
      return bfloat16ToFloat32(new Uint16Array(buffer, byteOffset, length));
    default:
      throw new InputError(`${dtype} is not a float type that can be read; F64, F32, F16 and BF16 are`);
  }
}

/** Float types that weights are written in. */
export type FloatDtype = 'F32' | 'F16' | 'BF16';

/**
 * The bytes of floats, rounded to nearest even; may share memory with `values` (F32). Throws InputError naming the tensor
 * when a finite value has no F16.
 */
export function fromFloat32(dtype: FloatDtype, values: Float32Array, name: string): Uint8Array {
  const stored = dtype === 'F32' ? values : dtype === 'F16' ? float32ToFloat16(values) : float32ToBfloat16(values);
  if (dtype === 'F16') refuseOverflow(values, stored, name);
  return new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength);
}

/** Throws InputError naming the tensor when a finite value has become an infinite f16. */
export function refuseOverflow(values: Float32Array, halves: ArrayLike<number>, name: string): void {
  for (let i = 0; i < values.length; i++)
    if ((halves[i] & 0x7fff) === 0x7c00 && Number.isFinite(values[i]))
      throw new InputError(`tensor ${name} holds values over 65,504, which F16 has not: take BF16 or F32`);
}

/**
 * The head of a safetensors file, and where its tensors will lie in it, in order. As the reference implementation:
 * wider dtypes first, so that every tensor is aligned, then by name; the header is padded with spaces to 8 bytes. An
 * empty `metadata` writes none. Throws InputError when a name stands twice.
 */
export function layOutSafetensors(
  tensors: readonly TensorDeclaration[],
  metadata: Readonly<Record<string, string>> = { format: 'pt' },
): { head: Uint8Array; tensors: TensorInfo[] } {
  const sorted = [...tensors].sort(
    (a, b) => DTYPE_BYTES[b.dtype] - DTYPE_BYTES[a.dtype] || (a.name < b.name ? -1 : Number(a.name > b.name)),
  );
  const entries: [string, unknown][] = Object.keys(metadata).length > 0 ? [['__metadata__', metadata]] : [];
  const names = new Set(['__metadata__']);
  const offsets: [number, number][] = [];
  let offset = 0;
  for (const { name, dtype, shape } of sorted) {
    if (names.has(name)) throw new InputError(`tensor name ${name} cannot be written twice to a safetensors file`);
    names.add(name);
    const end = offset + byteLength(dtype, shape);
    entries.push([name, { dtype, shape, data_offsets: [offset, end] }]);
    offsets.push([offset, end]);
    offset = end;
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  const head = new Uint8Array(8 + Math.ceil(json.length / 8) * 8).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(head.length - 8), true);
  head.set(json, 8);
  const placed = sorted.map(({ name, dtype, shape }, i) => {
    const [begin, end] = offsets[i];
    return { name, dtype, shape, begin: head.length + begin, end: head.length + end };
  });
  return { head, tensors: placed };
}

/**
 * The bytes of a safetensors file, in pieces. Throws InputError when a name stands twice or a tensor's data has not the
 * length of its shape.
 */
export async function* encodeSafetensors(
  tensors: readonly TensorData[],
  metadata?: Readonly<Record<string, string>>,
): AsyncGenerator<Uint8Array> {
  const file = layOutSafetensors(tensors, metadata);
  const dataOf = new Map(tensors.map(({ name, data }) => [name, data]));
  yield file.head;
  for (const { name, begin, end } of file.tensors) {
    const data = dataOf.get(name)!;
    let written = 0;
    for await (const chunk of typeof data === 'function' ? data() : [data]) {
      written += chunk.length;
      yield chunk;
    }
    if (written !== end - begin)
      throw new InputError(`tensor ${name} has ${written} bytes, its shape takes ${end - begin}`);
  }
}

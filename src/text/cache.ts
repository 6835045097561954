import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeDirectory, writeFileAtomic } from '../formats/files.js';
import { packageVersion } from '../paths.js';

/** A tokenised data set as it lies in the cache; `stats` are the figures printed with it. */
export interface CachedExamples {
  readonly examples: readonly { readonly ids: Int32Array; readonly labels: Int32Array; readonly weight: number }[];
  readonly stats: Readonly<Record<string, number>>;
}

/**
 * Raise it with every change that makes other examples of the same rows (rows.ts, messages.ts and examples.ts of
 * src/batch, the tokenizer): older entries are then made anew.
 */
export const exampleVersion = 6;

// File: magic, version and the key (40 bytes), u32 length of stats, u32 number of examples, stats as JSON padded with
// spaces to 8 bytes, f64 weights, i32 lengths, i32 ids and i32 labels of all examples in a row, SHA-256 of all before.
const fileVersion = 1;
const magic = 0x5845_584c; // "LXEX"
const headerBytes = 48;
const digestBytes = 32;

/**
 * SHA-256 (hex) of whatever decides the examples: digests of tokenizer and data, options that JSON can write, and
 * this package's version and `exampleVersion`. Keys are sorted, so their order does not matter.
 */
export function exampleCacheKey(
  parts: {
    readonly tokenizerDigest: string;
    readonly dataDigest: string;
    readonly options: Readonly<Record<string, string | number | boolean | null>>;
  },
  versions = { package: packageVersion(), examples: exampleVersion },
): string {
  const options = Object.entries(parts.options).sort(([a], [b]) => (a < b ? -1 : 1));
  const text = JSON.stringify([versions.package, versions.examples, parts.tokenizerDigest, parts.dataDigest, options]);
  return createHash('sha256').update(text).digest('hex');
}

/** Reads the entry of `key`; null when there is none or it is not whole, so that the caller makes it anew. */
export async function readExampleCache(directory: string, key: string): Promise<CachedExamples | null> {
  let file: Buffer;
  try {
    file = await readFile(cacheFile(directory, key));
  } catch {
    return null;
  }
  if (file.length < headerBytes + digestBytes) return null;
  const body = file.subarray(0, file.length - digestBytes);
  if (!createHash('sha256').update(body).digest().equals(file.subarray(body.length))) return null;
  if (body.readUInt32LE(0) !== magic || body.readUInt32LE(4) !== fileVersion) return null;
  if (body.subarray(8, 40).toString('hex') !== key) return null;
  const bytes = body.buffer.slice(body.byteOffset, body.byteOffset + body.length) as ArrayBuffer;
  return decodeExamples(bytes);
}

/** Writes an entry whole or not at all. A cache that can't be written is no error: returns false. */
export async function writeExampleCache(directory: string, key: string, entry: CachedExamples): Promise<boolean> {
  const file = cacheFile(directory, key);
  const body = encodeExamples(key, entry);
  try {
    await makeDirectory(directory);
    await writeFileAtomic(file, inTurn(body, createHash('sha256').update(body).digest()));
    return true;
  } catch {
    return false;
  }
}

async function* inTurn(...parts: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* parts;
}

function cacheFile(directory: string, key: string): string {
  return join(directory, `examples-${key}.bin`);
}

function encodeExamples(key: string, { examples, stats }: CachedExamples): Uint8Array {
  let json = JSON.stringify(stats);
  json += ' '.repeat((8 - (Buffer.byteLength(json) % 8)) % 8);
  const text = Buffer.from(json);
  const tokens = examples.reduce((sum, example) => sum + example.ids.length, 0);
  const bytes = new ArrayBuffer(headerBytes + text.length + 12 * examples.length + 8 * tokens);
  const header = Buffer.from(bytes, 0, headerBytes);
  header.writeUInt32LE(magic, 0);
  header.writeUInt32LE(fileVersion, 4);
  header.set(Buffer.from(key, 'hex'), 8);
  header.writeUInt32LE(text.length, 40);
  header.writeUInt32LE(examples.length, 44);
  new Uint8Array(bytes, headerBytes).set(text);
  let at = headerBytes + text.length;
  new Float64Array(bytes, at, examples.length).set(examples.map((example) => example.weight));
  at += 8 * examples.length;
  new Int32Array(bytes, at, examples.length).set(examples.map((example) => example.ids.length));
  at += 4 * examples.length;
  const ids = new Int32Array(bytes, at, tokens);
  const labels = new Int32Array(bytes, at + 4 * tokens, tokens);
  let token = 0;
  for (const example of examples) {
    ids.set(example.ids, token);
    labels.set(example.labels, token);
    token += example.ids.length;
  }
  return new Uint8Array(bytes);
}

/** The inverse of `encodeExamples`, for bytes whose checksum held. */
function decodeExamples(bytes: ArrayBuffer): CachedExamples {
  const header = Buffer.from(bytes, 0, headerBytes);
  const textBytes = header.readUInt32LE(40);
  const count = header.readUInt32LE(44);
  const stats = JSON.parse(Buffer.from(bytes, headerBytes, textBytes).toString('utf8'));
  let at = headerBytes + textBytes;
  const weights = new Float64Array(bytes, at, count);
  at += 8 * count;
  const lengths = new Int32Array(bytes, at, count);
  at += 4 * count;
  const tokens = (bytes.byteLength - at) / 8;
  const ids = new Int32Array(bytes, at, tokens);
  const labels = new Int32Array(bytes, at + 4 * tokens, tokens);
  let start = 0;
  const examples = Array.from(lengths, (length, i) => {
    const end = start + length;
    const example = { ids: ids.subarray(start, end), labels: labels.subarray(start, end), weight: weights[i] };
    start = end;
    return example;
  });
  return { examples, stats };
}

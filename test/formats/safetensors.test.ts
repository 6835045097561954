import { readdir, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { InputError } from '../../src/errors.js';
import { openFile } from '../../src/formats/files.js';
import {
  DTYPE_BYTES,
  type Dtype,
  encodeSafetensors,
  readHeader,
  readTensor,
  toFloat32,
} from '../../src/formats/safetensors.js';
import { writeSafetensors } from '../../src/formats/safetensors-file.js';
import { bufferSource, collect, GOLDEN, temporaryDirectory } from './helpers.js';

/** A file of a header as given and so many bytes of data. */
function fileOf(header: unknown, dataBytes: number, name = 'bad.safetensors') {
  const json = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return bufferSource(name, bytes);
}

const tensor = (begin: number, end: number, shape = [(end - begin) / 4], dtype = 'F32') => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

test.each<[string, unknown, number, RegExp]>([
  ['offset past the end', { a: tensor(0, 8) }, 4, /truncated: tensor a ends at byte \d+, the file at/],
  ['length not that of the shape', { a: tensor(0, 8, [3]) }, 8, /tensor a \(F32 \[3\]\) takes 12 bytes.* span 8/],
  ['end before begin', { a: tensor(8, 0) }, 8, /tensor a has no valid shape|tensor a .*span -8/],
  ['negative offset', { a: tensor(-4, 4) }, 8, /tensor a has no valid data_offsets/],
  ['fractional offset', { a: tensor(0.5, 4.5, [1]) }, 8, /tensor a has no valid data_offsets/],
  ['three offsets', { a: { dtype: 'F32', shape: [1], data_offsets: [0, 4, 8] } }, 8, /no valid data_offsets/],
  ['unsafe offset', { a: tensor(0, 2 ** 60, [2 ** 58]) }, 8, /tensor a has no valid/],
  ['product of the shape overflows', { a: tensor(0, 0, [2 ** 40, 2 ** 40]) }, 0, /tensor a .*takes 4\.\d+e\+24 bytes/],
  ['negative shape', { a: tensor(0, 4, [-1, -1]) }, 4, /tensor a has no valid shape/],
  ['shape no list', { a: { dtype: 'F32', shape: 1, data_offsets: [0, 4] } }, 4, /tensor a has no valid shape/],
  ['overlap', { a: tensor(0, 8), b: tensor(4, 12) }, 12, /tensor b overlaps/],
  ['the same bytes twice', { a: tensor(0, 8), b: tensor(0, 8) }, 8, /tensor b overlaps/],
  ['hole', { a: tensor(0, 4), b: tensor(8, 12) }, 12, /4 bytes before tensor b belong to none/],
  ['hole at the start', { a: tensor(4, 8) }, 8, /4 bytes before tensor a/],
  ['bytes left over', { a: tensor(0, 4) }, 8, /4 bytes after the last tensor/],
  ['unknown dtype', { a: tensor(0, 4, [1], 'F4') }, 4, /tensor a has unknown dtype "F4"/],
  ['dtype of the prototype', { a: tensor(0, 4, [1], 'constructor') }, 4, /unknown dtype "constructor"/],
  ['tensor no object', { a: null }, 0, /tensor a has no description/],
  ['metadata no strings', { __metadata__: { a: 1 } }, 0, /__metadata__ key a is not a string/],
  ['metadata no object', { __metadata__: [] }, 0, /__metadata__ is not an object/],
  ['header no object', [], 0, /its header is not an object/],
  ['header no JSON', '{"a":', 0, /its header is not JSON/],
  ['header of brackets', '['.repeat(1e6), 0, /its header is not JSON: it is nested more than 100 deep/],
  [
    'name twice',
    `{"a":${JSON.stringify(tensor(0, 4))},"b":${JSON.stringify(tensor(4, 8))},"\\u0061"   :${JSON.stringify(tensor(0, 4))}}`,
    8,
    /tensor a stands twice/,
  ],
])('refuses a file with %s', async (_, header, dataBytes, message) => {
  const error = await readHeader(fileOf(header, dataBytes)).catch((error) => error);
  expect(error).toBeInstanceOf(InputError);
  expect(error.message).toMatch(message);
  expect(error.message).toMatch(/^bad\.safetensors/);
});

test('refuses headers longer than the file or the limit before reading them, and text that is not UTF-8', async () => {
  const lying = (length: bigint, bytes = 16) => {
    const data = new Uint8Array(bytes);
    new DataView(data.buffer).setBigUint64(0, length, true);
    return bufferSource('x', data);
  };
  await expect(readHeader(lying(9n))).rejects.toThrow(/x is truncated: its header ends at byte 17, the file at 16/);
  await expect(readHeader(lying(2n ** 64n - 1n))).rejects.toThrow(/header would take 18446744073709551615 bytes/);
  await expect(readHeader(lying(100_000_001n))).rejects.toThrow(/would take/);
  await expect(readHeader(bufferSource('x', new Uint8Array(5)))).rejects.toThrow(/it has 5 bytes/);
  const latin1 = fileOf('{"a":"?"}', 0);
  const bytes = new Uint8Array(latin1.size);
  await latin1.read(0, bytes);
  bytes[14] = 0xff;
  await expect(readHeader(bufferSource('x', bytes))).rejects.toThrow(/not JSON/);
});

test('names that JavaScript treats as special are names like others', async () => {
  const header = await readHeader(fileOf('{"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1));
  expect([...header.tensors.keys()]).toEqual(['__proto__']);
});

test('nested strings and keys do not count as top-level names', async () => {
  const header = await readHeader(
    fileOf('{"__metadata__":{"a":"{\\"b\\": [","b":"a"},"a":{"shape":[],"dtype":"U8","data_offsets":[0,1]}}', 1),
  );
  expect(header.metadata.get('a')).toBe('{"b": [');
  expect(header.tensors.get('a')?.shape).toEqual([]);
});

const tensorsOfAllTypes = (Object.keys(DTYPE_BYTES) as Dtype[]).map((dtype, i) => ({
  name: `${i % 2 ? 'x' : 'a'}.${dtype}`,
  dtype,
  shape: [3, i % 4],
  data: Uint8Array.from({ length: 3 * (i % 4) * DTYPE_BYTES[dtype] }, (_, j) => (i * 31 + j) % 256),
}));

test('what is written is read back: every dtype, empty tensors, streams, aligned', async () => {
  const path = join(await temporaryDirectory(), 'out.safetensors');
  const streamed = tensorsOfAllTypes.map((tensor) => ({
    ...tensor,
    data: async function* () {
      for (let i = 0; i < tensor.data.length; i += 5) yield tensor.data.subarray(i, i + 5);
    },
  }));
  await writeSafetensors(path, streamed);
  expect(await readFile(path)).toEqual(Buffer.from(await collect(encodeSafetensors(tensorsOfAllTypes))));
  const source = await openFile(path);
  const { tensors, metadata } = await readHeader(source);
  expect([...metadata]).toEqual([['format', 'pt']]);
  expect(tensors.size).toBe(tensorsOfAllTypes.length);
  for (const { name, dtype, shape, data } of tensorsOfAllTypes) {
    const info = tensors.get(name)!;
    expect(info).toMatchObject({ name, dtype, shape });
    expect(info.begin % DTYPE_BYTES[dtype]).toBe(0);
    expect(await readTensor(source, info)).toEqual(data);
  }
  await source.close();
});

test('refuses to write wrong lengths and names that stand twice, and leaves no file', async () => {
  const dir = await temporaryDirectory();
  const path = join(dir, 'out.safetensors');
  const a = { name: 'a', dtype: 'F32', shape: [2], data: new Uint8Array(8) } as const;
  await expect(writeSafetensors(path, [{ ...a, shape: [3] }])).rejects.toThrow(/tensor a has 8 bytes.* 12/);
  await expect(writeSafetensors(path, [a, a])).rejects.toThrow(/a cannot be written twice/);
  expect(await readdir(dir)).toEqual([]);
});

test('a file cut anywhere is refused', async () => {
  const whole = await collect(encodeSafetensors(tensorsOfAllTypes.slice(0, 5)));
  for (let length = 0; length < whole.length; length++)
    await expect(readHeader(bufferSource('cut', whole.subarray(0, length)))).rejects.toThrow(InputError);
});

test('a file with any byte of its header changed gives an InputError or a valid header, never another error', async () => {
  const whole = await collect(encodeSafetensors(tensorsOfAllTypes.slice(0, 4)));
  const headerEnd = 8 + Number(new DataView(whole.buffer).getBigUint64(0, true));
  let refused = 0;
  for (let i = 0; i < headerEnd; i++)
    for (const byte of [0, 0x22, 0x39, 0x7b, 0xff]) {
      const bytes = whole.slice();
      bytes[i] = byte;
      const error = await readHeader(bufferSource('changed', bytes)).then(
        () => null,
        (error: unknown) => error,
      );
      if (error === null) continue;
      expect(error).toBeInstanceOf(InputError);
      refused++;
    }
  expect(refused).toBeGreaterThan(headerEnd);
});

test('converts floats, at any byte offset', () => {
  const values = [1.5, -2.25, 0, 1 / 3];
  const bytes = (data: ArrayBufferView) => {
    const shifted = new Uint8Array(data.byteLength + 1);
    shifted.set(new Uint8Array(data.buffer), 1);
    return shifted.subarray(1);
  };
  expect([...toFloat32('F32', bytes(new Float32Array(values)))]).toEqual(values.map(Math.fround));
  expect([...toFloat32('F64', bytes(new Float64Array(values)))]).toEqual(values.map(Math.fround));
  expect([...toFloat32('F16', bytes(Uint16Array.of(0x3e00, 0xc080)))]).toEqual([1.5, -2.25]);
  expect([...toFloat32('BF16', bytes(Uint16Array.of(0x3fc0, 0xc010)))]).toEqual([1.5, -2.25]);
  expect(() => toFloat32('I32', new Uint8Array(4))).toThrow(InputError);
});

test('the npm package safetensors reads what we write', async () => {
  const { SafeTensor } = createRequire(import.meta.url)('safetensors') as {
    SafeTensor: new (
      bytes: Uint8Array,
    ) => {
      metadata: Map<string, { dtype: string; shape: number[] }>;
      getTensor(name: string): Uint8Array;
    };
  };
  // Without metadata: that package takes __metadata__ for a tensor.
  const theirs = new SafeTensor(await collect(encodeSafetensors(tensorsOfAllTypes, {})));
  expect(theirs.metadata.size).toBe(tensorsOfAllTypes.length);
  for (const { name, dtype, shape, data } of tensorsOfAllTypes) {
    expect(theirs.metadata.get(name)).toMatchObject({ dtype, shape });
    expect(theirs.getTensor(name)).toEqual(data);
  }
});

test("another writer's file, read and written again, holds the same tensors", async () => {
  const path = join(GOLDEN, 'llama/adapter/adapter_model.safetensors');
  const source = await openFile(path);
  const { tensors } = await readHeader(source);
  const copies = await Promise.all(
    [...tensors.values()].map(async ({ name, dtype, shape, ...info }) => ({
      name,
      dtype,
      shape,
      data: await readTensor(source, { name, dtype, shape, ...info }),
    })),
  );
  const copy = join(await temporaryDirectory(), 'copy.safetensors');
  await writeFile(copy, await collect(encodeSafetensors(copies)));
  expect((await readFile(copy)).equals(await readFile(path))).toBe(true);
  await source.close();
});

import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openFile, writeDirectoryAtomic } from '../../src/formats/files.js';
import { readHeader, readTensor, type TensorDeclaration } from '../../src/formats/safetensors.js';
import { writeShards } from '../../src/formats/safetensors-writer.js';
import { temporaryDirectory } from './helpers.js';

const tensors = [
  { name: 'b', dtype: 'U8', shape: [3, 5] },
  { name: 'a', dtype: 'F32', shape: [4] },
  { name: 'c', dtype: 'BF16', shape: [6] },
  { name: 'd', dtype: 'U8', shape: [1] },
  { name: 'empty', dtype: 'F32', shape: [0, 2] },
] as const satisfies TensorDeclaration[];
const [b, a, c, d, empty] = tensors;
const sizes: Record<string, number> = { a: 16, b: 15, c: 12, d: 1, empty: 0 };

const bytesOf = (name: string) => Uint8Array.from({ length: sizes[name] }, (_, i) => name.charCodeAt(0) + i);

/** Three bytes at a time of each tensor by turns. */
async function* byTurns() {
  for (let at = 0; at < 16; at += 3)
    for (const { name } of tensors) if (at < sizes[name]) yield { name, bytes: bytesOf(name).subarray(at, at + 3) };
}

async function* onePiece(name: string, length: number) {
  yield { name, bytes: new Uint8Array(length) };
}

/** The names that a file holds, after comparing their bytes. */
async function namesIn(path: string): Promise<string[]> {
  const source = await openFile(path);
  const header = await readHeader(source);
  for (const [name, info] of header.tensors) {
    expect(await readTensor(source, info)).toEqual(bytesOf(name));
    expect(info).toMatchObject(tensors.find((tensor) => tensor.name === name)!);
  }
  await source.close();
  return [...header.tensors.keys()].sort();
}

test('one file where it fits, tensors in any order', async () => {
  const dir = await temporaryDirectory();
  await writeShards(dir, tensors, byTurns(), { metadata: { format: 'mlx' } });
  expect(await readdir(dir)).toEqual(['model.safetensors']);
  expect(await namesIn(join(dir, 'model.safetensors'))).toEqual(['a', 'b', 'c', 'd', 'empty']);
  const source = await openFile(join(dir, 'model.safetensors'));
  expect([...(await readHeader(source)).metadata]).toEqual([['format', 'mlx']]);
  await source.close();
});

test('shards in the order given, groups together, and an index of all', async () => {
  const dir = await temporaryDirectory();
  await writeShards(dir, [b, [a, c, d], empty], byTurns(), { maxShardBytes: 29 });
  const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
  expect((await readdir(dir)).sort()).toEqual([...shards, 'model.safetensors.index.json']);
  expect(await namesIn(join(dir, shards[0]))).toEqual(['b']);
  expect(await namesIn(join(dir, shards[1]))).toEqual(['a', 'c', 'd', 'empty']);
  expect(JSON.parse(await readFile(join(dir, 'model.safetensors.index.json'), 'utf8'))).toEqual({
    metadata: { total_size: 44 },
    weight_map: { b: shards[0], a: shards[1], c: shards[1], d: shards[1], empty: shards[1] },
  });
});

test('refuses wrong lengths, unknown names and names that stand twice', async () => {
  const write = async (list: TensorDeclaration[], name: string, length: number) =>
    writeShards(await temporaryDirectory(), list, onePiece(name, length));
  await expect(write([a], 'a', 15)).rejects.toThrow(/tensor a has 15 bytes, its shape takes 16/);
  await expect(write([a], 'a', 17)).rejects.toThrow(/tensor a has 17 bytes, its shape takes 16/);
  await expect(write([a], 'x', 16)).rejects.toThrow(/tensor x has data, but was not announced/);
  await expect(write([a, a], 'a', 16)).rejects.toThrow(/a cannot be written twice/);
  const spread = writeShards(await temporaryDirectory(), [a, a], onePiece('a', 16), { maxShardBytes: 16 });
  await expect(spread).rejects.toThrow(/a cannot be written twice/);
});

test('a directory appears whole or not at all, and none is written over', async () => {
  const parent = await temporaryDirectory();
  const path = join(parent, 'made/out');
  await writeDirectoryAtomic(path, async (dir) => {
    expect(await readdir(parent)).toEqual(['made']);
    expect(await readdir(join(parent, 'made'))).not.toContain('out');
    await writeFile(join(dir, 'file'), 'x');
  });
  expect(await readdir(path)).toEqual(['file']);
  await expect(writeDirectoryAtomic(path, async () => {})).rejects.toThrow(/out exists already: name a new/);
  expect(await readdir(path)).toEqual(['file']);
  const broken = writeDirectoryAtomic(join(parent, 'broken'), async (dir) => {
    await writeFile(join(dir, 'file'), 'x');
    throw new Error('device lost');
  });
  await expect(broken).rejects.toThrow('device lost');
  await mkdir(join(parent, 'empty'));
  await writeDirectoryAtomic(join(parent, 'empty'), (dir) => writeFile(join(dir, 'file'), 'x'));
  expect(await readdir(join(parent, 'empty'))).toEqual(['file']);
  expect((await readdir(parent)).sort()).toEqual(['empty', 'made']);
});

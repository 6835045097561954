import { mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { exampleCacheKey, exampleVersion, readExampleCache, writeExampleCache } from '../../src/text/cache.js';

const entry = {
  examples: [
    { ids: Int32Array.of(1, 2, 3), labels: Int32Array.of(-100, 2, 3), weight: 0.1 },
    { ids: Int32Array.of(7), labels: Int32Array.of(-100), weight: 2 },
  ],
  stats: { rows: 2, dropped: 0 },
};
const key = exampleCacheKey({ tokenizerDigest: 'a', dataDigest: 'b', options: { maxLength: 8, overlong: 'drop' } });
const newDirectory = async () => join(await mkdtemp(join(tmpdir(), 'lexalign-cache-')), 'deep', 'cache');

describe('example cache', () => {
  it('gives back what was written, and nothing under another key', async () => {
    const directory = await newDirectory();
    expect(await readExampleCache(directory, key)).toBe(null);
    expect(await writeExampleCache(directory, key, entry)).toBe(true);
    expect(await readExampleCache(directory, key)).toEqual(entry);
    expect(
      await readExampleCache(
        directory,
        key.replace(/^./, (c) => (c === '0' ? '1' : '0')),
      ),
    ).toBe(null);
    expect((await readdir(directory)).length).toBe(1);
    expect(await writeExampleCache(directory, key, { examples: [], stats: {} })).toBe(true);
    expect(await readExampleCache(directory, key)).toEqual({ examples: [], stats: {} });
  });

  it('takes every damaged byte and every cut for a miss', async () => {
    const directory = await newDirectory();
    await writeExampleCache(directory, key, entry);
    const file = join(directory, (await readdir(directory))[0]);
    const good = await readFile(file);
    for (let i = 0; i < good.length; i++) {
      const bad = Buffer.from(good);
      bad[i] ^= 1;
      await writeFile(file, bad);
      expect(await readExampleCache(directory, key), `byte ${i}`).toBe(null);
    }
    for (const length of [0, 10, 79, 80, good.length - 1]) {
      await writeFile(file, good.subarray(0, length));
      expect(await readExampleCache(directory, key), `length ${length}`).toBe(null);
    }
    await writeExampleCache(directory, key, entry);
    expect(await readExampleCache(directory, key)).toEqual(entry);
  });

  it('has a key for each tokenizer, data and option, whatever the order of options', () => {
    const parts = { tokenizerDigest: 'a', dataDigest: 'b', options: { overlong: 'drop', maxLength: 8 } };
    expect(exampleCacheKey(parts)).toBe(key);
    expect(exampleCacheKey({ ...parts, tokenizerDigest: 'c' })).not.toBe(key);
    expect(exampleCacheKey({ ...parts, dataDigest: 'c' })).not.toBe(key);
    expect(exampleCacheKey({ ...parts, options: { maxLength: 9, overlong: 'drop' } })).not.toBe(key);
  });

  it('has a key for each version of the package and of the examples', async () => {
    const parts = { tokenizerDigest: 'a', dataDigest: 'b', options: { overlong: 'drop', maxLength: 8 } };
    const { version } = JSON.parse(await readFile(join(import.meta.dirname, '../../package.json'), 'utf8'));
    expect(exampleCacheKey(parts, { package: version, examples: exampleVersion })).toBe(key);
    expect(exampleCacheKey(parts, { package: `${version}1`, examples: exampleVersion })).not.toBe(key);
    expect(exampleCacheKey(parts, { package: version, examples: exampleVersion + 1 })).not.toBe(key);
  });

  it('leaves a cache that cannot be written alone', async () => {
    expect(await writeExampleCache('/dev/null/cache', key, entry)).toBe(false);
  });
});

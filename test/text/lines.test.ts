import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { digestFile, readLines } from '../../src/text/lines.js';

async function fileOf(bytes: string | Uint8Array): Promise<string> {
  const file = join(await mkdtemp(join(tmpdir(), 'lexalign-lines-')), 'rows.jsonl');
  await writeFile(file, bytes);
  return file;
}

async function linesOf(file: string, limit?: number): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of readLines(file, limit)) lines.push(line);
  return lines;
}

describe('readLines', () => {
  it('splits a stream into lines, whatever their ends', async () => {
    expect(await linesOf(await fileOf('\uFEFFa\r\n\n好\nlast'))).toEqual(['a', '', '好', 'last']);
    expect(await linesOf(await fileOf('a\n'))).toEqual(['a']);
    expect(await linesOf(await fileOf(''))).toEqual([]);
    const long = Array.from({ length: 3000 }, (_, i) => `${i} ${'好'.repeat(200)}`);
    expect(await linesOf(await fileOf(long.join('\n')))).toEqual(long);
  });

  it('names the line that is too long or not text', async () => {
    await expect(linesOf(await fileOf('ab\nabcdef\n'), 5)).rejects.toThrow(
      /rows\.jsonl, line 2 is longer than 5 bytes/,
    );
    await expect(linesOf(await fileOf(Uint8Array.of(97, 10, 0xff, 10)))).rejects.toThrow(/line 2 is not UTF-8/);
    await expect(linesOf('/nowhere/rows.jsonl')).rejects.toThrow('/nowhere/rows.jsonl does not exist');
    await expect(linesOf(tmpdir())).rejects.toThrow(/can't be read/);
  });

  it('digests bytes', async () => {
    expect(await digestFile(await fileOf('abc'))).toBe(
      'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    );
  });
});

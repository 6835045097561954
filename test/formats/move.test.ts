import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { writeFileAtomic } from '../../src/formats/files.js';
import { temporaryDirectory } from './helpers.js';

// What Windows does where another program has the file open, told by its codes.
vi.mock(import('node:fs/promises'), async (importOriginal) => {
  const original = await importOriginal();
  return { ...original, rename: vi.fn(original.rename) };
});
const { platform } = process;
const pretend = (value: string) => Object.defineProperty(process, 'platform', { value });
const refuse = (code: string) =>
  vi.mocked(fs.rename).mockRejectedValueOnce(Object.assign(new Error(`${code}: rename`), { code }));

afterEach(() => {
  pretend(platform);
  vi.mocked(fs.rename).mockClear();
});

describe('a file that is replaced', () => {
  test.each(['EPERM', 'EACCES', 'EBUSY'])('waits on Windows until a scanner lets go of it: %s', async (code) => {
    const path = join(await temporaryDirectory(), 'run.json');
    writeFileSync(path, 'old');
    pretend('win32');
    refuse(code);
    refuse(code);
    await writeFileAtomic(path, 'new');
    expect(readFileSync(path, 'utf8')).toBe('new');
    expect(fs.rename).toHaveBeenCalledTimes(3);
  });

  test('is given up at once for another reason, or on another system', async () => {
    const directory = await temporaryDirectory();
    const path = join(directory, 'run.json');
    refuse('EBUSY');
    await expect(writeFileAtomic(path, 'new')).rejects.toThrow(`${path} is in use by another program`);
    pretend('win32');
    refuse('ENOSPC');
    await expect(writeFileAtomic(path, 'new')).rejects.toThrow('the disk is full');
    expect(fs.rename).toHaveBeenCalledTimes(2);
    expect(readdirSync(directory)).toEqual([]);
  });
});

import * as fs from 'node:fs/promises';
import { expect, it, vi } from 'vitest';
import { checkOutput } from '../../src/cli/run-directory.js';

// A drive of Windows that is not there: even its root is none.
vi.mock(import('node:fs/promises'), async (importOriginal) => {
  const original = await importOriginal();
  const missing = () => Promise.reject(Object.assign(new Error('ENOENT'), { code: 'ENOENT' }));
  let asked = 0;
  return {
    ...original,
    stat: vi.fn(() => (++asked < 100 ? missing() : Promise.resolve({}))) as unknown as typeof original.stat,
    readdir: missing as unknown as typeof original.readdir,
    mkdir: missing as unknown as typeof original.mkdir,
  };
});

it('a drive that is not there is refused', async () => {
  await expect(checkOutput('/runs/one')).rejects.toThrow('--output /runs/one is not writable (ENOENT)');
  expect(fs.stat).toHaveBeenCalledTimes(3);
});

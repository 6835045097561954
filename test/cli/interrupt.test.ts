import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { givingUpOnInterrupt, Interrupted, onInterrupt } from '../../src/cli/interrupt.js';
import { writeDirectoryAtomic, writeFileAtomic } from '../../src/formats/files.js';
import { temporaryDirectory } from '../formats/helpers.js';

afterEach(() => {
  vi.restoreAllMocks();
});

it('asks all to stop that listen, and what begins within them later', () => {
  const announced: string[] = [];
  const study = onInterrupt(() => announced.push('study'));
  const stage = onInterrupt(() => announced.push('stage'));
  expect([study.requested, stage.requested]).toEqual([false, false]);
  process.emit('SIGTERM');
  expect([study.requested, stage.requested]).toEqual([true, true]);
  stage.remove();
  const next = onInterrupt(() => announced.push('next'));
  expect(next.requested).toBe(true);
  next.remove();
  study.remove();
  expect(announced).toEqual(['study', 'stage']);
  const other = onInterrupt(() => {});
  expect(other.requested).toBe(false);
  other.remove();
});

it('quits with 130 at the second one', () => {
  const exit = vi.spyOn(process, 'exit').mockImplementation(() => undefined as never);
  const interrupt = onInterrupt(() => {});
  process.emit('SIGINT');
  expect(exit).not.toHaveBeenCalled();
  process.emit('SIGINT');
  expect(exit).toHaveBeenCalledWith(130);
  interrupt.remove();
});

it('leaves nothing of what was to appear whole', async () => {
  const directory = await temporaryDirectory();
  const written = givingUpOnInterrupt((check) =>
    writeDirectoryAtomic(join(directory, 'model'), async (temporary) => {
      await writeFileAtomic(join(temporary, 'shard'), 'large');
      check();
      process.emit('SIGINT');
      check();
    }),
  );
  await expect(written).rejects.toThrow(Interrupted);
  expect(await readdir(directory)).toEqual([]);
});

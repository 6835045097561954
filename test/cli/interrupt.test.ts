import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { givingUpOnInterrupt, Interrupted, onInterrupt } from '../../src/cli/interrupt.js';
import { nodeExecutable } from '../../src/cli/software-driver.js';
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

it('is asked to stop by a closed terminal, however often', () => {
  const exit = vi.spyOn(process, 'exit').mockImplementation(() => undefined as never);
  const interrupt = onInterrupt(() => {});
  process.emit('SIGHUP', 'SIGHUP');
  expect(interrupt.requested).toBe(true);
  process.emit('SIGHUP', 'SIGHUP');
  expect(exit).not.toHaveBeenCalled();
  interrupt.remove();
});

it('ends its work without the terminal, then goes by its signal', async ({ skip }) => {
  const built = (name: string) => join(import.meta.dirname, `../../dist/src/cli/${name}.js`);
  if (!existsSync(built('main'))) skip('not built: run npm test');
  if (spawnSync('script', ['--version']).status !== 0) skip('no util-linux script, which makes terminals');
  const directory = await temporaryDirectory();
  const at = (name: string) => join(directory, name);
  writeFileSync(
    at('work.mjs'),
    `import { writeFileSync } from 'node:fs';
    import { main } from ${JSON.stringify(built('main'))};
    import { onInterrupt } from ${JSON.stringify(built('interrupt'))};
    await main(['--version']);
    const stop = onInterrupt(() => console.error('stopping'));
    writeFileSync(${JSON.stringify(at('ready'))}, '');
    while (!stop.requested) await new Promise((resolve) => setTimeout(resolve, 20));
    for (let i = 0; i < 3; i++) {
      console.error('writing a checkpoint');
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    writeFileSync(${JSON.stringify(at('checkpoint'))}, '');
    process.exit(0);`,
  );
  // The shell that leads the session goes, and with it the terminal; one in it stays to tell how the work ended.
  const command = `(trap '' HUP; ${nodeExecutable()} ${at('work.mjs')}; echo $? > ${at('part')}; mv ${at('part')} ${at('status')}); :`;
  const terminal = spawn('script', ['-qec', command, '/dev/null'], { stdio: 'ignore' });
  await vi.waitFor(() => existsSync(at('ready')) || expect.fail(), { timeout: 20_000 });
  terminal.kill('SIGKILL');
  await vi.waitFor(() => existsSync(at('status')) || expect.fail(), { timeout: 20_000 });
  expect(existsSync(at('checkpoint'))).toBe(true);
  expect(readFileSync(at('status'), 'utf8')).toBe('129\n'); // 128 + SIGHUP
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

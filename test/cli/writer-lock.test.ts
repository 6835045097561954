import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { nodeExecutable } from '../../src/cli/software-driver.js';
import { lockDirectory, refuseBusy } from '../../src/cli/writer-lock.js';
import { expectRefusal, root } from './run.js';
import { makeWorkplace } from './sft-helpers.js';

const { directory, remove } = makeWorkplace();
const lock = pathToFileURL(join(root, 'dist/src/cli/writer-lock.js')).href;
afterAll(remove);

describe('a directory that a process writes into', () => {
  let run = '';
  let count = 0;
  beforeEach(() => {
    run = join(directory, `run-${count++}`);
    mkdirSync(run);
  });

  /** A process that has taken the directory. */
  async function holder() {
    const code = `import { lockDirectory } from ${JSON.stringify(lock)};
      await lockDirectory(${JSON.stringify(run)});
      setTimeout(() => {}, 60000);
      console.log('ready');`;
    const child = spawn(nodeExecutable(), ['--input-type=module', '-e', code]);
    await new Promise((resolve) => child.stdout.once('data', resolve));
    return child;
  }

  it('is nobody else’s, to begin or to resume, until that process ends, killed or not', async ({ skip }) => {
    if (!existsSync(new URL(lock))) skip('not built: run npm test');
    const child = await holder();
    const busy = new RegExp(`Process ${child.pid} is writing into ${run}: let it end, or stop it, first`);
    await expect(lockDirectory(run)).rejects.toThrow(busy);
    for (const command of ['sft', 'ppo']) await expectRefusal([command, '--resume', '--output', run], 1, busy);
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
    await refuseBusy(run);
    const unlock = await lockDirectory(run);
    await expect(lockDirectory(run)).rejects.toThrow(`Process ${process.pid} is writing`);
    await unlock();
    expect(readdirSync(run)).toEqual([]);
  });

  it.each([
    ['another process has its number by now', (own: object) => JSON.stringify({ ...own, began: '1' })],
    ['the machine was started anew', (own: object) => JSON.stringify({ ...own, boot: 'before' })],
    ['the lock was cut off', () => '{"boot": "'],
  ])('is free again where %s', async (_, stale) => {
    await lockDirectory(run);
    const [name] = readdirSync(run);
    writeFileSync(join(run, name), stale(JSON.parse(readFileSync(join(run, name), 'utf8'))));
    const unlock = await lockDirectory(run);
    await unlock();
  });
});

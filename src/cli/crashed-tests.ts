// Self-tests of tiers that took their process along: a driver that crashes leaves nobody to say so. Each test leaves a
// note while it runs, in self-tests/ of the cache directory; one whose process has ended without taking it away tells.

import { rmSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { makeDirectory, writeFileAtomic } from '../formats/files.js';
import type { Device } from '../gpu/device.js';
import type { KernelSource } from '../gpu/kernels.js';
import { stopSignals } from './interrupt.js';
import { cacheDirectory } from './software-driver.js';
import { type Origin, originOf } from './tuning-cache.js';
import { isRunning, type ProcessIdentity, thisProcess } from './writer-lock.js';

interface Note extends Origin, ProcessIdentity {
  readonly host: string;
  /** Of the candidate that was tested. */
  readonly name: string;
}

const directory = () => join(cacheDirectory(), 'self-tests');

/** Names of the candidates in whose test a process on this device, driver and version of the kernels ended. */
export async function crashedTests(device: Device, source: KernelSource): Promise<ReadonlySet<string>> {
  return new Set((await crashes(originOf(device.info, source))).map(({ name }) => name));
}

/**
 * Runs the test of a candidate with a note of it; once it has ended, well or not, it counts as crashed no more. On CPU
 * drivers there are no notes: what ends processes there is mostly somebody who works on this program.
 */
export async function notingTest<T>(
  device: Device,
  source: KernelSource,
  name: string,
  test: () => Promise<T>,
): Promise<T> {
  if (device.features.cpu) return test();
  const origin = originOf(device.info, source);
  const note: Note = { ...origin, ...(await thisProcess()), host: hostname(), name };
  const file = join(directory(), `${note.host}-${note.pid}.json`);
  // Where the cache cannot be written, a crash stays unknown, as it would without notes.
  const written = await makeDirectory(directory())
    .then(() => writeFileAtomic(file, JSON.stringify(note)))
    .then(() => true)
    .catch(() => false);
  if (!written) return test();
  const remove = () => rmSync(file, { force: true });
  const signals = stopSignals.map((signal) => {
    const handler = () => {
      remove();
      process.off(signal, handler);
      if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
    };
    process.on(signal, handler);
    return () => process.off(signal, handler);
  });
  process.on('exit', remove);
  try {
    return await test();
  } finally {
    for (const off of signals) off();
    process.off('exit', remove);
    remove();
    for (const past of await crashes(origin)) if (past.name === name) await rm(past.file, { force: true });
  }
}

async function crashes(origin: Origin): Promise<(Note & { file: string })[]> {
  const found: (Note & { file: string })[] = [];
  for (const entry of await readdir(directory()).catch(() => [])) {
    const file = join(directory(), entry);
    const note = parse(await readFile(file, 'utf8').catch(() => ''));
    if (note === null || note.host !== hostname() || (await isRunning(note))) continue;
    const { device, driver, kernels } = note;
    if (device === origin.device && driver === origin.driver && kernels === origin.kernels)
      found.push({ ...note, file });
  }
  return found;
}

function parse(text: string): Note | null {
  try {
    const note = JSON.parse(text);
    return typeof note.name === 'string' && Number.isSafeInteger(note.pid) && note.pid > 0 ? note : null;
  } catch {
    return null; // cut off by the crash
  }
}

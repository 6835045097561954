// Which process writes into the directory of a run or a study, so that no second one does.

import { readFile, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { InputError } from '../errors.js';

const LOCK = '.writer.json';

/** A process, told apart from those that have its number before and after it. */
export interface ProcessIdentity {
  /** Of the machine, since it was started: another one's processes are not known here, and count as ended. */
  readonly boot: string;
  readonly pid: number;
  /** When the system started the process, in its own units; null where it does not tell. */
  readonly began: string | null;
}

/** Takes a directory for this process until the function that it gives is called. Throws InputError as `refuseBusy`. */
export async function lockDirectory(directory: string): Promise<() => Promise<void>> {
  const file = join(directory, LOCK);
  const own = JSON.stringify(await thisProcess());
  const take = () => writeFile(file, own, { flag: 'wx' });
  await take().catch(async (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw new InputError(`${file} cannot be written: ${error.message}`);
    await refuseBusy(directory);
    await rm(file, { force: true });
    await take();
  });
  return () => rm(file, { force: true });
}

/** Throws InputError where another process, which has not ended, writes into the directory. */
export async function refuseBusy(directory: string): Promise<void> {
  const file = join(directory, LOCK);
  const writer = parse(await readFile(file, 'utf8').catch(() => ''));
  if (writer === null || !(await isRunning(writer))) return;
  throw new InputError(
    `Process ${writer.pid} is writing into ${directory}: let it end, or stop it, first (or, if that is no lexalign, remove ${file}).`,
  );
}

export async function thisProcess(): Promise<ProcessIdentity> {
  return { boot: await boot(), pid: process.pid, began: await began(process.pid) };
}

export async function isRunning({ boot: machine, pid, began: since }: ProcessIdentity): Promise<boolean> {
  return machine === (await boot()) && alive(pid) && since === (await began(pid));
}

function parse(text: string): ProcessIdentity | null {
  try {
    const { boot, pid, began } = JSON.parse(text);
    return typeof boot === 'string' && Number.isSafeInteger(pid) && pid > 0 ? { boot, pid, began } : null;
  } catch {
    return null; // cut off by a full disk or a crash
  }
}

async function boot(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(hostname)).trim();
}

async function began(pid: number): Promise<string | null> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null; // the 22nd field of proc(5); the name may hold spaces
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

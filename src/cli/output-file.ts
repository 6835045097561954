import { constants, realpathSync, statSync } from 'node:fs';
import { access, realpath, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { Options } from 'yargs';
import { InputError, UsageError } from '../errors.js';
import { writeFileAtomic } from '../formats/files.js';

/** `--json` of every command that has it. */
export const jsonOption = {
  json: {
    type: 'string',
    describe: 'Write the result as JSON to this file; to standard output without one, or with -',
  },
} as const satisfies Record<string, Options>;

/** Refuses, before anything is computed, a file that could not be written at the end. */
export async function checkOutputFile(option: string, file: string): Promise<void> {
  const info = await stat(file).catch(() => null);
  if (info?.isDirectory()) throw new InputError(`${option} ${file} is a directory: name a file.`);
  const directory = dirname(file);
  // It would not be written to but replaced, /dev/null with it.
  const place = await realpath(directory).catch(() => directory);
  if ((info && !info.isFile()) || place === '/dev' || place.startsWith('/proc/')) {
    const instead = option === '--json' ? ', or - for standard output' : '';
    throw new InputError(`${option} ${file} is no regular file: name one${instead}.`);
  }
  const parent = await stat(directory).catch(() => null);
  const writable = await access(directory, constants.W_OK).then(
    () => true,
    () => false,
  );
  if (!parent?.isDirectory() || !writable) {
    throw new InputError(`${option} ${file}: ${directory} is not a directory that can be written to.`);
  }
}

/** Refuses an option `target`, of a file to write, that names a file which another of the options of type text reads. */
export function checkApart(
  target: 'json' | 'output',
  args: Readonly<Record<string, unknown>>,
  options: Readonly<Record<string, Options>>,
): void {
  const texts = Object.keys(options).filter((name) => options[name].type === 'string' && name !== target);
  const files = (value: unknown) => (typeof value === 'string' ? value.split(',').map(realFile) : []);
  const file = typeof args[target] === 'string' ? realFile(args[target]) : null;
  const read = file && texts.find((name) => files(args[name]).includes(file));
  if (read) throw new UsageError(`--${target} ${args[target]} is what --${read} reads: name another file.`);
}

function realFile(path: string): string | null {
  try {
    return statSync(path).isFile() ? realpathSync.native(path) : null; // native: one name in any case, on Windows
  } catch {
    return null;
  }
}

/** Checks the target of `--json`, where one was given; it may stand in `output`, a directory that the run will make. */
export async function checkJson(target: string | undefined, output?: string): Promise<void> {
  if (target === undefined || target === '-') return;
  if (output !== undefined && resolve(dirname(target)) === resolve(output)) return;
  await checkOutputFile('--json', target);
}

/** Prints a result (for "-") or writes it to a file that appears whole; nothing without a target. */
export async function writeJson(target: string | undefined, value: unknown): Promise<void> {
  if (target === undefined) return;
  const text = `${JSON.stringify(value, null, 2)}\n`;
  if (target === '-') process.stdout.write(text);
  else await writeFileAtomic(target, text);
}

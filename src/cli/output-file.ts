import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { Options } from 'yargs';
import { InputError } from '../errors.js';
import { writeFileAtomic } from '../formats/files.js';

/** `--json` of every command that has it. */
export const jsonOption = {
  json: { type: 'string', describe: 'Write the result as JSON to this file; - for standard output' },
} as const satisfies Record<string, Options>;

/** Refuses, before anything is computed, a file that could not be written at the end. */
export async function checkOutputFile(option: string, file: string): Promise<void> {
  const info = await stat(file).catch(() => null);
  if (info?.isDirectory()) throw new InputError(`${option} ${file} is a directory: name a file.`);
  const directory = dirname(file);
  const parent = await stat(directory).catch(() => null);
  const writable = await access(directory, constants.W_OK).then(
    () => true,
    () => false,
  );
  if (!parent?.isDirectory() || !writable) {
    throw new InputError(`${option} ${file}: ${directory} is not a directory that can be written to.`);
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

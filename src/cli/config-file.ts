import { readFileSync, statSync } from 'node:fs';
import { parse } from 'yaml';
import type { Options } from 'yargs';
import { InputError, UsageError } from '../errors.js';
import { modelOptions } from './options.js';
import { suggest } from './usage.js';

const maxBytes = 1 << 20;

/** Sections of a recipe; those of other commands are left alone. */
export const sections = ['align', 'cultures', 'data', 'sft', 'ppo', 'evaluate'];
/** TRL's names, whose product is the batch size. */
const batchFactors = ['per-device-train-batch-size', 'gradient-accumulation-steps'];

/**
 * Options from a YAML file, by long option name: those at the top, and those of the command's own section, which go
 * first. The model and the device of a study's section `align` are those of its other sections too. Keys may be written with - or _; TRL's per_device_train_batch_size and gradient_accumulation_steps are
 * understood (their product is the batch size). An empty value leaves an option at its default; unknown keys are errors.
 */
export function readConfigFile(
  file: string,
  commandOf: string | ((top: Readonly<Record<string, unknown>>) => string),
  known: Readonly<Record<string, Options>>,
): Record<string, unknown> {
  const top = readYaml(file);
  const command = typeof commandOf === 'string' ? commandOf : commandOf(top);
  const study = isRecord(top.align) ? Object.entries(top.align) : [];
  const shared = study.filter(([key]) => key.replaceAll('_', '-') in modelOptions && key.replaceAll('_', '-') in known);
  const section = isRecord(top[command]) ? Object.entries(top[command]) : [];
  const common = Object.entries(top).filter(([key, entry]) => !(sections.includes(key) && typeof entry === 'object'));
  const read = (entries: readonly [string, unknown][]) => toOptions(file, command, entries, known);
  return { ...read(shared), ...read(common), ...read(section) };
}

/** Options of one section alone. */
export function readSection(
  file: string,
  section: string,
  known: Readonly<Record<string, Options>>,
): Record<string, unknown> {
  const value = readYaml(file)[section];
  return toOptions(file, section, isRecord(value) ? Object.entries(value) : [], known);
}

/** A YAML file that holds a mapping. Throws InputError. */
export function readYaml(file: string): Record<string, unknown> {
  let value: unknown;
  try {
    const info = statSync(file);
    if (info.isDirectory()) throw new Error('it is a directory');
    if (info.size > maxBytes) throw new Error(`it is larger than ${maxBytes} bytes`);
    value = parse(decode(readFileSync(file)), { maxAliasCount: 100 });
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'it does not exist' : (error as Error).message;
    throw new InputError(`--config ${file} cannot be read: ${reason.split('\n')[0].replace(/:$/, '')}`);
  }
  if (!isRecord(value)) throw new InputError(`--config ${file} must hold options as "key: value".`);
  return value;
}

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new Error('it is not UTF-8 text');
  }
}

function toOptions(
  file: string,
  command: string,
  entries: readonly [string, unknown][],
  known: Readonly<Record<string, Options>>,
): Record<string, unknown> {
  const options: Record<string, unknown> = {};
  const factors: number[] = [];
  for (const [key, entry] of entries) {
    const name = key.replaceAll('_', '-');
    if (!Object.hasOwn(known, name) && !batchFactors.includes(name)) {
      throw new UsageError(
        `--config ${file}: ${key} is no option of ${command}.${suggest(name, Object.keys(known)) || ` See lexalign ${command} --help.`}`,
      );
    }
    if (entry === null) continue;
    if (isRecord(entry)) throw new UsageError(`--config ${file}: ${key} must be one value.`);
    if (batchFactors.includes(name)) {
      if (typeof entry !== 'number') throw new UsageError(`--config ${file}: ${key} must be a number.`);
      factors.push(entry);
    } else options[name] = asTyped(entry, known[name].type);
  }
  if (factors.length > 0) {
    if ('batch-size' in options)
      throw new UsageError(`--config ${file}: give batch_size or TRL's names for it, not both.`);
    options['batch-size'] = factors.reduce((a, b) => a * b);
  }
  return options;
}

/** As the command line gives it: YAML takes the 5 of "k: 5" for a number, a list of names is one text with commas. */
function asTyped(entry: unknown, type: Options['type']): unknown {
  if (type === 'array') return [entry].flat().map((one) => (typeof one === 'number' ? String(one) : one));
  if (Array.isArray(entry)) return entry.join(',');
  return type === 'string' && typeof entry === 'number' ? String(entry) : entry;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

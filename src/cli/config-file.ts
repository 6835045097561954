import { readFileSync, statSync } from 'node:fs';
import { parse } from 'yaml';
import type { Options } from 'yargs';
import { InputError, UsageError } from '../errors.js';
import { isRecord } from '../formats/keys.js';
import { modelOptions } from './options.js';
import { suggest } from './usage.js';

/** A recipe has a few thousand; the parser's time grows with the square of its keys. */
const maxBytes = 1 << 16;

/** Sections of a recipe; those of other commands are left alone. */
export const sections = ['align', 'cultures', 'data', 'sft', 'ppo', 'evaluate'];
/** TRL's names, whose product is the batch size of SFT. */
const batchFactors = ['per-device-train-batch-size', 'gradient-accumulation-steps'];

/**
 * Options from a YAML file, by long option name: those at the top, and those of the command's own section, which go
 * first. The model and the device of a study's section `align` are those of its other sections too. Keys may be written
 * with - or _; of `sft`, TRL's per_device_train_batch_size and gradient_accumulation_steps are understood (their product
 * is the batch size). An empty value leaves an option at its default; unknown keys are errors.
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
  return multiplyFactors(file, { ...read(shared), ...read(common), ...read(section) });
}

/** Options of one section alone. */
export function readSection(
  file: string,
  section: string,
  known: Readonly<Record<string, Options>>,
): Record<string, unknown> {
  const value = readYaml(file)[section];
  return multiplyFactors(file, toOptions(file, section, isRecord(value) ? Object.entries(value) : [], known));
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
  for (const [key, entry] of entries) {
    const name = key.replaceAll('_', '-');
    const isFactor = batchFactors.includes(name);
    if (isFactor && command === 'ppo')
      throw new UsageError(
        `--config ${file}: ${key} is no option of ppo, since versions of TRL make rollouts of different size of it: give batch_size, the answers of a rollout, and put TRL's names for SFT into a section sft.`,
      );
    if (!Object.hasOwn(known, name) && !(isFactor && command === 'sft')) {
      throw new UsageError(
        `--config ${file}: ${key} is no option of ${command}.${suggest(name, Object.keys(known)) || ` See lexalign ${command} --help.`}`,
      );
    }
    if (entry === null) continue;
    if (isRecord(entry)) throw new UsageError(`--config ${file}: ${key} must be one value.`);
    if (isFactor && !(Number.isInteger(entry) && (entry as number) >= 1))
      throw new UsageError(`--config ${file}: ${key} must be a number, whole and at least 1.`);
    options[name] = isFactor ? entry : asTyped(entry, known[name].type);
  }
  return options;
}

/** The options of all levels, with TRL's names replaced by the batch size, wherever each stands. */
function multiplyFactors(file: string, options: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const { 'per-device-train-batch-size': rows, 'gradient-accumulation-steps': steps, ...others } = options;
  if (rows === undefined && steps === undefined) return others;
  if ('batch-size' in others)
    throw new UsageError(`--config ${file}: give batch_size or TRL's names for it, not both.`);
  if (rows === undefined)
    throw new UsageError(
      `--config ${file}: gradient_accumulation_steps alone is no batch size: give per_device_train_batch_size too, or batch_size.`,
    );
  return { ...others, 'batch-size': (rows as number) * ((steps ?? 1) as number) };
}

/** As the command line gives it: YAML takes the 5 of "k: 5" for a number, a list of names is one text with commas. */
function asTyped(entry: unknown, type: Options['type']): unknown {
  if (type === 'array') return [entry].flat().map((one) => (typeof one === 'number' ? String(one) : one));
  if (Array.isArray(entry)) return entry.join(',');
  return type === 'string' && typeof entry === 'number' ? String(entry) : entry;
}

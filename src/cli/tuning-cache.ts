import { createHash } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { makeDirectory, writeFileAtomic } from '../formats/files.js';
import type { KernelSource } from '../gpu/kernels.js';
import { isSettings, type Tuning } from '../ops/tuning.js';
import { cacheDirectory } from './software-driver.js';

/** What settings were measured on: they hold for this driver and these kernels alone. */
export interface Origin {
  readonly device: string;
  readonly driver: string;
  /** Of the kernels' text. */
  readonly kernels: string;
}

/** Where settings of a device are kept: tuning/DEVICE.json in the cache directory. */
function tuningFile(info: GPUAdapterInfo): string {
  const name = [info.vendor, info.architecture, info.device].filter(Boolean).join('-');
  return join(cacheDirectory(), 'tuning', `${name.replace(/[^\w.-]+/g, '_').slice(0, 100)}.json`);
}

/** Kernels that a search weighs against each other, with what goes before and behind them. */
const compared = [
  ...['attention-tensor', 'include/attention'],
  ...['matmul-tensor', 'matmul-rows', 'matmul', 'matmul-direct', 'include/matmul'],
  ...['dequantize', 'include/dequantize', 'sum-splits'],
];

export function originOf(info: GPUAdapterInfo, source: KernelSource): Origin {
  const hash = createHash('sha256');
  for (const file of compared) hash.update(source(`${file}.wgsl`));
  return {
    device: [info.vendor, info.architecture, info.device].join(', '),
    driver: info.description,
    kernels: hash.digest('hex').slice(0, 16),
  };
}

/**
 * Settings measured earlier on this device; empty where there are none. A file that is broken, or of another driver or
 * other kernels, is deleted with one line that says so.
 */
export async function readTuning(info: GPUAdapterInfo, source: KernelSource): Promise<Tuning> {
  const file = tuningFile(info);
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') console.error(`Warning: tuning ${file} cannot be read (${error.message}).`);
    return null;
  });
  if (text === null) return new Map();
  const read = parseTuning(text, originOf(info, source));
  if (typeof read !== 'string') return read;
  await rm(file, { force: true }).catch(() => {});
  console.error(`The tuning in ${file} was discarded: ${read}. \`lexalign bench kernels --tune\` measures anew.`);
  return new Map();
}

/** The settings, or why they cannot be used. */
function parseTuning(text: string, origin: Origin): Tuning | string {
  let content: Partial<Origin> & { settings?: unknown };
  try {
    content = JSON.parse(text);
  } catch {
    return 'it is not JSON';
  }
  if (typeof content !== 'object' || content === null) return 'it is not an object';
  if (content.device !== origin.device) return 'it is of another device';
  if (content.driver !== origin.driver) return `it is of another driver (${content.driver})`;
  if (content.kernels !== origin.kernels) return 'it is of another version of the kernels';
  if (typeof content.settings !== 'object' || content.settings === null) return 'it has no settings';
  const entries = Object.entries(content.settings);
  const bad = entries.find(([name, value]) => !isSettings(name, value));
  if (bad) return `its settings of ${bad[0]} are none that lexalign knows`;
  return new Map(entries) as Tuning;
}

/** Adds settings to those kept for this device. @returns the file. */
export async function writeTuning(info: GPUAdapterInfo, source: KernelSource, tuning: Tuning): Promise<string> {
  const file = tuningFile(info);
  await makeDirectory(join(cacheDirectory(), 'tuning'));
  const settings = Object.fromEntries([...(await readTuning(info, source)), ...tuning]);
  await writeFileAtomic(file, `${JSON.stringify({ ...originOf(info, source), settings }, null, 2)}\n`);
  return file;
}

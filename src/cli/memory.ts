import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { freemem } from 'node:os';
import { neededLength } from '../batch/order.js';
import { rowBucket } from '../batch/pack.js';
import type { Example } from '../batch/types.js';
import { InputError, UsageError } from '../errors.js';
import type { AdapterConfig } from '../formats/adapter.js';
import { planTraining, type TrainingMemory } from '../model/training-memory.js';
import type { OpenDevice, OpenModel } from './session.js';

const units: Readonly<Record<string, number>> = {
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
};

/** "8GiB", "7.5 GB" or plain bytes. */
export function parseBytes(option: string, text: string): number {
  const match = /^\s*([\d.]+)\s*([kmg]?i?b)?\s*$/i.exec(text);
  const bytes = match ? Number(match[1]) * units[(match[2] ?? 'b').toLowerCase()] : Number.NaN;
  if (!(bytes > 0)) throw new UsageError(`${option} ${text}: write bytes as 8GiB, 7.5GB or 8000000000.`);
  return bytes;
}

export function formatBytes(bytes: number): string {
  if (bytes >= 2 ** 30) return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  return bytes >= 2 ** 20 ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : `${(bytes / 2 ** 10).toFixed(1)} KiB`;
}

/**
 * Memory that a run may take, as the system tells it: what is free and what this process holds there already, bytes.
 * Null where nothing tells; WebGPU itself does not.
 */
function deviceMemory({ device }: OpenDevice): number | null {
  const free = freeMemory(device.features.cpu ? 'cpu' : device.info.vendor);
  return free === null ? null : free + device.allocatedBytes;
}

/** Of several cards of a vendor the fullest counts: which of them Dawn chose is not told. */
function freeMemory(vendor: string): number | null {
  // availableMemory knows a container's limit; Node.js before 20.13 lacks it.
  if (vendor === 'cpu') return Math.min(freemem(), process.availableMemory?.() ?? Number.POSITIVE_INFINITY);
  if (vendor === 'nvidia') return nvidiaMemory();
  return vendor === 'amd' ? amdMemory() : null;
}

function nvidiaMemory(): number | null {
  try {
    const text = execFileSync('nvidia-smi', ['--query-gpu=memory.free', '--format=csv,noheader,nounits'], {
      encoding: 'utf8',
      timeout: 5000,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    return least(
      text
        .trim()
        .split('\n')
        .map((line) => Number(line) * 2 ** 20),
    );
  } catch {
    return null;
  }
}

function amdMemory(): number | null {
  try {
    const cards = readdirSync('/sys/class/drm').filter((card) => /^card\d+$/.test(card));
    return least(cards.map(amdCardMemory));
  } catch {
    return null;
  }
}

function amdCardMemory(card: string): number {
  try {
    const read = (name: string) => Number(readFileSync(`/sys/class/drm/${card}/device/${name}`, 'utf8'));
    return read('mem_info_vram_total') - read('mem_info_vram_used');
  } catch {
    return Number.NaN; // not an amdgpu card
  }
}

/** The least of the numbers above 0; null where there is none. */
function least(values: readonly number[]): number | null {
  const known = values.filter((value) => value > 0);
  return known.length > 0 ? Math.min(...known) : null;
}

/** Sizes tried for a micro-batch when the user names none, largest first. */
const candidates = [8192, 6144, 4096, 3072, 2048, 1536, 1024, 768, 512, 384, 256, 192, 128, 96, 64];
/** On CPU cores larger batches gain nothing and cost memory. */
const cpuMost = 1024;

/**
 * Sizes to try for a micro-batch, largest first: from `most`, or what the data can fill where that is less, down to
 * the longest row, which has to fit.
 */
export function microBatchSizes(data: { longest: number; fill: number }, most = candidates[0]): number[] {
  const top = Math.min(data.fill, Math.max(most, data.longest));
  return [...new Set([top, ...candidates.filter((n) => n < top && n > data.longest), data.longest])];
}

/**
 * The largest micro-batch whose memory plan fits, no larger than the data can fill. Throws InputError with the number
 * needed and what to lower when even the smallest does not fit; nothing has been allocated by then.
 */
export function chooseMicroBatch(
  open: OpenDevice,
  model: OpenModel,
  adapter: AdapterConfig,
  examples: readonly Example[],
  options: { maxLength: number; asked: number; limit: number | null; batchSize: number },
): { microBatchTokens: number; bytes: TrainingMemory; lines: string[] } {
  const { asked } = options;
  const data = measure(examples, options.batchSize);
  if (asked > 0 && asked < data.longest) {
    throw new InputError(
      `--micro-batch-tokens ${asked} is less than the longest row's ${data.longest} tokens: raise it, or lower --max-length.`,
    );
  }
  const told = options.limit === null ? deviceMemory(open) : null;
  const limit = options.limit ?? (told === null ? null : told * 0.95);
  const plan = (rows: number) =>
    planTraining(open.device, open.kernels, model.config, adapter, open.tier, {
      rows: rowBucket(rows),
      maxLength: options.maxLength,
      packed: new Map(),
      tuning: open.tuning,
    });
  const sizes =
    asked > 0 ? [Math.min(asked, data.fill)] : microBatchSizes(data, open.device.features.cpu ? cpuMost : undefined);
  for (const tokens of sizes) {
    const bytes = plan(tokens);
    if (limit === null || bytes.total <= limit)
      return { microBatchTokens: tokens, bytes, lines: describe(bytes, tokens, limit, options.limit !== null) };
  }
  const smallest = plan(sizes[sizes.length - 1]);
  const mend =
    smallest.weights > (limit ?? 0)
      ? 'take a smaller model'
      : `lower ${asked > data.longest ? '--micro-batch-tokens' : '--max-length'} or --lora-r`;
  throw new InputError(
    `The run needs ${formatBytes(smallest.total)} of device memory (weights ${formatBytes(smallest.weights)}, activations ` +
      `${formatBytes(smallest.activations)}) and ${options.limit === null ? 'the device has' : '--memory-limit is'} ${formatBytes(limit ?? 0)}: ${mend}.`,
  );
}

/** Tokens of the longest row, and of the longest rows of one step together: no trie of a step has more. */
function measure(examples: readonly Example[], batchSize: number): { longest: number; fill: number } {
  const lengths = examples.map(neededLength).sort((a, b) => b - a);
  return { longest: lengths[0], fill: lengths.slice(0, batchSize).reduce((sum, n) => sum + n, 0) };
}

function describe(bytes: TrainingMemory, tokens: number, limit: number | null, given: boolean): string[] {
  const rows = [
    ['weights', bytes.weights],
    ['adapter, gradients, moments', bytes.adapter],
    ['activations and scratch', bytes.activations],
    ['batch, tables, parameters', bytes.batch],
    ['total', bytes.total],
  ] as const;
  const against =
    limit === null
      ? '; the system tells nothing of the card: give --memory-limit to have it checked'
      : `; ${given ? '--memory-limit' : 'free on the device'}: ${formatBytes(limit)}`;
  return [
    `Memory plan for micro-batches of ${tokens} tokens${against}:`,
    ...rows.map(([name, value]) => `  ${name.padEnd(28)} ${formatBytes(value).padStart(12)}`),
  ];
}

import type { ModelConfig } from '../../models/config.js';
import { neededLength } from '../batch/order.js';
import { rowBucket } from '../batch/pack.js';
import type { Example } from '../batch/types.js';
import { InputError, UsageError } from '../errors.js';
import type { AdapterConfig } from '../formats/adapter.js';
import type { DeviceShape } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernels.js';
import { bindableRows, checkBindable } from '../model/bindable-rows.js';
import { operandOf, type Tier } from '../model/language-model.js';
import { planTraining, type TrainingMemory } from '../model/training-memory.js';
import type { PackedLayouts } from '../model/weights.js';
import type { Tuning } from '../ops/tuning.js';
import { deviceMemory } from './device-memory.js';
import type { OpenDevice } from './session.js';

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

/** Sizes tried for a micro-batch when the user names none, largest first. */
const candidates = [8192, 6144, 4096, 3072, 2048, 1536, 1024, 768, 512, 384, 256, 192, 128, 96, 64];
/** On CPU cores larger batches gain nothing and cost memory. */
const cpuMost = 1024;
/**
 * Tokens of a micro-batch that keep a device busy: rather than fewer, layers are computed again, which costs up to half
 * the time of a step.
 */
const enoughTokens = { gpu: 1024, cpu: 256 };

/**
 * Sizes to try for a micro-batch, largest first: from `most`, or what the data can fill where that is less, down to
 * the longest row, which has to fit.
 */
export function microBatchSizes(data: { longest: number; fill: number }, most = candidates[0]): number[] {
  const top = Math.min(data.fill, Math.max(most, data.longest));
  return [...new Set([top, ...candidates.filter((n) => n < top && n > data.longest), data.longest])];
}

/** Whether the backward pass may compute layers again: as few as memory demands, all, or none. */
export type Checkpointing = 'auto' | 'on' | 'off';

/** For what a run is planned: a device, or a stand-in for one. */
export interface PlanTarget {
  readonly device: DeviceShape;
  readonly kernels: KernelCache;
  readonly tier: Tier;
  readonly tuning: Tuning;
}

/** A run as far as memory goes. */
export interface PlanRequest {
  readonly config: ModelConfig;
  /** Matrices that stay packed. */
  readonly packed: PackedLayouts;
  readonly adapter: AdapterConfig;
  readonly maxLength: number;
  /** Tokens of a micro-batch that the user asks for; 0: as many as fit. */
  readonly asked: number;
  readonly checkpointing: Checkpointing;
  /** Tokens of the longest row, and of the longest rows of one step together: no trie of a step has more. */
  readonly data: { readonly longest: number; readonly fill: number };
}

/** How a run is to be split and recorded, and the memory of that. */
export interface PlannedRun {
  readonly microBatchTokens: number;
  /** Layers whose activations the backward pass computes again. */
  readonly recompute: number;
  readonly bytes: TrainingMemory;
  /** False where nothing fits; this is then the smallest. */
  readonly fits: boolean;
}

/**
 * The fastest way to run that fits under `limit` bytes with what stands `beside` it, else the smallest. Without a limit
 * nobody knows what fits: then micro-batches are no larger than keeps a device busy. Throws InputError where the device
 * cannot bind the activations of the micro-batch asked for, or of the longest row.
 */
export function planRun(
  target: PlanTarget,
  request: PlanRequest,
  limit: number | null,
  beside?: (training: TrainingMemory) => number,
): PlannedRun {
  const { features, maxBinding } = target.device;
  const { cpu } = features;
  const { asked, data, checkpointing, config } = request;
  const most = cpu ? cpuMost : limit === null ? enoughTokens.gpu : undefined;
  const wanted = asked > 0 ? [Math.min(asked, data.fill)] : microBatchSizes(data, most);
  const operand = operandOf(target.tier);
  checkBindable(rowBucket(wanted[wanted.length - 1]), config, operand, maxBinding);
  const sizes = wanted.filter((tokens) => rowBucket(tokens) <= bindableRows(config, operand, maxBinding));
  return chooseFastest((tokens, recompute) => planMicroBatch(target, request, tokens, recompute), sizes, {
    layers: config.layers,
    checkpointing,
    enough: enoughTokens[cpu ? 'cpu' : 'gpu'],
    limit,
    beside,
  });
}

/** The run with as little memory as its options allow. */
export function leastMemory(target: PlanTarget, request: PlanRequest): TrainingMemory {
  const { asked, data, checkpointing, config } = request;
  const tokens = asked > 0 ? Math.min(asked, data.fill) : data.longest;
  return planMicroBatch(target, request, tokens, checkpointing === 'off' ? 0 : config.layers);
}

function planMicroBatch(target: PlanTarget, request: PlanRequest, tokens: number, recompute: number): TrainingMemory {
  const { device, kernels, tier, tuning } = target;
  const { config, adapter, maxLength, packed } = request;
  const rows = rowBucket(tokens);
  return planTraining(device, kernels, config, adapter, tier, { rows, maxLength, packed, recompute, tuning });
}

/**
 * Of `sizes` (largest first) the largest of at least `enough` tokens that fits with as few layers computed again as may
 * be; where none does, the smallest of these, then smaller ones, with as few as make it fit.
 */
export function chooseFastest(
  plan: (tokens: number, recompute: number) => TrainingMemory,
  sizes: readonly number[],
  options: {
    layers: number;
    checkpointing: Checkpointing;
    enough: number;
    limit: number | null;
    beside?: (training: TrainingMemory) => number;
  },
): PlannedRun {
  const { layers, checkpointing, enough, limit, beside = () => 0 } = options;
  const [least, most] = [checkpointing === 'on' ? layers : 0, checkpointing === 'off' ? 0 : layers];
  const attempt = (microBatchTokens: number, recompute: number): PlannedRun => {
    const bytes = plan(microBatchTokens, recompute);
    return { microBatchTokens, recompute, bytes, fits: limit === null || bytes.total + beside(bytes) <= limit };
  };
  const large = sizes.filter((size) => size >= enough);
  const kept = firstThatFits(large, (size) => attempt(size, least));
  if (kept) return kept;
  const rest = [...large.slice(-1), ...sizes.filter((size) => size < enough)];
  const run = firstThatFits(rest, (size) => attempt(size, most));
  if (!run) return attempt(rest[rest.length - 1], most);
  const fewer = Array.from({ length: most - least }, (_, i) => least + i);
  return firstThatFits(fewer, (recompute) => attempt(run.microBatchTokens, recompute)) ?? run;
}

/** The first attempt that fits, by bisection: after one that fits all do. Null where none does. */
export function firstThatFits<T, R extends { readonly fits: boolean }>(
  items: readonly T[],
  attempt: (item: T) => R,
): R | null {
  if (items.length === 0) return null;
  let found: R | null = attempt(items[0]);
  if (found.fits) return found;
  found = null;
  let [low, high] = [1, items.length];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const run = attempt(items[middle]);
    if (run.fits) [found, high] = [run, middle];
    else low = middle + 1;
  }
  return found;
}

/** Bytes that a run may take, and whether the user said so; null where nothing tells. */
export interface MemoryLimit {
  readonly bytes: number | null;
  readonly given: boolean;
  /** What of the device's memory these are, where that told. */
  readonly what?: string;
}

/** What --memory-limit says (null where it was not given), else what is free on the device, less a twentieth. */
export function memoryLimit(open: OpenDevice, given: number | null): MemoryLimit {
  if (given !== null) return { bytes: given, given: true };
  const free = deviceMemory(open.device);
  return { bytes: free && 0.95 * free.bytes, given: false, what: free?.what };
}

/**
 * How a run over these examples fits. Throws InputError with the number needed and what to change when it does not;
 * nothing has been allocated by then.
 */
export function chooseMicroBatch(
  open: OpenDevice,
  request: Omit<PlanRequest, 'data'>,
  examples: readonly Example[],
  options: { limit: number | null; batchSize: number },
): PlannedRun & { lines: string[] } {
  const { asked, config } = request;
  const data = measure(examples, options.batchSize);
  checkMicroBatch({ asked, data });
  const limit = memoryLimit(open, options.limit);
  const run = planRun(open, { ...request, data }, limit.bytes);
  if (run.fits) return { ...run, lines: describePlan(run, config.layers, limit) };
  const { bytes } = run;
  const lower = ['--lora-r', asked > data.longest ? '--micro-batch-tokens' : '--max-length'].join(' or ');
  const mend =
    bytes.weights > (limit.bytes ?? 0)
      ? 'take a smaller model'
      : request.checkpointing === 'off'
        ? `let it have --gradient-checkpointing auto, or lower ${lower}`
        : `lower ${lower}`;
  throw new InputError(
    `The run needs ${formatBytes(bytes.total)} of device memory (weights ${formatBytes(bytes.weights)}, activations ` +
      `${formatBytes(bytes.activations)}) and ${limit.given ? '--memory-limit is' : 'the device has'} ${formatBytes(limit.bytes ?? 0)}: ` +
      `${mend}; \`lexalign plan\` says what would fit.`,
  );
}

/** Throws InputError where the micro-batch asked for holds no whole row. */
export function checkMicroBatch({ asked, data }: Pick<PlanRequest, 'asked' | 'data'>): void {
  if (asked > 0 && asked < data.longest)
    throw new InputError(
      `--micro-batch-tokens ${asked} is less than the longest row's ${data.longest} tokens: raise it, or lower --max-length.`,
    );
}

/** Tokens of the longest row, and of the longest rows of one step together. */
export function measure(examples: readonly Example[], batchSize: number): { longest: number; fill: number } {
  const lengths = examples.map(neededLength).sort((a, b) => b - a);
  return { longest: lengths[0], fill: lengths.slice(0, batchSize).reduce((sum, n) => sum + n, 0) };
}

/** Lines of a plan's table, bytes each. */
export type PlanRows = readonly (readonly [string, number])[];

/** The plan as a table; `beside` is what the run takes beside its training. */
export function describePlan(run: PlannedRun, layers: number, limit: MemoryLimit, beside: PlanRows = []): string[] {
  const { microBatchTokens, recompute, bytes } = run;
  const rows = [
    ['weights', bytes.weights],
    ['adapter', bytes.adapter],
    ['gradients and moments', bytes.optimizer],
    ['activations', bytes.activations],
    ['logits', bytes.logits],
    ['unpacked weights', bytes.scratch],
    ['inputs, tables, parameters', bytes.batch],
    ...beside,
    ['total', beside.reduce((sum, [, more]) => sum + more, bytes.total)],
  ] as const;
  const again = recompute > 0 ? `, ${recompute} of ${layers} layers computed again in the backward pass` : '';
  return [
    `Memory plan for micro-batches of ${microBatchTokens} tokens${again}; ${describeLimit(limit)}:`,
    ...tableOf(rows),
  ];
}

/** Against what a plan is held. */
export function describeLimit({ bytes, given, what }: MemoryLimit): string {
  if (bytes === null)
    return `${given ? '' : 'the system tells nothing of the card: '}give --memory-limit to have it checked`;
  return `${given ? '--memory-limit' : what}: ${formatBytes(bytes)}`;
}

/** A line for each that takes any memory. */
export function tableOf(rows: PlanRows): string[] {
  return rows
    .filter(([, value]) => value > 0)
    .map(([name, value]) => `  ${name.padEnd(28)} ${formatBytes(value).padStart(12)}`);
}

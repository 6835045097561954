// What run.json says of a run, and what a resumed run must have in common with it.

import { createRequire } from 'node:module';
import type { Options } from 'yargs';
import { InputError, UsageError } from '../errors.js';
import type { AdapterConfig } from '../formats/adapter.js';
import { hasFile } from '../formats/files.js';
import { fingerprint } from '../formats/fingerprint.js';
import { hubIdOf } from '../formats/hub-cache.js';
import { isSettings, type Tuning } from '../ops/tuning.js';
import { type FoundCheckpoint, findCheckpoint, readState } from './checkpoints.js';
import { readRun } from './run-directory.js';
import { isLexiBase, type OpenDevice, type OpenModel } from './session.js';
import { camelCase } from './usage.js';

/** `--resume` of every command that trains; without a type, so that it takes a directory or nothing. */
export const resumeOption = {
  resume: {
    describe:
      'Go on from this checkpoint or, bare, from the newest of --output; the settings are those of its run.json',
  },
} as const satisfies Record<string, Options>;

/** Options that a resumed run may change: how long it runs, what it writes on the way, and how its rollouts use memory. */
const extending = [
  'max-steps',
  'num-train-epochs',
  'total-episodes',
  'save-steps',
  'save-minutes',
  'eval-steps',
  'kv-cache-tokens',
];
/** Options that a resumed run does not take from its run.json. */
const ofThisCall = ['output', 'resume', 'config', 'json', 'profile', 'device', 'debug-gpu'];
/** Options that decide nothing of the results (micro-batches: rounding, masks). */
const free = [...ofThisCall, 'memory-limit', 'gradient-checkpointing', 'micro-batch-tokens'];
/** Options of files whose content is compared instead. */
const compared = ['model', 'data', 'eval-data'];

/** Options by their name in run.json. */
export function recordArguments(args: object, table: Readonly<Record<string, Options>>): Record<string, unknown> {
  const values = args as Record<string, unknown>;
  const names = Object.keys(table).filter((name) => name !== 'resume');
  return Object.fromEntries(names.map((name) => [underscored(name), values[name]]));
}

/** Those by which a run trained an adapter on a device: what was left to be chosen, or was settled by another option, resolved. */
export function recordChosen(
  open: OpenDevice,
  { r, alpha, targetModules, useRslora }: AdapterConfig,
  { microBatchTokens, recompute }: { readonly microBatchTokens: number; readonly recompute: number },
): Record<string, unknown> {
  return {
    device: open.device.info.device || open.device.info.description,
    tier: open.tier,
    lora_r: r,
    lora_alpha: alpha,
    lora_target_modules: targetModules.join(','),
    use_rslora: useRslora,
    micro_batch_tokens: microBatchTokens,
    gradient_checkpointing: recompute > 0 ? 'on' : 'off',
  };
}

/** A data file as run.json has it. */
export interface RecordedData {
  readonly file: string;
  /** SHA-256 (hex) of the file. */
  readonly digest: string;
  readonly stats: object;
}

const fingerprints = new WeakMap<OpenModel, string>();

/**
 * What identifies the base model and its tokenizer. Remembered: loading a model closes its files, so who trains on one
 * that is loaded asks before.
 */
export async function recordBase(model: OpenModel): Promise<Record<string, string | null>> {
  const sha256 = fingerprints.get(model) ?? (await fingerprint(model.checkpoint));
  fingerprints.set(model, sha256);
  return { sha256, tokenizer: model.tokenizer?.digest ?? null };
}

export function recordDevice(open: OpenDevice): Record<string, unknown> {
  return {
    description: open.describe,
    tier: open.tier,
    backend: open.device.info.description,
    tuning: Object.fromEntries(open.tuning),
  };
}

export function recordData(data: readonly (RecordedData | null)[]): Record<string, unknown>[] {
  return data.flatMap((d) => (d ? [{ file: d.file, sha256: d.digest, ...d.stats }] : []));
}

export function versions(): Record<string, string> {
  const require = createRequire(import.meta.url);
  return { node: process.versions.node, webgpu: require('webgpu/package.json').version as string };
}

/** What adapter_config.json says of its base model. */
export function baseName(model: OpenModel): string {
  return isLexiBase(model) ? 'lexi-base' : (hubIdOf(model.directory) ?? model.directory);
}

/** A run to be resumed. */
export interface ResumedRun<Arguments> {
  readonly checkpoint: FoundCheckpoint;
  /** Those of the run, with what the user may change of them. */
  readonly args: Arguments;
  readonly record: Record<string, unknown>;
  /** Kernel choices of the run. */
  readonly tuning: Tuning;
}

/** The arguments of a run, with the files it can't do without. Options don't demand them: run.json has a resumed run's. */
export function requireFiles<Arguments extends { readonly data?: string; readonly output?: string }>(
  command: string,
  args: Arguments,
): Arguments & { readonly data: string; readonly output: string } {
  const { data, output } = args;
  if (data !== undefined && output !== undefined) return { ...args, data, output };
  const missing = [data === undefined ? '--data' : '', output === undefined ? '--output' : ''].filter(Boolean);
  throw new UsageError(`${command} needs ${missing.join(' and ')}.`);
}

/**
 * Finds the checkpoint and takes the options from its run.json. Throws UsageError for an option that is named and
 * differs from the run's; names what and how.
 */
export async function resumeRun<Arguments extends { resume?: unknown; output?: string }>(
  command: string,
  args: Arguments,
  given: ReadonlySet<string>,
  table: Readonly<Record<string, Options>>,
): Promise<ResumedRun<Arguments>> {
  const resume = args.resume === true ? true : String(args.resume);
  const checkpoint = await findCheckpoint(resume, args.output);
  const record = await readRun(checkpoint.run);
  const before = record.arguments as Record<string, unknown> | undefined;
  const resolved = record.options as Record<string, unknown> | undefined;
  if (record.command !== command || !before || !resolved)
    throw new InputError(`${checkpoint.run}/run.json is not that of a run of lexalign ${command} that can be resumed.`);
  if (resume === true) await checkAdapterKept(checkpoint, record);
  const own = args as unknown as Record<string, unknown>;
  const values: Record<string, unknown> = { ...own };
  for (const [name, option] of Object.entries(table)) {
    // The tier that was chosen counts, and auto means that one; an option that the run did not know yet has its default.
    const used = name === 'tier' ? resolved.tier : (before[underscored(name)] ?? option.default);
    const same = JSON.stringify(own[name]) === JSON.stringify(used) || (name === 'tier' && own[name] === 'auto');
    if (given.has(name) && [...free, ...compared, ...extending].includes(name)) continue;
    if (given.has(name) && !same)
      throw new UsageError(
        `--resume: --${name} is ${own[name]}, the run began with ${used}: leave it out, or start a new run.`,
      );
    if (!ofThisCall.includes(name)) set(values, name, used);
  }
  set(values, 'output', checkpoint.run);
  set(values, 'tier', resolved.tier);
  if (!given.has('micro-batch-tokens')) set(values, 'micro-batch-tokens', resolved.micro_batch_tokens);
  return { checkpoint, args: values as unknown as Arguments, record, tuning: tuningOf(record) };
}

/**
 * Throws InputError where a run has ended behind its newest checkpoint and holds its adapter: going on from there would
 * put one of fewer steps in its place wherever it stops. Who names the checkpoint means that.
 */
async function checkAdapterKept({ run, path, step }: FoundCheckpoint, record: Record<string, unknown>): Promise<void> {
  const { outcome, steps } = (record.result ?? {}) as { readonly outcome?: unknown; readonly steps?: unknown };
  const isBehind = outcome !== 'interrupted' && typeof steps === 'number' && steps > step;
  if (isBehind && (await hasFile(run, 'adapter_model.safetensors')))
    throw new InputError(
      `--resume: the run has ended after step ${steps} and its newest checkpoint is of step ${step}: train on from its adapter in a new run, by --init-adapter ${run}, or give up that adapter and name the checkpoint, --resume ${path}.`,
    );
}

function tuningOf(record: Record<string, unknown>): Tuning {
  const { tuning } = (record.device ?? {}) as { tuning?: Record<string, unknown> };
  const entries = Object.entries(tuning ?? {});
  const bad = entries.find(([name, value]) => !isSettings(name, value));
  if (bad) throw new InputError(`run.json: device.tuning has settings of ${bad[0]} that are none lexalign knows`);
  return new Map(entries) as Tuning;
}

/** What run.json keeps of the options when a run is resumed: as before, but for what may change. */
export function extendArguments(run: ResumedRun<unknown>): Record<string, unknown> {
  const args = run.args as Record<string, unknown>;
  const changed = [...extending, ...compared].filter((name) => args[name] !== undefined);
  const before = run.record.arguments as Record<string, unknown>;
  return { ...before, ...Object.fromEntries(changed.map((name) => [underscored(name), args[name]])) };
}

/** Calls `refuse` where the base or its tokenizer is not the one that `recordBase` recorded. */
export async function checkBase(
  recorded: unknown,
  model: OpenModel,
  refuse: (what: string, mend: string) => never,
): Promise<void> {
  const base = await recordBase(model);
  const known = (recorded ?? {}) as Record<string, unknown>;
  if (base.sha256 !== known.sha256) refuse(`the base model ${model.directory} has changed`, 'give the one it had');
  if (base.tokenizer !== known.tokenizer)
    refuse(`the tokenizer or chat template of ${model.directory} has changed`, 'restore it');
}

/** Throws InputError that names what of model and data is not as it was when the run began. */
export async function checkUnchanged(
  run: ResumedRun<unknown>,
  model: OpenModel,
  data: readonly (RecordedData | null)[],
): Promise<void> {
  const refuse = (what: string, mend: string): never => {
    throw new InputError(`--resume: ${what} since ${run.checkpoint.run} began: ${mend}, or start a new run.`);
  };
  await checkBase(run.record.base, model, refuse);
  const files = (run.record.data ?? []) as { file: string; sha256: string }[];
  const now = data.flatMap((d) => (d ? [d] : []));
  if (now.length !== files.length)
    refuse(`there were ${files.length} data files, and are ${now.length}`, 'give the same ones');
  now.forEach((d, i) => {
    if (d.digest !== files[i].sha256) refuse(`the data ${d.file} has changed`, 'restore it');
  });
}

/**
 * Throws InputError where a resumed run has made all its steps: `options` are to be raised. One that broke off behind its
 * last checkpoint has its adapter yet to write.
 */
export function checkStepsLeft(
  run: ResumedRun<unknown>,
  made: number,
  total: number,
  steps: 'steps' | 'rollouts',
  options: string,
): void {
  if (made < total || (made === total && run.record.finished === undefined)) return;
  const has = made > total ? `${made} ${steps} where ${total} are asked for` : `its ${total} ${steps}`;
  throw new InputError(`--resume: the run has made ${has}: raise ${options} to go on.`);
}

/** Warns where results may differ in their last bits from those of a run without interruption. */
export function compareDevice(run: ResumedRun<unknown>, open: OpenDevice): void {
  const { description, backend } = (run.record.device ?? {}) as Record<string, unknown>;
  const device = recordDevice(open);
  if (device.description !== description || device.backend !== backend)
    console.error(`Warning: the run began on another device or driver (${description}): last bits may differ.`);
}

/** The state of a checkpoint, of the types that `like` has (null there: anything). Throws InputError. */
export async function readTrainerState<State extends object>(checkpoint: string, like: State): Promise<State> {
  const state = await readState(checkpoint);
  const check = (value: unknown, model: unknown, key: string): void => {
    if (model === null) return;
    if (value === null || typeof value !== typeof model)
      throw new InputError(`${checkpoint}/trainer_state.json: ${key} is ${value}, not a ${typeof model}`);
    if (typeof model !== 'object') return;
    for (const [name, entry] of Object.entries(model as object))
      check((value as Record<string, unknown>)[name], entry, key ? `${key}.${name}` : name);
  };
  check(state, like, '');
  return state as State;
}

function underscored(name: string): string {
  return name.replaceAll('-', '_');
}

function set(values: Record<string, unknown>, name: string, value: unknown): void {
  values[name] = value;
  values[camelCase(name)] = value;
}

import { mkdir, readdir, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join, resolve } from 'node:path';
import type { ArgumentsCamelCase, InferredOptionTypes } from 'yargs';
import { LINEAR_MODULES, linearShapes } from '../../models/tensors.js';
import type { Overlong } from '../batch/examples.js';
import { InputError, UsageError } from '../errors.js';
import type { Adapter, AdapterConfig } from '../formats/adapter.js';
import { readAdapter, writeAdapter } from '../formats/peft.js';
import { initialAdapter } from '../model/adapter.js';
import type { LanguageModel } from '../model/language-model.js';
import { createRandom } from '../random.js';
import { profileStep } from '../train/profile.js';
import { countSteps, countWarmup, type SftOptions, type SftResult, trainSft } from '../train/sft.js';
import { onInterrupt } from './interrupt.js';
import { findData, type LoadedData, loadData } from './load-data.js';
import type { Command } from './main.js';
import { chooseMicroBatch, formatBytes, parseBytes } from './memory.js';
import { checkSeed, configOption, modelOptions, sftOptions } from './options.js';
import { checkJson, writeJson } from './output-file.js';
import { previewData } from './preview.js';
import { RunDirectory } from './run-directory.js';
import { loadModel, type OpenDevice, type OpenModel, openDevice, openModel } from './session.js';

const options = { ...modelOptions, ...sftOptions, ...configOption };
export type SftArguments = ArgumentsCamelCase<InferredOptionTypes<typeof options>>;

export const sftCommand: Command = {
  command: 'sft',
  describe: 'Train a LoRA adapter by supervised fine-tuning',
  options,
  computes: true,
  run: async (args, given) => {
    const outcome = await runSft(args as unknown as SftArguments, given);
    return outcome.result.outcome === 'interrupted' ? 130 : 0;
  },
};

/** What an adapter to start from has settled already. */
const loraOptions = ['lora-r', 'lora-alpha', 'lora-dropout', 'lora-target-modules', 'use-rslora'];

export interface SftRun {
  readonly result: SftResult;
  readonly output: string;
}

/** A base model that already lies on a device: several runs may share it. */
export interface LoadedBase {
  readonly model: OpenModel;
  readonly open: OpenDevice;
  readonly loaded: LanguageModel;
}

/**
 * A whole run: checks everything, trains, and writes the run's directory. `given` are the options that the user named.
 * With `base`, on that instead of its own.
 */
export async function runSft(args: SftArguments, given: ReadonlySet<string>, base?: LoadedBase): Promise<SftRun> {
  checkArguments(args);
  if (args.initAdapter !== undefined) {
    const lora = loraOptions.find((name) => given.has(name));
    if (lora)
      throw new UsageError(`--${lora} with --init-adapter: that adapter's LoRA settings are kept; leave it out.`);
  }
  await checkJson(args.json, args.output);
  const model = base?.model ?? (await openModel(args.model));
  try {
    const checked = await checkRun(args, given, model);
    const open = base?.open ?? (await openDevice(args));
    try {
      console.log(open.describe);
      return await train(args, checked, { model, open, loaded: base?.loaded ?? null });
    } finally {
      if (!base) await open.close();
    }
  } finally {
    if (!base) await model.checkpoint.close();
  }
}

/** A run's input, read and found good. */
interface CheckedRun {
  readonly maxLength: number;
  readonly config: AdapterConfig;
  /** The adapter of --init-adapter; null for a new one. */
  readonly initial: Adapter | null;
  readonly train: LoadedData;
  readonly valid: LoadedData | null;
  /** Bytes; null where none was given. */
  readonly memoryLimit: number | null;
}

/** Everything that can be refused before a device is opened. */
async function checkRun(args: SftArguments, given: ReadonlySet<string>, model: OpenModel): Promise<CheckedRun> {
  const memoryLimit = args.memoryLimit === undefined ? null : parseBytes('--memory-limit', args.memoryLimit);
  const initial =
    args.initAdapter !== undefined ? await readAdapter(args.initAdapter, linearShapes(model.config)) : null;
  const config = initial?.config ?? newAdapterConfig(args);
  if (config.r > model.config.hiddenSize)
    throw new UsageError(
      `--lora-r ${config.r} is more than the model's hidden size ${model.config.hiddenSize}: lower it.`,
    );
  const maxLength = Math.min(args.maxLength, model.config.maxPositions);
  if (maxLength < args.maxLength && given.has('max-length'))
    console.log(`--max-length is ${maxLength}: the model has no more positions.`);
  await checkOutput(args.output);
  const files = await findData(args.data, args.evalData);
  if (!files.valid) {
    const idle = args.evalSteps > 0 ? 'eval-steps' : args.earlyStoppingPatience > 0 ? 'early-stopping-patience' : null;
    if (idle)
      throw new UsageError(
        `--${idle} needs evaluation data: give --eval-data, or a --data directory with valid.jsonl.`,
      );
  }
  const limits = { maxLength, overlong: args.overlong as Overlong };
  const train = await loadData(files.train, model, limits);
  const valid = files.valid ? await loadData(files.valid, model, limits) : null;
  for (const line of previewData(train, model)) console.log(line);
  if (valid) console.log(`Evaluation: ${valid.examples.length} rows of ${valid.file}.`);
  return { maxLength, config, initial, train, valid, memoryLimit };
}

async function train(
  args: SftArguments,
  run: CheckedRun,
  { model, open, loaded: given }: { model: OpenModel; open: OpenDevice; loaded: LanguageModel | null },
): Promise<SftRun> {
  const [rows, evalRows] = [run.train.examples, run.valid?.examples ?? []];
  const plan = chooseMicroBatch(open, model, run.config, [...rows, ...evalRows], {
    maxLength: run.maxLength,
    asked: args.microBatchTokens,
    limit: run.memoryLimit,
    batchSize: args.batchSize,
  });
  for (const line of plan.lines) console.log(line);
  const settings = settingsOf(args, plan.microBatchTokens);
  const { total } = countSteps(rows.length, settings);
  console.log(
    `Training: ${total} steps of ${args.batchSize} rows, ${countWarmup(total, settings)} of them warm-up; peak learning rate ${args.learningRate}.`,
  );
  const loaded = given ?? (await loadModel(open, model, run.maxLength));
  loaded.pool.acquire(plan.bytes.slots); // the largest program's memory first, so that it never grows
  const random = createRandom(args.seed);
  const initial = run.initial ?? initialAdapter(model.config, run.config, () => random.uint32() / 2 ** 32);
  const weights = await loaded.addAdapter(initial, { trainable: true });
  const directory = await RunDirectory.create(args.output, {
    command: 'sft',
    options: describeOptions(args, run, settings, open),
    model: model.directory,
    device: {
      description: open.describe,
      tier: open.tier,
      backend: open.device.info.description,
      tuning: Object.fromEntries(open.tuning),
    },
    versions: versions(),
    data: [run.train, run.valid].flatMap((d) => (d ? [{ file: d.file, sha256: d.digest, ...d.stats }] : [])),
    memory: { ...plan.bytes, microBatchTokens: plan.microBatchTokens },
  });
  const interrupt = onInterrupt(() =>
    console.error('Interrupted: writing a checkpoint after this step; again to quit at once.'),
  );
  try {
    const result = await trainSft(loaded, weights, { train: rows, valid: evalRows }, settings, {
      step: (metrics) => directory.step(metrics, total),
      evaluation: (metrics, best) => directory.evaluation(metrics, best),
      checkpoint: (name, adapter, state, moments) =>
        directory.checkpoint(name, adapter, baseName(model), state, moments),
      interrupted: () => interrupt.requested,
    });
    await writeAdapter(args.output, result.adapter, baseName(model));
    const summary = {
      outcome: result.outcome,
      steps: result.steps,
      skipped_steps: result.skippedSteps,
      train_loss: result.trainLoss,
      eval_loss: result.evalLoss,
      device_bytes: open.device.allocatedBytes,
      planned_bytes: plan.bytes.total,
    };
    await directory.finish(summary);
    if (args.profile) {
      for (const line of await profileStep(loaded, weights, rows.slice(0, args.batchSize), settings)) console.log(line);
    }
    await writeJson(args.json, summary);
    console.log(
      `${describeOutcome(result)} Adapter and metrics: ${args.output} (device memory ${formatBytes(open.device.allocatedBytes)}).`,
    );
    return { result, output: args.output };
  } finally {
    interrupt.remove();
    await directory.close();
    weights.destroy();
  }
}

function newAdapterConfig(args: SftArguments): AdapterConfig {
  const names =
    args.loraTargetModules === 'all-linear'
      ? [...LINEAR_MODULES]
      : args.loraTargetModules.split(',').map((name) => name.trim());
  for (const name of names) {
    if (!(LINEAR_MODULES as readonly string[]).includes(name)) {
      throw new UsageError(`--lora-target-modules: ${name} is not one of ${LINEAR_MODULES.join(', ')} or all-linear.`);
    }
  }
  return {
    r: args.loraR,
    alpha: args.loraAlpha,
    dropout: args.loraDropout,
    targetModules: [...new Set(names)],
    useRslora: args.useRslora,
  };
}

function settingsOf(args: SftArguments, microBatchTokens: number): SftOptions {
  return {
    batchSize: args.batchSize,
    microBatchTokens,
    epochs: args.numTrainEpochs,
    maxSteps: Math.max(0, args.maxSteps),
    learningRate: args.learningRate,
    schedulerType: args.lrSchedulerType as SftOptions['schedulerType'],
    warmupSteps: args.warmupSteps,
    warmupRatio: args.warmupRatio,
    weightDecay: args.weightDecay,
    beta1: args.adamBeta1,
    beta2: args.adamBeta2,
    epsilon: args.adamEpsilon,
    maxGradNorm: args.maxGradNorm,
    loraPlusRatio: args.loraplusLrRatio,
    seed: args.seed,
    shuffle: args.shuffle,
    evalSteps: args.evalSteps,
    saveSteps: args.saveSteps,
    earlyStoppingPatience: args.earlyStoppingPatience,
  };
}

/** Numbers that make no sense, in the words of their option. */
function checkArguments(args: SftArguments): void {
  const whole = (name: string, value: number, least: number) => {
    if (!Number.isSafeInteger(value) || value < least)
      throw new UsageError(`--${name} must be a whole number of at least ${least}.`);
  };
  const within = (name: string, value: number, from: number, to: number) => {
    if (!(value >= from && value < to)) throw new UsageError(`--${name} must be at least ${from} and below ${to}.`);
  };
  whole('lora-r', args.loraR, 1);
  whole('batch-size', args.batchSize, 1);
  whole('micro-batch-tokens', args.microBatchTokens, 0);
  whole('max-length', args.maxLength, 2);
  whole('max-steps', args.maxSteps, -1); // -1 is TRL's way to say that it is off
  whole('warmup-steps', args.warmupSteps, 0);
  whole('eval-steps', args.evalSteps, 0);
  whole('save-steps', args.saveSteps, 0);
  whole('early-stopping-patience', args.earlyStoppingPatience, 0);
  checkSeed(args.seed);
  within('lora-dropout', args.loraDropout, 0, 1);
  within('warmup-ratio', args.warmupRatio, 0, 1);
  within('adam-beta1', args.adamBeta1, 0, 1);
  within('adam-beta2', args.adamBeta2, 0, 1);
  for (const [name, value] of [
    ['lora-alpha', args.loraAlpha],
    ['num-train-epochs', args.numTrainEpochs],
    ['loraplus-lr-ratio', args.loraplusLrRatio],
    ['adam-epsilon', args.adamEpsilon],
  ] as const) {
    if (!(value > 0)) throw new UsageError(`--${name} must be above 0.`);
  }
  within('learning-rate', args.learningRate, 0, Number.POSITIVE_INFINITY);
  within('weight-decay', args.weightDecay, 0, Number.POSITIVE_INFINITY);
  within('max-grad-norm', args.maxGradNorm, 0, Number.POSITIVE_INFINITY);
}

/** A run's directory must be new or empty, so that no run writes over another; and writable. Leaves nothing behind. */
export async function checkOutput(output: string): Promise<void> {
  const entries = await readdir(output).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw new InputError(
      `--output ${output} cannot be used: ${error.code === 'ENOTDIR' ? 'it, or a part of its path, is a file' : error.message}.`,
    );
  });
  if (entries.length > 0) throw new InputError(`--output ${output} is not empty: name a new directory, or remove it.`);
  const refuse = (error: NodeJS.ErrnoException) => {
    throw new InputError(`--output ${output} is not writable (${error.code}): name a directory that you may write to.`);
  };
  // Not mkdir's `recursive`: below /proc it never ends.
  const missing: string[] = [];
  for (let path = resolve(output); !(await stat(path).catch(() => null)); path = dirname(path)) missing.push(path);
  const made: string[] = [];
  try {
    for (const path of missing.reverse()) {
      await mkdir(path).catch(refuse);
      made.unshift(path);
    }
    const probe = join(output, '.writable');
    await writeFile(probe, '').catch(refuse);
    await rm(probe);
  } finally {
    for (const path of made) await rmdir(path);
  }
}

/** Every option as it was used: what was left to be chosen, or was settled by another option, is resolved. */
function describeOptions(
  args: SftArguments,
  run: CheckedRun,
  settings: SftOptions,
  open: OpenDevice,
): Record<string, unknown> {
  const given = Object.fromEntries(
    Object.keys(options).map((name) => [name.replaceAll('-', '_'), (args as Record<string, unknown>)[name]]),
  );
  return {
    ...given,
    device: open.device.info.device || open.device.info.description,
    tier: open.tier,
    eval_data: run.valid?.file,
    lora_r: run.config.r,
    lora_alpha: run.config.alpha,
    lora_dropout: run.config.dropout,
    lora_target_modules: run.config.targetModules.join(','),
    use_rslora: run.config.useRslora,
    micro_batch_tokens: settings.microBatchTokens,
    max_length: run.maxLength,
    max_steps: settings.maxSteps,
  };
}

function versions(): Record<string, string> {
  const require = createRequire(import.meta.url);
  return { node: process.versions.node, webgpu: require('webgpu/package.json').version as string };
}

/** What adapter_config.json says of its base model. */
function baseName(model: OpenModel): string {
  return basename(model.directory) === 'lexi-base' ? 'lexi-base' : model.directory;
}

function describeOutcome(result: SftResult): string {
  const loss = `train loss ${result.trainLoss.toFixed(4)}${result.evalLoss === null ? '' : `, eval loss ${result.evalLoss.toFixed(4)}`}`;
  const skipped = result.skippedSteps > 0 ? `, ${result.skippedSteps} steps skipped for non-finite gradients` : '';
  return `${result.outcome[0].toUpperCase()}${result.outcome.slice(1)} after ${result.steps} steps: ${loss}${skipped}.`;
}

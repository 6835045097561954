import { readdir, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, join } from 'node:path';
import type { ArgumentsCamelCase, InferredOptionTypes } from 'yargs';
import { LINEAR_MODULES, linearShapes } from '../../models/tensors.js';
import type { Overlong } from '../batch/examples.js';
import { InputError, UsageError } from '../errors.js';
import type { Adapter, AdapterConfig } from '../formats/adapter.js';
import { makeDirectory, writeFileAtomic } from '../formats/files.js';
import { readAdapter, writeAdapter } from '../formats/peft.js';
import { initialAdapter } from '../model/adapter.js';
import type { LanguageModel } from '../model/language-model.js';
import { createRandom } from '../random.js';
import { countSteps, countWarmup, type SftOptions, type SftResult, trainSft } from '../train/sft.js';
import { onInterrupt } from './interrupt.js';
import { findData, loadData } from './load-data.js';
import type { Command } from './main.js';
import { chooseMicroBatch, formatBytes, parseBytes } from './memory.js';
import { configOption, modelOptions, sftOptions } from './options.js';
import { previewData } from './preview.js';
import { profileStep } from './profile.js';
import { RunDirectory } from './run-directory.js';
import { loadModel, type OpenDevice, type OpenModel, openDevice, openModel } from './session.js';

const options = { ...modelOptions, ...sftOptions, ...configOption };
export type SftArguments = ArgumentsCamelCase<InferredOptionTypes<typeof options>>;

export const sftCommand: Command = {
  command: 'sft',
  describe: 'Train a LoRA adapter by supervised fine-tuning',
  options,
  computes: true,
  run: async (args) => {
    const outcome = await runSft(args as unknown as SftArguments);
    return outcome.result.outcome === 'interrupted' ? 130 : 0;
  },
};

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

/** A whole run: checks everything, trains, and writes the run's directory. With `base`, on that instead of its own. */
export async function runSft(args: SftArguments, base?: LoadedBase): Promise<SftRun> {
  checkArguments(args);
  const model = base?.model ?? (await openModel(args.model));
  const { maxLength } = args;
  if (maxLength > model.config.maxPositions) {
    throw new UsageError(
      `--max-length ${maxLength} passes the model's ${model.config.maxPositions} positions: lower it.`,
    );
  }
  const initial = args.initAdapter
    ? await readAdapter(args.initAdapter, linearShapes(model.config))
    : newAdapter(args, model);
  const files = await findData(args.data, args.evalData);
  const limits = { maxLength, overlong: args.overlong as Overlong };
  const train = await loadData(files.train, model, limits);
  const valid = files.valid ? await loadData(files.valid, model, limits) : null;
  const memoryLimit = args.memoryLimit === undefined ? null : parseBytes('--memory-limit', args.memoryLimit);
  await checkOutput(args.output);
  for (const line of previewData(train, model)) console.log(line);
  if (valid) console.log(`Evaluation: ${valid.examples.length} rows of ${valid.file}.`);

  const open = base?.open ?? (await openDevice(args));
  try {
    console.log(open.describe);
    const plan = chooseMicroBatch(open, model, initial.config, [...train.examples, ...(valid?.examples ?? [])], {
      maxLength,
      asked: args.microBatchTokens,
      limit: memoryLimit,
      batchSize: args.batchSize,
    });
    for (const line of plan.lines) console.log(line);
    const settings = settingsOf(args, plan.microBatchTokens);
    const { total } = countSteps(train.examples.length, settings);
    console.log(
      `Training: ${total} steps of ${args.batchSize} rows, ${countWarmup(total, settings)} of them warm-up; peak learning rate ${args.learningRate}.`,
    );
    const run = await RunDirectory.create(args.output, {
      command: 'sft',
      options: describeOptions(args, settings),
      model: model.directory,
      device: { description: open.describe, tier: open.tier, backend: open.device.info.description },
      versions: versions(),
      data: [train, valid].flatMap((d) => (d ? [{ file: d.file, sha256: d.digest, ...d.stats }] : [])),
      memory: { ...plan.bytes, microBatchTokens: plan.microBatchTokens },
    });
    const loaded = base?.loaded ?? (await loadModel(open, model, maxLength));
    loaded.pool.acquire(plan.bytes.slots); // the largest program's memory first, so that it never grows
    const weights = await loaded.addAdapter(initial, { trainable: true });
    const interrupt = onInterrupt(() =>
      console.error('Interrupted: writing a checkpoint after this step; again to quit at once.'),
    );
    let result: SftResult;
    try {
      result = await trainSft(loaded, weights, { train: train.examples, valid: valid?.examples ?? [] }, settings, {
        step: (metrics) => run.step(metrics, total),
        evaluation: (metrics, best) => run.evaluation(metrics, best),
        checkpoint: (name, adapter, state, moments) => run.checkpoint(name, adapter, baseName(model), state, moments),
        interrupted: () => interrupt.requested,
      });
    } finally {
      interrupt.remove();
    }
    await writeAdapter(args.output, result.adapter, baseName(model));
    if (args.profile) {
      for (const line of await profileStep(loaded, weights, train.examples.slice(0, args.batchSize), settings))
        console.log(line);
    }
    const summary = {
      outcome: result.outcome,
      steps: result.steps,
      skipped_steps: result.skippedSteps,
      train_loss: result.trainLoss,
      eval_loss: result.evalLoss,
      device_bytes: open.device.allocatedBytes,
      planned_bytes: plan.bytes.total,
    };
    await run.finish(summary);
    if (args.json !== undefined) await writeJson(args.json, summary);
    console.log(
      `${describeOutcome(result)} Adapter and metrics: ${args.output} (device memory ${formatBytes(open.device.allocatedBytes)}).`,
    );
    weights.destroy();
    return { result, output: args.output };
  } finally {
    if (!base) {
      open.close();
      await model.checkpoint.close();
    }
  }
}

function newAdapter(args: SftArguments, model: OpenModel): Adapter {
  const names =
    args.loraTargetModules === 'all-linear'
      ? [...LINEAR_MODULES]
      : args.loraTargetModules.split(',').map((name) => name.trim());
  for (const name of names) {
    if (!(LINEAR_MODULES as readonly string[]).includes(name)) {
      throw new UsageError(`--lora-target-modules: ${name} is not one of ${LINEAR_MODULES.join(', ')} or all-linear.`);
    }
  }
  const config: AdapterConfig = {
    r: args.loraR,
    alpha: args.loraAlpha,
    dropout: args.loraDropout,
    targetModules: names,
    useRslora: args.useRslora,
  };
  const random = createRandom(args.seed);
  return initialAdapter(model.config, config, () => random.uint32() / 2 ** 32);
}

function settingsOf(args: SftArguments, microBatchTokens: number): SftOptions {
  return {
    batchSize: args.batchSize,
    microBatchTokens,
    epochs: args.numTrainEpochs,
    maxSteps: args.maxSteps,
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
    if (!Number.isInteger(value) || value < least)
      throw new UsageError(`--${name} must be a whole number of at least ${least}.`);
  };
  const within = (name: string, value: number, from: number, to: number) => {
    if (!(value >= from && value < to)) throw new UsageError(`--${name} must be at least ${from} and below ${to}.`);
  };
  whole('lora-r', args.loraR, 1);
  whole('batch-size', args.batchSize, 1);
  whole('micro-batch-tokens', args.microBatchTokens, 0);
  whole('max-length', args.maxLength, 2);
  whole('max-steps', args.maxSteps, 0);
  whole('warmup-steps', args.warmupSteps, 0);
  whole('eval-steps', args.evalSteps, 0);
  whole('save-steps', args.saveSteps, 0);
  whole('early-stopping-patience', args.earlyStoppingPatience, 0);
  whole('seed', args.seed, 0);
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

/** A run's directory must be new or empty, so that no run writes over another. */
export async function checkOutput(output: string): Promise<void> {
  const entries = await readdir(output).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw new InputError(
      `--output ${output} cannot be used: ${error.code === 'ENOTDIR' ? 'it is a file' : error.message}.`,
    );
  });
  if (entries.length > 0) throw new InputError(`--output ${output} is not empty: name a new directory, or remove it.`);
  await makeDirectory(output);
  const probe = join(output, '.writable');
  await writeFileAtomic(probe, '').catch((error: Error) => {
    throw new InputError(`--output ${output} is not writable: ${error.message}.`);
  });
  await rm(probe);
}

function describeOptions(args: SftArguments, settings: SftOptions): Record<string, unknown> {
  const given = Object.fromEntries(
    Object.keys(options).map((name) => [name.replaceAll('-', '_'), (args as Record<string, unknown>)[name]]),
  );
  return { ...given, micro_batch_tokens: settings.microBatchTokens };
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

async function writeJson(target: string, value: unknown): Promise<void> {
  const text = `${JSON.stringify(value, null, 2)}\n`;
  if (target === '-') process.stdout.write(text);
  else await writeFileAtomic(target, text);
}

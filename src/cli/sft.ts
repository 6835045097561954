import { join } from 'node:path';
import type { ArgumentsCamelCase, InferredOptionTypes } from 'yargs';
import { linearShapes } from '../../models/tensors.js';
import type { Overlong } from '../batch/examples.js';
import { InputError, UsageError } from '../errors.js';
import type { Adapter, AdapterConfig } from '../formats/adapter.js';
import { readAdapter } from '../formats/peft.js';
import { initialAdapter } from '../model/adapter.js';
import type { LanguageModel } from '../model/language-model.js';
import { createRandom } from '../random.js';
import { profileStep } from '../train/profile.js';
import {
  countSteps,
  countWarmup,
  initialState,
  type SftOptions,
  type SftResult,
  type SftResume,
  type StepMetrics,
  trainSft,
} from '../train/sft.js';
import { checkWhole, checkWithin } from './check-numbers.js';
import { readState, readTrained, removeLatest, writeCheckpoint, writeTrained } from './checkpoints.js';
import { onInterrupt } from './interrupt.js';
import { findData, type LoadedData, loadData } from './load-data.js';
import { newAdapterConfig } from './lora.js';
import type { Command } from './main.js';
import { type Checkpointing, chooseMicroBatch, formatBytes, type PlannedRun, parseBytes } from './memory.js';
import { configOption, modelOptions, sftOptions } from './options.js';
import { checkJson, writeJson } from './output-file.js';
import { previewData } from './preview.js';
import { checkOutput, RunDirectory } from './run-directory.js';
import {
  baseName,
  checkStepsLeft,
  checkUnchanged,
  compareDevice,
  extendArguments,
  type ResumedRun,
  readTrainerState,
  recordArguments,
  recordBase,
  recordChosen,
  recordData,
  recordDevice,
  requireFiles,
  resumeOption,
  resumeRun,
  versions,
} from './run-record.js';
import { loadModel, type OpenDevice, type OpenModel, openDevice, openModel } from './session.js';
import { checkTraining, trainingSettings } from './training-arguments.js';

const trainingOptions = { ...modelOptions, ...sftOptions, ...configOption };
/** What `plan` takes too. */
type TrainingArguments = ArgumentsCamelCase<InferredOptionTypes<typeof trainingOptions>>;
/** Every option of `lexalign sft`. */
export const sftTable = { ...trainingOptions, ...resumeOption };
export type SftArguments = ArgumentsCamelCase<InferredOptionTypes<typeof sftTable>>;
/** With what a run can't do without. */
type Arguments = SftArguments & { readonly data: string; readonly output: string };

export const sftCommand: Command = {
  command: 'sft',
  describe: 'Train a LoRA adapter by supervised fine-tuning',
  options: sftTable,
  computes: true,
  run: async (args, given) => {
    const result = await runSft(args as unknown as SftArguments, given);
    return result.outcome === 'interrupted' ? 130 : 0;
  },
};

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
export async function runSft(asked: SftArguments, given: ReadonlySet<string>, base?: LoadedBase): Promise<SftResult> {
  const resumed = asked.resume ? await resumeRun('sft', asked, given, sftTable) : null;
  const args = requireFiles('sft', resumed?.args ?? asked);
  checkArguments(args, given);
  await checkJson(args.json, args.output);
  await findData(args.data, args.evalData); // before a model is fetched for it
  const model = base?.model ?? (await openModel(args));
  try {
    const checked = await checkRun(args, given, model, resumed);
    const open = base?.open ?? (await openDevice(args, resumed?.tuning));
    try {
      console.log(open.describe);
      if (resumed) compareDevice(resumed, open);
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
  /** The adapter of --init-adapter or of the checkpoint; null for a new one. */
  readonly initial: Adapter | null;
  /** What base model and tokenizer they are. */
  readonly base: Record<string, unknown>;
  readonly resume: (SftResume & { readonly run: ResumedRun<SftArguments> }) | null;
  readonly train: LoadedData;
  readonly valid: LoadedData | null;
  /** Bytes; null where none was given. */
  readonly memoryLimit: number | null;
}

/** Everything that can be refused before a device is opened. */
async function checkRun(
  args: Arguments,
  given: ReadonlySet<string>,
  model: OpenModel,
  resumed: ResumedRun<SftArguments> | null,
): Promise<CheckedRun> {
  const memoryLimit = args.memoryLimit === undefined ? null : parseBytes('--memory-limit', args.memoryLimit);
  const trained = resumed && (await readTrained(resumed.checkpoint.path, linearShapes(model.config)));
  const initial =
    trained?.adapter ??
    (args.initAdapter !== undefined ? await readAdapter(args.initAdapter, linearShapes(model.config)) : null);
  const config = initial?.config ?? newAdapterConfig(args);
  if (config.r > model.config.hiddenSize)
    throw new UsageError(
      `--lora-r ${config.r} is more than the model's hidden size ${model.config.hiddenSize}: lower it.`,
    );
  const maxLength = Math.min(args.maxLength, model.config.maxPositions);
  if (maxLength < args.maxLength && given.has('max-length'))
    console.log(`--max-length is ${maxLength}: the model has no more positions.`);
  if (!resumed) await checkOutput(args.output);
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
  if (resumed) await checkUnchanged(resumed, model, [train, valid]);
  const resume = resumed && {
    run: resumed,
    state: await readTrainerState(resumed.checkpoint.path, initialState('f32', args.seed)),
    moments: trained!.moments,
    best: null,
  };
  const { total } = countSteps(train.examples.length, settingsOf(args, { microBatchTokens: 0, recompute: 0 }));
  const oneLeft = resume?.state.evaluationDue === true && resume.state.step === total; // the last evaluation
  if (resume && !oneLeft)
    checkStepsLeft(resume.run, resume.state.step, total, 'steps', '--max-steps or --num-train-epochs');
  for (const line of previewData(train, model)) console.log(line);
  if (valid) console.log(`Evaluation: ${valid.examples.length} rows of ${valid.file}.`);
  const best = resume?.state.best ? await readBest(resume.run, resume.state.best.step, model) : null;
  return {
    maxLength,
    config,
    initial,
    base: await recordBase(model),
    train,
    valid,
    memoryLimit,
    resume: resume && { ...resume, best },
  };
}

/** The adapter of the best evaluation so far, which an early stop ends with. */
async function readBest(run: ResumedRun<SftArguments>, step: number, model: OpenModel): Promise<Adapter> {
  const path = join(run.checkpoint.run, 'checkpoints', 'best');
  const state = await readState(path);
  if (state.step !== step)
    throw new InputError(`${path} is of step ${state.step}, but ${run.checkpoint.path} had its best at ${step}.`);
  return readAdapter(path, linearShapes(model.config));
}

async function train(
  args: Arguments,
  run: CheckedRun,
  { model, open, loaded: given }: { model: OpenModel; open: OpenDevice; loaded: LanguageModel | null },
): Promise<SftResult> {
  const [rows, evalRows] = [run.train.examples, run.valid?.examples ?? []];
  const request = {
    config: model.config,
    packed: model.checkpoint.packed,
    adapter: run.config,
    maxLength: run.maxLength,
    asked: args.microBatchTokens,
    checkpointing: args.gradientCheckpointing as Checkpointing,
  };
  const { batchSize } = args;
  const plan = chooseMicroBatch(open, request, [...rows, ...evalRows], { limit: run.memoryLimit, batchSize });
  for (const line of plan.lines) console.log(line);
  const settings = settingsOf(args, plan);
  const { total } = countSteps(rows.length, settings);
  const { resume } = run;
  const warmup = countWarmup(total, settings);
  console.log(
    `Training: ${resume ? `from step ${resume.state.step} to ` : ''}${total} steps of ${args.batchSize} rows, ${warmup} of them warm-up; peak learning rate ${args.learningRate}.`,
  );
  if (total === 1 && warmup > 0)
    console.error(
      'Warning: the only step is warm-up, which begins at a learning rate of 0, so nothing is learnt: make more steps (less --batch-size, more --num-train-epochs), or give --warmup-steps 0.',
    );
  const loaded = given ?? (await loadModel(open, model, run.maxLength));
  loaded.pool.acquire(plan.bytes.slots); // the largest program's memory first, so that it never grows
  const random = createRandom(args.seed);
  const initial = run.initial ?? initialAdapter(model.config, run.config, () => random.uint32() / 2 ** 32);
  const weights = await loaded.addAdapter(initial, { trainable: true });
  const { slots: _, ...bytes } = plan.bytes;
  const record = {
    command: 'sft',
    options: describeOptions(args, run, settings, open),
    model: model.directory,
    device: recordDevice(open),
    versions: versions(),
    total_steps: total,
    data: recordData([run.train, run.valid]),
    memory: { ...bytes, micro_batch_tokens: plan.microBatchTokens, recomputed_layers: plan.recompute },
  };
  const directory = resume
    ? await RunDirectory.reopen(args.output, { ...record, arguments: extendArguments(resume.run) }, resume.state)
    : await RunDirectory.create(args.output, { ...record, arguments: recordArguments(args, sftTable), base: run.base });
  const interrupt = onInterrupt(() =>
    console.error(
      'Interrupted: writing a checkpoint after this step; an evaluation that has not ended is made anew by --resume. Again to quit at once.',
    ),
  );
  try {
    const result = await trainSft(
      loaded,
      weights,
      { train: rows, valid: evalRows },
      settings,
      {
        step: async (metrics) => {
          await directory.append(metrics.step, metrics);
          directory.progress(metrics.step / total, describeStep(metrics, total));
        },
        evaluation: async (metrics, best) => {
          await directory.append(metrics.step, metrics);
          directory.line(`step ${metrics.step}  eval loss ${metrics.eval_loss.toFixed(4)}${best ? ' (best)' : ''}`);
        },
        checkpoint: (name, adapter, state, moments) =>
          writeCheckpoint(args.output, name, state, (path) =>
            writeTrained(path, { adapter, moments }, baseName(model)),
          ),
        interrupted: () => interrupt.requested,
      },
      resume,
    );
    const summary = {
      outcome: result.outcome,
      steps: result.steps,
      skipped_steps: result.skippedSteps,
      train_loss: result.trainLoss,
      eval_loss: result.evalLoss,
      device_bytes: open.device.allocatedBytes,
      planned_bytes: plan.bytes.total,
    };
    await directory.finish(result.adapter, baseName(model), summary);
    await removeLatest(args.output);
    if (args.profile) {
      for (const line of await profileStep(loaded, weights, rows.slice(0, args.batchSize), settings)) console.log(line);
    }
    await writeJson(args.json, summary);
    console.log(
      `${describeOutcome(result)} Adapter and metrics: ${args.output} (device memory ${formatBytes(open.device.allocatedBytes)}).`,
    );
    return result;
  } finally {
    interrupt.remove();
    await directory.close();
    weights.destroy();
  }
}

/** What training is told. */
export function settingsOf(
  args: TrainingArguments,
  run: Pick<PlannedRun, 'microBatchTokens' | 'recompute'>,
): SftOptions {
  return {
    ...trainingSettings(args),
    microBatchTokens: run.microBatchTokens,
    recompute: run.recompute,
    epochs: args.numTrainEpochs,
    maxSteps: Math.max(0, args.maxSteps),
    warmupSteps: args.warmupSteps ?? null,
    warmupRatio: args.warmupRatio,
    evalSteps: args.evalSteps,
    earlyStoppingPatience: args.earlyStoppingPatience,
  };
}

/** Numbers and combinations that make no sense, in the words of their option. */
export function checkArguments(args: TrainingArguments, given: ReadonlySet<string>): void {
  checkTraining(args, given);
  checkWhole('max-length', args.maxLength, 2);
  checkWhole('max-steps', args.maxSteps, -1); // -1 is TRL's way to say that it is off
  checkWhole('eval-steps', args.evalSteps, 0);
  checkWhole('early-stopping-patience', args.earlyStoppingPatience, 0);
  checkWithin('lora-dropout', args.loraDropout, 0, 1);
  checkWithin('warmup-ratio', args.warmupRatio, 0, 1);
}

/** Every option as it was used: what was left to be chosen, or was settled by another option, is resolved. */
function describeOptions(
  args: Arguments,
  run: CheckedRun,
  settings: SftOptions,
  open: OpenDevice,
): Record<string, unknown> {
  return {
    ...recordArguments(args, sftTable),
    ...recordChosen(open, run.config, settings),
    eval_data: run.valid?.file,
    lora_dropout: run.config.dropout,
    max_length: run.maxLength,
    max_steps: settings.maxSteps,
  };
}

function describeStep(metrics: StepMetrics, total: number): string {
  const { step, loss, learning_rate, grad_norm, tokens_per_second, examples_per_second, skipped } = metrics;
  return (
    `step ${step}/${total}  loss ${loss.toFixed(4)}  lr ${learning_rate.toExponential(2)}  norm ${grad_norm.toFixed(3)}  ` +
    `${tokens_per_second.toFixed(0)} tok/s  ${examples_per_second.toFixed(1)} rows/s${skipped ? '  skipped' : ''}`
  );
}

/** The closing sentence of a run. */
export function describeOutcome(result: Omit<SftResult, 'adapter'>): string {
  const { outcome, steps, skippedSteps, trainLoss, evalLoss } = result;
  const head = `${outcome[0].toUpperCase()}${outcome.slice(1)} after ${steps} steps`;
  if (steps > 0 && skippedSteps === steps)
    return `${head}: nothing was learnt, because losses or gradients were not finite in any. More steps may find a loss scale that fits; else try --tier f32, or a lower --learning-rate.`;
  const loss = `train loss ${trainLoss.toFixed(4)}${evalLoss === null ? '' : `, eval loss ${evalLoss.toFixed(4)}`}`;
  const skipped = skippedSteps > 0 ? `, ${skippedSteps} steps skipped for non-finite gradients` : '';
  return `${head}: ${loss}${skipped}.`;
}

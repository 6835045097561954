import type { ArgumentsCamelCase, InferredOptionTypes } from 'yargs';
import type { CheckpointOptions } from '../train/checkpoint-schedule.js';
import type { AdamWOptions } from '../train/optimizer.js';
import type { SchedulerType } from '../train/schedule.js';
import { checkPositive, checkWhole, checkWithin } from './check-numbers.js';
import { checkInitAdapter } from './lora.js';
import { checkSeed, type sftOptions } from './options.js';
import type { ppoOptions } from './ppo-options.js';

/** What every command that trains has. */
type Shared = Pick<typeof sftOptions, keyof typeof sftOptions & keyof typeof ppoOptions>;
type TrainingArguments = ArgumentsCamelCase<InferredOptionTypes<Shared>>;

/** What the options mean to the trainer, as far as every command has them. */
export function trainingSettings(args: TrainingArguments) {
  const adamw: AdamWOptions = {
    weightDecay: args.weightDecay,
    beta1: args.adamBeta1,
    beta2: args.adamBeta2,
    epsilon: args.adamEpsilon,
    maxGradNorm: args.maxGradNorm,
    loraPlusRatio: args.loraplusLrRatio,
  };
  const checkpoints: CheckpointOptions = { saveSteps: args.saveSteps, saveMinutes: args.saveMinutes };
  const { batchSize, learningRate, seed, shuffle } = args;
  const schedulerType = args.lrSchedulerType as SchedulerType;
  return { batchSize, learningRate, schedulerType, seed, shuffle, ...adamw, ...checkpoints };
}

/** Numbers and combinations of them that make no sense, in the words of their option. */
export function checkTraining(args: TrainingArguments, given: ReadonlySet<string>): void {
  const infinity = Number.POSITIVE_INFINITY;
  checkInitAdapter(args.initAdapter, given);
  for (const name of ['lora-r', 'batch-size'] as const) checkWhole(name, args[name] as number, 1);
  for (const name of ['micro-batch-tokens', 'save-steps'] as const) checkWhole(name, args[name] as number, 0);
  if (args.warmupSteps !== undefined) checkWhole('warmup-steps', args.warmupSteps, 0);
  for (const name of ['adam-beta1', 'adam-beta2'] as const) checkWithin(name, args[name] as number, 0, 1);
  for (const name of ['learning-rate', 'weight-decay', 'max-grad-norm', 'save-minutes'] as const)
    checkWithin(name, args[name] as number, 0, infinity);
  for (const name of ['lora-alpha', 'num-train-epochs', 'loraplus-lr-ratio', 'adam-epsilon'] as const)
    checkPositive(name, args[name] as number);
  checkSeed(args.seed);
}

import type { Options } from 'yargs';
import { UsageError } from '../errors.js';
import { QUANTIZED_FORMATS } from '../model/quantized-layouts.js';
import { checkUint32 } from './check-numbers.js';
import { jsonOption } from './output-file.js';

/** Where a command computes, and on which base model. Keys are the long option names. */
export const modelOptions = {
  model: {
    type: 'string',
    describe: 'Model directory, or a name on the hub (ORG/NAME); without it the embedded lexi-base',
  },
  device: {
    type: 'string',
    default: 'auto',
    describe: 'auto, gpu, cpu (a software driver), or a part of an adapter name',
  },
  tier: {
    type: 'string',
    choices: ['auto', 'tensor', 'f16', 'f32'],
    default: 'auto',
    describe:
      'Matrix products in f32, in f16, or in f16 on matrix units (tensor); auto: the fastest that passes its self-test',
  },
  quantize: {
    type: 'string',
    choices: QUANTIZED_FORMATS,
    default: 'none',
    describe: 'Quantise float weights as they are loaded: nf4 as bitsandbytes does, int4 and int8 as MLX',
  },
  'debug-gpu': { type: 'boolean', default: false, describe: 'Keep bounds checks in shaders (slow)' },
  'memory-limit': { type: 'string', describe: 'Device memory to stay under, e.g. 8GiB or 512MiB' },
} as const satisfies Record<string, Options>;

/** Of every command that samples answers. */
export const answerOptions = {
  stop: { type: 'array', string: true, describe: 'Text that ends an answer and is left out; repeatable' },
  deterministic: {
    type: 'boolean',
    default: false,
    describe: 'Let no answer depend on what else is computed with it; slower for a few prompts',
  },
} as const satisfies Record<string, Options>;

/** Of commands that decode as many answers together as they are told. */
export const cacheOption = {
  'kv-cache-tokens': {
    type: 'number',
    default: 0,
    describe: 'Most tokens that the KV cache holds; fewer answers are decoded together then. 0: as the batch needs',
  },
} as const satisfies Record<string, Options>;

/** Throws UsageError for a stop string without text. */
export function checkStop(stop: readonly unknown[] = []): void {
  if (stop.some((text) => typeof text !== 'string' || text === '')) throw new UsageError('--stop needs some text.');
}

export function checkSeed(seed: number): void {
  checkUint32('seed', seed);
}

export const configOption = {
  config: { type: 'string', describe: 'YAML file of options; those on the command line win over it' },
} as const satisfies Record<string, Options>;

/** Options of supervised fine-tuning and their defaults; docs/options.md is written from this table. */
export const sftOptions = {
  data: { type: 'string', describe: 'JSONL file, or a directory with train.jsonl and valid.jsonl; required' },
  output: { type: 'string', describe: 'Directory for the run; must be new or empty; required' },
  'eval-data': { type: 'string', describe: 'JSONL file to evaluate on; by default valid.jsonl of a --data directory' },
  'init-adapter': { type: 'string', describe: 'PEFT directory to start from; its LoRA settings are kept' },
  'lora-r': { type: 'number', default: 16, describe: 'Rank of the adapter’s matrices' },
  'lora-alpha': { type: 'number', default: 32, describe: 'The adapter’s product is scaled by alpha / r' },
  'lora-dropout': {
    type: 'number',
    default: 0,
    describe: 'Dropout of what goes into lora_A; tokens of a prefix that rows share draw one mask for all of them',
  },
  'lora-target-modules': {
    type: 'string',
    default: 'all-linear',
    describe: 'Linear layers that get an adapter: names as q_proj,v_proj, or all-linear',
  },
  'use-rslora': { type: 'boolean', default: false, describe: 'Scale it by alpha / sqrt(r) instead (rsLoRA)' },
  'loraplus-lr-ratio': { type: 'number', default: 1, describe: 'Learning rate of lora_B over that of lora_A (LoRA+)' },
  'batch-size': { type: 'number', default: 32, describe: 'Rows per optimiser step' },
  'micro-batch-tokens': {
    type: 'number',
    default: 0,
    describe: 'Most tokens computed at once; 0: as many as memory allows',
  },
  'gradient-checkpointing': {
    type: 'string',
    choices: ['auto', 'on', 'off'],
    default: 'auto',
    coerce: (value: unknown) => ({ true: 'on', false: 'off' })[String(value)] ?? value,
    describe:
      'Compute activations again in the backward pass: less memory, more time; auto: in as few layers as must be',
  },
  'max-length': {
    type: 'number',
    default: 1024,
    describe: 'Longest row, tokens; no more than the model has positions',
  },
  overlong: {
    type: 'string',
    choices: ['error', 'truncate', 'drop'],
    default: 'error',
    describe: 'What becomes of longer rows',
  },
  'num-train-epochs': { type: 'number', default: 3, describe: 'Passes over the data; may be a fraction' },
  'max-steps': {
    type: 'number',
    default: 0,
    describe: 'Optimiser steps; overrides epochs where above 0 (0 and -1 are off)',
  },
  'learning-rate': { type: 'number', default: 2e-4, describe: 'Peak learning rate' },
  'lr-scheduler-type': {
    type: 'string',
    choices: ['constant', 'constant_with_warmup', 'linear', 'cosine'],
    default: 'cosine',
    describe: 'Course of the learning rate after warm-up; constant has no warm-up',
  },
  'warmup-steps': { type: 'number', describe: 'Steps of warm-up, in place of --warmup-ratio' },
  'warmup-ratio': { type: 'number', default: 0.1, describe: 'Share of all steps that are warm-up, rounded up' },
  'weight-decay': { type: 'number', default: 0, describe: 'Weight decay, decoupled as in AdamW' },
  'adam-beta1': { type: 'number', default: 0.9, describe: 'Decay of the mean of gradients (AdamW)' },
  'adam-beta2': { type: 'number', default: 0.999, describe: 'Decay of the mean of their squares (AdamW)' },
  'adam-epsilon': {
    type: 'number',
    default: 1e-8,
    describe: 'Added to the root of that mean, which divides the step (AdamW)',
  },
  'max-grad-norm': { type: 'number', default: 1, describe: 'Clip gradients to this norm over all of them; 0 is off' },
  seed: { type: 'number', default: 42, describe: 'Seed of initialisation, shuffling and dropout' },
  shuffle: { type: 'boolean', default: true, describe: '--no-shuffle keeps the rows in order' },
  'eval-steps': { type: 'number', default: 0, describe: 'Evaluate every so many steps; 0: at the end' },
  'save-steps': {
    type: 'number',
    default: 0,
    describe: 'Checkpoint every so many steps and at the last, all of them kept; 0 is off',
  },
  'save-minutes': {
    type: 'number',
    default: 10,
    describe: 'Checkpoint where the last one is so many minutes old, kept until the next or the end; 0 is off',
  },
  'early-stopping-patience': {
    type: 'number',
    default: 0,
    describe: 'Stop after so many evaluations without a better loss, and end with the best adapter; 0 is off',
  },
  profile: { type: 'boolean', default: false, describe: 'After training, time one step by operation' },
  ...jsonOption,
} as const satisfies Record<string, Options>;

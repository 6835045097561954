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
    describe: 'Precision of matmul operands',
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
  config: { type: 'string', describe: 'YAML file of options; the command line goes before it' },
} as const satisfies Record<string, Options>;

/** Options of supervised fine-tuning and their defaults; docs/options.md is written from this table. */
export const sftOptions = {
  data: { type: 'string', describe: 'JSONL file, or a directory with train.jsonl and valid.jsonl; required' },
  output: { type: 'string', describe: 'Directory for the run; must be new or empty; required' },
  'eval-data': { type: 'string', describe: 'JSONL file to evaluate on; by default valid.jsonl of a --data directory' },
  'init-adapter': { type: 'string', describe: 'PEFT directory to start from; its LoRA settings are kept' },
  'lora-r': { type: 'number', default: 16, describe: 'Rank' },
  'lora-alpha': { type: 'number', default: 32, describe: 'Scale is alpha / r' },
  'lora-dropout': {
    type: 'number',
    default: 0,
    describe: 'Dropout before lora_A; a shared trie node draws one mask for all its rows',
  },
  'lora-target-modules': { type: 'string', default: 'all-linear', describe: 'Comma-separated names, or all-linear' },
  'use-rslora': { type: 'boolean', default: false, describe: 'Scale is alpha / sqrt(r)' },
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
    describe: 'Longest row, tokens; the default gives way to a shorter model',
  },
  overlong: {
    type: 'string',
    choices: ['error', 'truncate', 'drop'],
    default: 'error',
    describe: 'What longer rows meet',
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
    describe: 'After warm-up, which constant has none of',
  },
  'warmup-steps': { type: 'number', describe: 'Overrides the ratio, also as 0' },
  'warmup-ratio': { type: 'number', default: 0.1, describe: 'Share of all steps, rounded up' },
  'weight-decay': { type: 'number', default: 0, describe: 'Decoupled (AdamW)' },
  'adam-beta1': { type: 'number', default: 0.9, describe: 'First moment' },
  'adam-beta2': { type: 'number', default: 0.999, describe: 'Second moment' },
  'adam-epsilon': { type: 'number', default: 1e-8, describe: 'Added to the denominator' },
  'max-grad-norm': { type: 'number', default: 1, describe: 'Clip to this global norm; 0 is off' },
  seed: { type: 'number', default: 42, describe: 'Of initialisation, shuffling and dropout' },
  shuffle: { type: 'boolean', default: true, describe: '--no-shuffle keeps the rows in order' },
  'eval-steps': { type: 'number', default: 0, describe: 'Evaluate every so many steps; 0: at the end' },
  'save-steps': {
    type: 'number',
    default: 0,
    describe: 'Checkpoint every so many steps and at the last; 0: only on Ctrl-C',
  },
  'early-stopping-patience': {
    type: 'number',
    default: 0,
    describe: 'Stop after so many evaluations without a better loss, and end with the best adapter; 0 is off',
  },
  profile: { type: 'boolean', default: false, describe: 'After training, time one step by operation' },
  ...jsonOption,
} as const satisfies Record<string, Options>;

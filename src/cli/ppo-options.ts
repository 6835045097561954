import type { Options } from 'yargs';
import { answerOptions, cacheOption, sftOptions } from './options.js';
import { jsonOption } from './output-file.js';

/** Options of PPO, named as in TRL, and their defaults; docs/options.md is written from this table. */
export const ppoOptions = {
  data: {
    type: 'string',
    describe: 'JSONL file of rows {messages, ranking, language}, or a directory with train.jsonl; required',
  },
  output: sftOptions.output,
  'init-adapter': {
    type: 'string',
    describe: 'PEFT directory the policy starts from; its LoRA settings are kept. Without it a new adapter',
  },
  'ref-adapter': {
    type: 'string',
    describe: 'Reference: a PEFT directory, or none for the base model; by default the initial adapter',
  },
  'lora-r': sftOptions['lora-r'],
  'lora-alpha': sftOptions['lora-alpha'],
  'lora-target-modules': sftOptions['lora-target-modules'],
  'use-rslora': sftOptions['use-rslora'],
  'loraplus-lr-ratio': sftOptions['loraplus-lr-ratio'],
  reward: {
    type: 'string',
    default: 'strict-rank',
    describe:
      'rank: ALIGN’s published one; strict-rank: −1 for all but whole rankings; coverage: P@K of a list of associates; or an ES module’s default function',
  },
  'coverage-k': {
    type: 'number',
    default: 0,
    describe: 'K of coverage: how many of the first K words people gave, over K; 0: as many as people gave',
  },
  'normalize-reward': {
    type: 'boolean',
    default: true,
    describe: 'Learn from scores less their running mean, over their running deviation',
  },
  'missing-eos-penalty': { type: 'number', default: 0, describe: 'Taken off the score of an answer that did not end' },
  'length-penalty': { type: 'number', default: 0, describe: 'Taken off the score for each sampled token' },
  'total-episodes': {
    type: 'number',
    default: 0,
    describe: 'Sampled answers of the run; 0: --num-train-epochs decides',
  },
  'num-train-epochs': { ...sftOptions['num-train-epochs'], default: 1 },
  'batch-size': { type: 'number', default: 64, describe: 'Answers sampled in a rollout' },
  'num-generations': { type: 'number', default: 1, describe: 'Answers to each prompt of a rollout' },
  'num-mini-batches': { type: 'number', default: 2, describe: 'Updates of each pass over a rollout' },
  'num-ppo-epochs': { type: 'number', default: 4, describe: 'Passes over a rollout' },
  'micro-batch-tokens': sftOptions['micro-batch-tokens'],
  'gradient-checkpointing': sftOptions['gradient-checkpointing'],
  'response-length': { type: 'number', default: 256, describe: 'Longest answer, tokens' },
  ...cacheOption,
  ...answerOptions,
  temperature: {
    type: 'number',
    default: 0.7,
    describe: 'Temperature of sampling; all log-probabilities are taken at it',
  },
  'top-p': {
    type: 'number',
    default: 1,
    describe: 'Sample from the most likely tokens that together hold this probability',
  },
  'top-k': { type: 'number', default: 0, describe: 'Sample from so many of the most likely tokens; 0: all' },
  'kl-coef': { type: 'number', default: 0.1, describe: 'Weight of the KL penalty against the reference' },
  'kl-estimator': {
    type: 'string',
    choices: ['k1', 'k3'],
    default: 'k1',
    describe: 'KL penalty of a token, of r = log π − log π_ref: k1 is r, k3 is e^−r − 1 + r',
  },
  'kl-target': {
    type: 'number',
    default: 0,
    describe: 'Adapt --kl-coef so that answers come to this KL in the mean; 0: it stays',
  },
  'kl-horizon': { type: 'number', default: 10000, describe: 'Answers over which --kl-coef adapts' },
  'max-update-kl': {
    type: 'number',
    default: 0,
    describe: 'End the updates of a rollout where the policy is this far from the sampling one, a token; 0: never',
  },
  cliprange: {
    type: 'number',
    default: 0.2,
    describe: 'How far from 1 the ratio of new to old probability counts in the policy loss',
  },
  'cliprange-value': {
    type: 'number',
    default: 0.2,
    describe: 'How far from the old value a new one counts in the value loss',
  },
  'vf-coef': { type: 'number', default: 0.1, describe: 'Weight of the value loss' },
  gamma: { type: 'number', default: 1, describe: 'Discount of later rewards' },
  lam: { type: 'number', default: 0.95, describe: 'λ of generalised advantage estimation' },
  'whiten-rewards': { type: 'boolean', default: false, describe: 'Bring rewards of tokens to unit variance' },
  'learning-rate': { ...sftOptions['learning-rate'], default: 1e-5, describe: 'Peak learning rate of the policy' },
  'critic-learning-rate': { type: 'number', default: 9e-6, describe: 'Peak learning rate of the critic' },
  'lr-scheduler-type': { ...sftOptions['lr-scheduler-type'], default: 'linear' },
  'warmup-steps': { type: 'number', default: 0, describe: 'Rollouts of warm-up' },
  'weight-decay': sftOptions['weight-decay'],
  'adam-beta1': sftOptions['adam-beta1'],
  'adam-beta2': sftOptions['adam-beta2'],
  'adam-epsilon': sftOptions['adam-epsilon'],
  'max-grad-norm': sftOptions['max-grad-norm'],
  seed: { type: 'number', default: 42, describe: 'Seed of initialisation, order and sampling' },
  shuffle: sftOptions.shuffle,
  'save-steps': {
    type: 'number',
    default: 0,
    describe: 'Checkpoint every so many rollouts and at the last, all of them kept; 0 is off',
  },
  'save-minutes': sftOptions['save-minutes'],
  ...jsonOption,
} as const satisfies Record<string, Options>;

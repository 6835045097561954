import { UsageError } from '../errors.js';

// Numbers of options that make no sense, refused in the words of their option.

export function checkWhole(name: string, value: number, least: number): void {
  if (!Number.isSafeInteger(value) || value < least)
    throw new UsageError(`--${name} must be a whole number of at least ${least}.`);
}

/** Numbers of 32 bits: larger ones would wrap around to others. */
export function checkUint32(name: string, value: number): void {
  if (!Number.isInteger(value) || value < 0 || value >= 2 ** 32)
    throw new UsageError(`--${name} must be a whole number from 0 to below 2^32.`);
}

/** From `from` to below `to`. */
export function checkWithin(name: string, value: number, from: number, to: number): void {
  if (value >= from && value < to) return;
  const bound = Number.isFinite(to) ? ` and below ${to}` : '';
  throw new UsageError(`--${name} must be at least ${from}${bound}.`);
}

export function checkPositive(name: string, value: number): void {
  if (!(value > 0)) throw new UsageError(`--${name} must be above 0.`);
}

/** Which tokens may be drawn. */
export function checkSampling(args: { readonly topK: number; readonly topP: number }): void {
  checkUint32('top-k', args.topK);
  if (!(args.topP > 0 && args.topP <= 1)) throw new UsageError('--top-p must be above 0 and at most 1.');
}

/** The options of AdamW and of its schedule, which every command that trains has. */
export function checkOptimizer(args: {
  readonly adamBeta1: number;
  readonly adamBeta2: number;
  readonly adamEpsilon: number;
  readonly loraplusLrRatio: number;
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly maxGradNorm: number;
  readonly warmupSteps?: number;
}): void {
  const infinity = Number.POSITIVE_INFINITY;
  if (args.warmupSteps !== undefined) checkWhole('warmup-steps', args.warmupSteps, 0);
  checkWithin('adam-beta1', args.adamBeta1, 0, 1);
  checkWithin('adam-beta2', args.adamBeta2, 0, 1);
  checkPositive('loraplus-lr-ratio', args.loraplusLrRatio);
  checkPositive('adam-epsilon', args.adamEpsilon);
  checkWithin('learning-rate', args.learningRate, 0, infinity);
  checkWithin('weight-decay', args.weightDecay, 0, infinity);
  checkWithin('max-grad-norm', args.maxGradNorm, 0, infinity);
}

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

import type { Options } from 'yargs';
import { UsageError } from '../errors.js';

/** What yargs lets through, also from a file: numbers that are none, words for switches, options twice or empty. */
export function checkTypes(args: Readonly<Record<string, unknown>>, options: Readonly<Record<string, Options>>): void {
  for (const [name, { type, coerce }] of Object.entries(options)) {
    const value = args[name];
    if (type === 'number' && value !== undefined && (typeof value !== 'number' || !Number.isFinite(value))) {
      throw new UsageError(`--${name} must be one number.`);
    }
    if (type === 'boolean' && value !== undefined && typeof value !== 'boolean')
      throw new UsageError(`--${name} must be true or false.`);
    if (type === 'string' && typeof value === 'boolean' && !coerce)
      throw new UsageError(`--${name} needs a value, not ${value}.`);
    if (type === 'string' && Array.isArray(value))
      throw new UsageError(`--${name} was given more than once: give it once.`);
    if (type === 'string' && value === '')
      throw new UsageError(`--${name} is empty: give it a value, or leave it out.`);
  }
}

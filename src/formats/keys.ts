import { InputError } from '../errors.js';

/** Whether a parsed value is an object with keys: neither null nor a list. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Typed reads of the keys of a parsed JSON object, with errors that name file and key. A null counts as absent. */
export class Keys {
  readonly #file: string;
  readonly #values: Record<string, unknown>;

  constructor(file: string, value: unknown) {
    if (!isRecord(value)) throw new InputError(`${file} is not a JSON object`);
    this.#file = file;
    this.#values = value;
  }

  has(key: string): boolean {
    return Object.hasOwn(this.#values, key);
  }

  /** The raw value; undefined when absent or null. */
  get(key: string): unknown {
    return (Object.hasOwn(this.#values, key) ? this.#values[key] : undefined) ?? undefined;
  }

  error(key: string, must: string): InputError {
    return new InputError(`${this.#file}: ${key} is ${JSON.stringify(this.get(key)) ?? 'missing'}; it must be ${must}`);
  }

  /** A positive integer up to `max`; required where there is no fallback. */
  size(key: string, fallback?: number, max = 2 ** 31 - 1): number {
    const value = this.get(key) ?? fallback;
    if (!Number.isInteger(value) || (value as number) < 1 || (value as number) > max)
      throw this.error(key, `an integer from 1 to ${max}`);
    return value as number;
  }

  /** A finite number above 0; required where there is no fallback. */
  positive(key: string, fallback?: number): number {
    const value = this.get(key) ?? fallback;
    if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) throw this.error(key, 'a number above 0');
    return value;
  }

  boolean(key: string, fallback: boolean): boolean {
    const value = this.get(key) ?? fallback;
    if (typeof value !== 'boolean') throw this.error(key, 'true or false');
    return value;
  }

  string(key: string, fallback?: string): string {
    const value = this.get(key) ?? fallback;
    if (typeof value !== 'string') throw this.error(key, 'a string');
    return value;
  }

  /** One token id, a list of them, or none. */
  tokenIds(key: string, vocabSize: number): number[] {
    const value = this.get(key) ?? [];
    const ids: unknown[] = Array.isArray(value) ? value : [value];
    if (!ids.every((id): id is number => Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocabSize))
      throw this.error(key, `token ids from 0 to ${vocabSize - 1}`);
    return ids;
  }

  /** The object under `key`, its own keys named `key.…` in errors; null when absent. */
  object(key: string): Keys | null {
    const value = this.get(key);
    return value === undefined ? null : new Keys(`${this.#file}: ${key}`, value);
  }
}

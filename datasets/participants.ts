import { InputError } from '../src/errors.js';
import { nearest } from '../src/text/near.js';
import type { Header } from '../src/text/table.js';

const countryColumns = ['country', 'B_COUNTRY_ALPHA'];
const languageColumns = ['nativeLanguage', 'native_language', 'nativelanguage'];

/** Keeps the rows of participants from some countries or with some native languages; of all without a choice. */
export class ParticipantFilter {
  readonly #wanted: readonly { readonly option: string; readonly columns: string[]; readonly values: string[] }[];
  /** For each wanted kind, the values that occurred, by their folded spelling. */
  readonly #seen: readonly Map<string, string>[];

  constructor(countries: readonly string[], nativeLanguages: readonly string[]) {
    this.#wanted = [
      { option: '--country', columns: countryColumns, values: [...countries] },
      { option: '--native-language', columns: languageColumns, values: [...nativeLanguages] },
    ].filter(({ values }) => values.length > 0);
    this.#seen = this.#wanted.map(() => new Map());
  }

  /** Whether anything is filtered. */
  get active(): boolean {
    return this.#wanted.length > 0;
  }

  /** Finds the columns; gives whether a row is kept. Throws InputError where a column is missing. */
  bind(header: Header): (values: readonly string[]) => boolean {
    const bound = this.#wanted.map(({ columns, values }, i) => ({
      column: header.require(...columns),
      wanted: new Set(values.map(fold)),
      seen: this.#seen[i],
    }));
    return (values) => {
      let kept = true;
      for (const { column, wanted, seen } of bound) {
        const value = fold(values[column]);
        if (!seen.has(value)) seen.set(value, values[column].trim());
        kept &&= wanted.has(value);
      }
      return kept;
    };
  }

  /** Throws InputError for a wanted value that no row had, with the nearest ones that were there. */
  check(name: string): void {
    this.#wanted.forEach(({ option, values }, i) => {
      for (const value of values) requireKnown(option, value, this.#seen[i].values(), name);
    });
  }
}

/** Throws InputError unless `value` is among the `known` ones, and lists those near it. */
export function requireKnown(option: string, value: string, known: Iterable<string>, name: string): void {
  const all = [...known].filter((entry) => entry !== '');
  if (all.some((entry) => fold(entry) === fold(value))) return;
  const near = nearest(value, all, 5);
  const some = near.length > 0 ? `; near it are ${near.join(', ')} (of ${all.length})` : '';
  throw new InputError(`${option} ${value} is not in ${name}${some}`);
}

/** Countries of a survey: `wanted`, all where there are none, and `beside` these. */
export class CountryChoice {
  readonly #wanted: ReadonlySet<string>;
  readonly #read: ReadonlySet<string>;

  constructor(wanted: readonly string[], beside: readonly string[] = []) {
    this.#wanted = new Set(wanted.map(fold));
    this.#read = new Set([...wanted, ...beside].map(fold));
  }

  /** Whether a country's answers are read. */
  reads(country: string): boolean {
    return this.#wanted.size === 0 || this.#read.has(fold(country));
  }

  /** Whether those that answered a question are all that are wanted, and at least one. */
  suffice(countries: readonly string[]): boolean {
    const known = new Set(countries.map(fold));
    return known.size > 0 && [...this.#wanted].every((country) => known.has(country));
  }
}

/** Spellings that are taken for one. */
export function fold(value: string): string {
  return value.normalize('NFKC').trim().toLowerCase();
}

import { InputError } from '../src/errors.js';
import { normalizeWord, wordKey } from '../src/evaluate/association.js';
import { createRandom, shuffle } from '../src/random.js';

/** Language of cues, associates and prompts that this project brings along; norms may be of any other. */
export type Language = 'en' | 'zh';

/** A cue with what people answer to it, most frequent first. */
export interface Cue {
  readonly cue: string;
  readonly responses: readonly Associate[];
}

export interface Associate {
  readonly word: string;
  readonly count: number;
}

export interface Norms {
  /** BCP 47. */
  readonly language: string;
  readonly cues: readonly Cue[];
}

/** How often a response was given to a cue, as the source spells them. */
export interface Association {
  readonly cue: string;
  readonly response: string;
  readonly count: number;
}

/** Responses that were left out of norms, by reason: sums of their counts. */
export interface Dropped {
  /** `#Missing`, `#Unknown`, and what a source writes in their place. */
  missing: number;
  empty: number;
  /** The cue among its own responses. */
  'the cue itself': number;
  /** Participants' ids that slipped in, 32 hexadecimal digits. */
  'an identifier': number;
}

/**
 * Collects associations in any order into cleaned norms: words of one `wordKey` spelled alike, as the first of them stands,
 * their counts summed, no `#Missing`, `#Unknown`, 32-hex strings, empty words, stops alone or cues among their own
 * responses. Cues keep the order in which they first occur; responses come by falling count, equal counts in the order in
 * which they first occur. "null" and "nan" are words like others.
 */
export class NormsCollector {
  readonly dropped: Dropped = { missing: 0, empty: 0, 'the cue itself': 0, 'an identifier': 0 };
  readonly #counts = new Map<string, Map<string, number>>();
  /** How words are spelled, by their key, and by how they stood: a file repeats its words many times. */
  readonly #spelled = new Map<string, string>();
  readonly #seen = new Map<string, string>();

  add({ cue: rawCue, response, count }: Association): void {
    const cue = this.#spell(rawCue);
    const word = this.#spell(response);
    const reason = refuse(cue) ?? refuse(word) ?? (word === cue ? 'the cue itself' : null);
    if (reason) {
      this.dropped[reason] += count;
      return;
    }
    let responses = this.#counts.get(cue);
    if (!responses) {
      responses = new Map();
      this.#counts.set(cue, responses);
    }
    responses.set(word, (responses.get(word) ?? 0) + count);
  }

  finish(language: string): Norms {
    const cues = [...this.#counts].map(([cue, responses]) => ({
      cue,
      responses: [...responses].map(([word, count]) => ({ word, count })).sort((a, b) => b.count - a.count),
    }));
    return { language, cues };
  }

  #spell(text: string): string {
    let known = this.#seen.get(text);
    if (known === undefined) {
      const key = wordKey(text);
      known = key === '' ? '' : (this.#spelled.get(key) ?? normalizeWord(text));
      this.#spelled.set(key, known);
      this.#seen.set(text, known);
    }
    return known;
  }
}

function refuse(word: string): keyof Dropped | null {
  if (word === '') return 'empty';
  if (word === '#missing' || word === '#unknown') return 'missing';
  return /^[0-9a-f]{32}$/.test(word) ? 'an identifier' : null;
}

/** A count as a table spells it; `where` begins the sentence of the InputError for anything else. */
export function positiveNumber(text: string, where: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value <= 0) {
    throw new InputError(`${where} must be a positive number, not "${text}"`);
  }
  return value;
}

/**
 * Parts of the norms that share no cue, in sizes of `fractions` (which sum to 1); the cues keep their order within a
 * part. Same seed, same parts.
 */
export function splitByCue(norms: Norms, fractions: readonly number[], seed: number): Norms[] {
  const total = fractions.reduce((sum, fraction) => sum + fraction, 0);
  if (Math.abs(total - 1) > 1e-9 || fractions.some((fraction) => !(fraction >= 0))) {
    throw new InputError(`split: the fractions ${fractions.join(', ')} must not be negative and must sum to 1`);
  }
  const n = norms.cues.length;
  const order = shuffle([...norms.cues.keys()], createRandom(seed));
  let share = 0;
  let start = 0;
  return fractions.map((fraction) => {
    share += fraction;
    const end = Math.round(share * n);
    const part = order.slice(start, end).sort((a, b) => a - b);
    start = end;
    return { language: norms.language, cues: part.map((i) => norms.cues[i]) };
  });
}

/**
 * How many pairs of cue and associate in `held` stand in `train` the other way round: the cue is an associate there of the
 * word as cue. A split by cue does not part them.
 */
export function countReversed(train: Norms, held: Norms): number {
  const associates = new Map(train.cues.map(({ cue, responses }) => [cue, new Set(responses.map(({ word }) => word))]));
  return held.cues.reduce(
    (sum, { cue, responses }) => sum + responses.filter(({ word }) => associates.get(word)?.has(cue)).length,
    0,
  );
}

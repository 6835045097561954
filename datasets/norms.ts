import { InputError } from '../src/errors.js';
import { normalizeWord } from '../src/evaluate/association.js';
import { createRandom, shuffle } from '../src/random.js';

/** Language of cues, associates and prompts. */
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
  readonly language: Language;
  readonly cues: readonly Cue[];
}

/** How often a response was given to a cue. */
export interface Association {
  readonly cue: string;
  readonly response: string;
  readonly count: number;
}

/**
 * Cleaned norms from associations in any order: spellings normalised, counts of one word summed, no `#Missing`,
 * `#Unknown`, 32-hex strings (participants' ids that slipped in), empty words or cues among their own responses. Cues
 * keep the order in which they first occur; equal counts keep theirs. "null" and "nan" are words like others.
 */
export function collectNorms(language: Language, associations: Iterable<Association>): Norms {
  const counts = new Map<string, Map<string, number>>();
  for (const { cue: rawCue, response, count } of associations) {
    const cue = normalizeWord(rawCue);
    const word = normalizeWord(response);
    if (!isWord(cue) || !isWord(word) || word === cue) continue;
    let responses = counts.get(cue);
    if (!responses) {
      responses = new Map();
      counts.set(cue, responses);
    }
    responses.set(word, (responses.get(word) ?? 0) + count);
  }
  const cues = [...counts].map(([cue, responses]) => ({
    cue,
    responses: [...responses].map(([word, count]) => ({ word, count })).sort((a, b) => b.count - a.count),
  }));
  return { language, cues };
}

function isWord(word: string): boolean {
  return word !== '' && word !== '#missing' && word !== '#unknown' && !/^[0-9a-f]{32}$/.test(word);
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

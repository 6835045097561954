import { type Example, unsupervised } from '../../src/batch/types.js';

/** A small deterministic generator (mulberry32): uniform integers below n. */
export function createRandom(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * n);
  };
}

export interface RandomSet {
  count: number;
  length: number;
  vocab: number;
  /** Share of labels that are not the next id, in percent. */
  strange?: number;
}

/** Sequences that often share prefixes (few different tokens), with random masks, weights and some strange labels. */
export function randomExamples(seed: number, { count, length, vocab, strange = 10 }: RandomSet): Example[] {
  const random = createRandom(seed);
  return Array.from({ length: count }, () => {
    const n = 1 + random(length);
    const ids = Int32Array.from({ length: n }, () => random(vocab));
    const labels = ids.map((id) => {
      if (random(3) === 0) return unsupervised;
      return random(100) < strange ? random(vocab) : id;
    });
    return { ids, labels, weight: 1 + random(4) / 4 };
  });
}

/** An example whose tokens from `prompt` on are supervised. */
export function example(ids: number[], prompt = 0, weight = 1): Example {
  return {
    ids: Int32Array.from(ids),
    labels: Int32Array.from(ids, (id, i) => (i < prompt ? unsupervised : id)),
    weight,
  };
}

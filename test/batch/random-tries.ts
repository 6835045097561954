import { type Example, unsupervised } from '../../src/batch/types.js';
import { randomSource } from '../reference/random.js';

/** Uniform integers below n, the same for the same seed. */
export function randomIntegers(seed: number): (n: number) => number {
  const random = randomSource(seed);
  return (n) => Math.floor(random() * n);
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
  const random = randomIntegers(seed);
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

import { describe, expect, it } from 'vitest';
import type { Example } from '../../src/batch/types.js';
import { floatCases, loadGolden } from '../golden.js';
import { lossAndGradients } from './decoder.js';
import { randomSource, relativeError } from './random.js';
import { mergePrefixes, packChains } from './trie.js';

describe('mergePrefixes', () => {
  it('computes a shared prefix once and keeps several edges of a row', () => {
    const trie = mergePrefixes([
      example([1, 2, 3], 1),
      example([1, 4], 2),
      example([1, 2, 3], 3),
      example([1, 2, 5], 1),
    ]);
    expect([...trie.tokens]).toEqual([1, 2, 3, 5, 4]);
    expect([...trie.positions]).toEqual([0, 1, 2, 2, 1]);
    expect([...trie.subtreeEnd]).toEqual([5, 4, 3, 4, 5]);
    expect([...trie.edgeRow]).toEqual([0, 0, 1, 1]);
    expect([...trie.edgeTarget]).toEqual([2, 4, 3, 5]);
    expect([...trie.edgeWeight]).toEqual([5, 2, 4, 1]);
    expect(trie.nodeOf.map((nodes) => [...nodes])).toEqual([
      [0, 1, 2],
      [0, 4],
      [0, 1, 2],
      [0, 1, 3],
    ]);
    expect(trie.edgeOf.map((edges) => [...edges])).toEqual([
      [-1, 0, 2],
      [-1, 1],
      [-1, 0, 2],
      [-1, 0, 3],
    ]);
  });
});

describe.each(floatCases)('a trie of random sequences in the decoder of %s', (name) => {
  it('gives the loss and gradients of the sequences side by side', () => {
    const { model, adapter } = loadGolden(name);
    const examples = randomExamples(7);
    const [merged, packed] = [mergePrefixes(examples), packChains(examples)];
    expect(merged.tokens.length).toBeLessThan(0.8 * packed.tokens.length);
    const actual = lossAndGradients(model, adapter, merged);
    const expected = lossAndGradients(model, adapter, packed);
    expect(Math.abs(actual.loss / expected.loss - 1)).toBeLessThan(1e-12);
    for (const [tensor, gradient] of expected.gradients) {
      expect(relativeError(actual.gradients.get(tensor)!, gradient), tensor).toBeLessThan(1e-12);
    }
  });
});

/** Twelve weighted sequences over three tokens, so that prefixes are shared; a third of the labels are masked. */
function randomExamples(seed: number): Example[] {
  const random = randomSource(seed);
  return Array.from({ length: 12 }, () => {
    const ids = Int32Array.from({ length: 2 + Math.floor(random() * 9) }, () => 3 + Math.floor(random() * 3));
    return { ids, labels: ids.map((id) => (random() < 0.33 ? -100 : id)), weight: 0.5 + random() };
  });
}

function example(ids: number[], weight: number): Example {
  return { ids: Int32Array.from(ids), labels: Int32Array.from(ids), weight };
}

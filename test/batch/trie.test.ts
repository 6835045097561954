import { describe, expect, it } from 'vitest';
import { buildTrie, countTries } from '../../src/batch/trie.js';
import { type Example, noNode, type TokenTrie, unsupervised } from '../../src/batch/types.js';
import { fastest } from '../fastest.js';
import { example, randomExamples, randomIntegers } from './random-tries.js';

/** Parents found from subtreeEnd alone; −1 at a root. */
function parentsOf({ subtreeEnd }: TokenTrie): number[] {
  const stack: number[] = [];
  return Array.from(subtreeEnd, (_, i) => {
    while (stack.length > 0 && subtreeEnd[stack[stack.length - 1]] <= i) stack.pop();
    const parent = stack[stack.length - 1] ?? -1;
    stack.push(i);
    return parent;
  });
}

function lastSource({ labels }: Example): number {
  let last = -1;
  for (let i = 1; i < labels.length; i++) if (labels[i] !== unsupervised) last = i - 1;
  return last;
}

/** Everything the trie promises, against brute force. */
function checkTrie(examples: Example[]): TokenTrie {
  const trie = buildTrie(examples);
  const nodes = trie.tokens.length;
  const parents = parentsOf(trie);
  const prefixes = new Set<string>();
  const weights = new Map<string, number>();
  const seen = new Set<number>();
  examples.forEach((one, e) => {
    const last = lastSource(one);
    expect(trie.nodeOf[e].length).toBe(one.ids.length);
    for (let i = 0; i < one.ids.length; i++) {
      const node = trie.nodeOf[e][i];
      const prefix = one.ids.slice(0, i + 1).join();
      if (i > last) expect(node).toBe(noNode);
      else {
        prefixes.add(prefix);
        seen.add(node);
        expect(trie.tokens[node]).toBe(one.ids[i]);
        expect(trie.positions[node]).toBe(i);
        expect(parents[node]).toBe(i === 0 ? -1 : trie.nodeOf[e][i - 1]);
      }
      const edge = trie.edgeOf[e][i];
      if (i === 0 || one.labels[i] === unsupervised) expect(edge).toBe(-1);
      else {
        expect(trie.edgeRow[edge]).toBe(trie.nodeOf[e][i - 1]);
        expect(trie.edgeTarget[edge]).toBe(one.labels[i]);
        const key = `${one.ids.slice(0, i).join()}>${one.labels[i]}`;
        weights.set(key, (weights.get(key) ?? 0) + one.weight);
      }
    }
  });
  expect(nodes).toBe(prefixes.size);
  expect(seen.size).toBe(nodes);
  expect(trie.edgeRow.length).toBe(weights.size);
  const pathOf = (node: number): number[] => (node < 0 ? [] : [...pathOf(parents[node]), trie.tokens[node]]);
  const pairs = new Set<string>();
  trie.edgeRow.forEach((row, edge) => {
    if (edge > 0) expect(row).toBeGreaterThanOrEqual(trie.edgeRow[edge - 1]);
    pairs.add(`${row},${trie.edgeTarget[edge]}`);
    expect(trie.edgeWeight[edge]).toBeCloseTo(weights.get(`${pathOf(row).join()}>${trie.edgeTarget[edge]}`)!, 9);
  });
  expect(pairs.size).toBe(trie.edgeRow.length);
  // Visible is ancestor or self; siblings ascend by token.
  for (let q = 0; q < nodes; q++) {
    const ancestors = new Set<number>();
    for (let k = q; k >= 0; k = parents[k]) ancestors.add(k);
    let wrong = 0;
    for (let k = 0; k < nodes; k++) if ((k <= q && q < trie.subtreeEnd[k]) !== ancestors.has(k)) wrong++;
    expect(wrong).toBe(0);
    const sibling = trie.subtreeEnd[q];
    if (sibling < nodes && parents[sibling] === parents[q]) {
      expect(trie.tokens[sibling]).toBeGreaterThan(trie.tokens[q]);
    }
  }
  return trie;
}

describe('buildTrie', () => {
  it.each([1, 2, 3, 4, 5, 6])('holds what it promises on random sets (%i)', (seed) => {
    checkTrie(randomExamples(seed, { count: 40, length: 8, vocab: 2 + (seed % 3) }));
    checkTrie(randomExamples(100 + seed, { count: 15, length: 20, vocab: 2 }));
    checkTrie(randomExamples(200 + seed, { count: 5, length: 3, vocab: 1000 }));
  });

  it('keeps one chain as it is, without its last token, which is only a target', () => {
    const trie = checkTrie([example([5, 6, 7, 8])]);
    expect([...trie.tokens]).toEqual([5, 6, 7]);
    expect([...trie.subtreeEnd]).toEqual([3, 3, 3]);
    expect([...trie.edgeTarget]).toEqual([6, 7, 8]);
  });

  it('keeps unrelated sequences as several roots', () => {
    const trie = checkTrie([example([9, 1, 1]), example([3, 1, 1]), example([5, 1, 1])]);
    expect([...trie.tokens]).toEqual([3, 1, 5, 1, 9, 1]);
    expect([...trie.positions]).toEqual([0, 1, 0, 1, 0, 1]);
  });

  it('collapses identical examples into a weight', () => {
    const trie = checkTrie([example([1, 2, 3], 1, 2), example([1, 2, 3], 1, 0.5), example([1, 2, 3], 1)]);
    expect([...trie.edgeWeight]).toEqual([3.5, 3.5]);
  });

  it('keeps examples of equal ids but other labels apart on their edges', () => {
    const trie = checkTrie([
      { ids: Int32Array.of(1, 2, 3), labels: Int32Array.of(-100, -100, 3), weight: 1 },
      { ids: Int32Array.of(1, 2, 3), labels: Int32Array.of(-100, 4, 7), weight: 2 },
    ]);
    expect([...trie.edgeRow]).toEqual([0, 1, 1]);
    expect([...trie.edgeTarget]).toEqual([4, 3, 7]);
    expect([...trie.edgeWeight]).toEqual([2, 1, 2]);
  });

  it('takes a node with 100 children and deep branching', () => {
    const fan = Array.from({ length: 100 }, (_, i) => example([1, 2, 900 - i, 4, 5], 2));
    expect(checkTrie(fan).subtreeEnd[1]).toBe(202);
    const comb = Array.from({ length: 60 }, (_, i) => example([...Array(i).fill(7), 8, 9, 3]));
    checkTrie(comb);
  });

  it('gives nothing for examples without supervision and for none', () => {
    expect(checkTrie([example([1, 2], 2), example([1])]).tokens.length).toBe(0);
    expect(checkTrie([]).tokens.length).toBe(0);
  });

  it('does not depend on the order of the examples', () => {
    const examples = randomExamples(9, { count: 30, length: 6, vocab: 3 });
    const a = buildTrie(examples);
    const b = buildTrie([...examples].reverse());
    for (const key of ['tokens', 'positions', 'subtreeEnd', 'edgeRow', 'edgeTarget'] as const) {
      expect(a[key]).toEqual(b[key]);
    }
  });

  it('counts what a padded trainer computes', () => {
    const examples = [example([1, 2, 3, 4], 2, 2), example([1, 2, 9], 2, 0.5)];
    const counts = countTries(examples, [buildTrie(examples)]);
    expect(counts).toEqual({ nodes: 3, equivalentTokens: 7, paddedTokens: 8, supervisedWeight: 4.5 });
  });

  it('merges 6,000 rows of 60 tokens in little time', () => {
    const random = randomIntegers(1);
    const examples = Array.from({ length: 6000 }, (_, i) =>
      example(Array.from({ length: 60 }, (_, t) => (t < 40 ? t : t < 45 ? Math.floor(i / 30) : random(8000)))),
    );
    expect(fastest(() => buildTrie(examples))).toBeLessThan(3000);
  });
});

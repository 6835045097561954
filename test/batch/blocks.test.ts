import { describe, expect, it } from 'vitest';
import { blockLists } from '../../src/batch/blocks.js';
import { buildTrie } from '../../src/batch/trie.js';
import type { BlockLists, TokenTrie } from '../../src/batch/types.js';
import { fastest } from '../fastest.js';
import { example, randomExamples } from './random-tries.js';

type Mask = Pick<TokenTrie, 'positions' | 'subtreeEnd'>;

function bruteForce({ positions, subtreeEnd }: Mask, rows: number, block: number, window: number | null): number[][] {
  const blocks = Math.ceil(rows / block);
  return Array.from({ length: blocks }, (_, qb) => {
    const entries: number[] = [];
    for (let kb = 0; kb < blocks; kb++) {
      let seen = 0;
      for (let q = qb * block; q < Math.min(rows, (qb + 1) * block); q++) {
        for (let k = kb * block; k < Math.min(rows, (kb + 1) * block); k++) {
          const near = window === null || positions[q] - positions[k] < window;
          if (k <= q && q < subtreeEnd[k] && near) seen++;
        }
      }
      if (seen > 0) entries.push((kb << 1) | (seen === block * block ? 0 : 1));
    }
    return entries;
  });
}

function listsOf(list: Uint32Array): number[][] {
  return Array.from({ length: list[0] - 1 }, (_, i) => [...list.subarray(list[i], list[i + 1])]);
}

function check(trie: Mask, rows: number, block: number, window: number | null): BlockLists {
  const lists = blockLists(trie, rows, block, window);
  const expected = bruteForce(trie, rows, block, window);
  const label = `rows ${rows}, block ${block}, window ${window}`;
  expect(listsOf(lists.keys), label).toEqual(expected);
  const transposed: number[][] = expected.map(() => []);
  for (const [q, entries] of expected.entries()) for (const k of entries) transposed[k >> 1].push((q << 1) | (k & 1));
  expect(listsOf(lists.queries), label).toEqual(transposed);
  return lists;
}

describe('blockLists', () => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8])('equals brute force on random tries (%i)', (seed) => {
    for (const shape of [
      { count: 12, length: 30, vocab: 2 },
      { count: 25, length: 8, vocab: 3 },
      { count: 3, length: 60, vocab: 50 },
    ]) {
      const trie = buildTrie(randomExamples(seed, shape));
      for (const block of [1, 2, 3, 4, 8, 16]) {
        for (const window of [null, 1, 2, 5, 17]) check(trie, trie.tokens.length, block, window);
      }
    }
  });

  it('finds full blocks under a shared prompt, but not past the window', () => {
    const prompt = Array.from({ length: 16 }, (_, i) => i);
    const trie = buildTrie(Array.from({ length: 8 }, (_, i) => example([...prompt, 100 + i, 5], 16)));
    expect(listsOf(check(trie, 24, 8, null).keys).flat()).toEqual([1, 0, 3, 0, 2, 5]);
    check(trie, 24, 8, 9);
    // A branch far down the order still stands near the root: positions decide, not indices.
    const far = buildTrie([example([1, ...Array(40).fill(2)]), example([1, 3, 4, 5])]);
    expect(listsOf(check(far, far.tokens.length, 8, 4).keys).flat()).toContain(1);
  });

  it('is triangular for one chain and diagonal for single tokens', () => {
    const chain = buildTrie([example(Array.from({ length: 65 }, (_, i) => i))]);
    expect(listsOf(check(chain, 64, 16, null).keys).flat().length).toBe(10);
    const roots = buildTrie(Array.from({ length: 64 }, (_, i) => example([i, 1])));
    expect(listsOf(check(roots, 64, 16, null).keys).flat()).toEqual([1, 3, 5, 7]);
  });

  it('takes a chain of 4,096 rows in little time', () => {
    const chain = buildTrie([example(Array.from({ length: 4097 }, (_, i) => i))]);
    const time = fastest(() => {
      blockLists(chain, 4096, 32, null);
      blockLists(chain, 4096, 32, 1024);
    });
    expect(time).toBeLessThan(2000);
  });
});

import { describe, expect, it } from 'vitest';
import { packBatch, packMicroBatches, rowBucket } from '../../src/batch/pack.js';
import { buildTrie, countTries } from '../../src/batch/trie.js';
import { type Example, unsupervised } from '../../src/batch/types.js';
import { InputError } from '../../src/errors.js';
import { example, randomExamples, randomIntegers } from './random-tries.js';

/** Distinct prefixes that predict something or lead to one that does. */
function distinctPrefixes(examples: readonly Example[]): number {
  const prefixes = new Set<string>();
  for (const { ids, labels } of examples) {
    let last = labels.length - 1;
    while (last > 0 && labels[last] === unsupervised) last--;
    for (let i = 1; i <= last; i++) prefixes.add(ids.slice(0, i).join());
  }
  return prefixes.size;
}

describe('packMicroBatches', () => {
  it.each([1, 2, 3, 4])('puts every example into one group of at most the limit (%i)', (seed) => {
    const examples = randomExamples(seed, { count: 60, length: 12, vocab: 3 });
    for (const limit of [12, 20, 50, 1000]) {
      const groups = packMicroBatches(examples, limit);
      expect(groups.flat().sort((a, b) => a - b)).toEqual([...examples.keys()]);
      for (const group of groups) {
        const nodes = buildTrie(group.map((i) => examples[i])).tokens.length;
        expect(nodes).toBeLessThanOrEqual(limit);
        expect(nodes).toBe(distinctPrefixes(group.map((i) => examples[i])));
      }
    }
    expect(packMicroBatches(examples, 1000).length).toBe(1);
    expect(packMicroBatches([], 10)).toEqual([]);
  });

  it('balances the groups', () => {
    const examples = Array.from({ length: 10 }, (_, i) => example([i, 1, 2, 3, 4]));
    expect(packMicroBatches(examples, 36).map((group) => group.length)).toEqual([5, 5]);
  });

  it('refuses an example that is longer alone', () => {
    expect(() => packMicroBatches([example([1, 2, 3, 4, 5])], 3)).toThrow(InputError);
    expect(() => packMicroBatches([example([1, 2, 3, 4, 5])], 3)).toThrow(/4 tokens.*--micro-batch-tokens 3/);
    expect(packMicroBatches([example([1, 2, 3, 4, 5])], 4)).toEqual([[0]]);
  });

  it('computes under a fifth of the padded tokens for 200 cues × 30 associates, micro-batch by micro-batch', () => {
    const random = randomIntegers(3);
    const prompt = Array.from({ length: 48 }, (_, i) => 10 + i);
    const rows: Example[] = [];
    for (let cue = 0; cue < 200; cue++) {
      const question = [...prompt, ...Array.from({ length: 1 + random(3) }, () => 100 + random(2000)), 5, 6];
      for (let a = 0; a < 30; a++) {
        const associate = Array.from({ length: 1 + random(2) }, () => 100 + random(7000));
        rows.push(example([...question, ...associate, 2], question.length));
      }
    }
    for (let i = rows.length - 1; i > 0; i--) {
      const j = random(i + 1);
      [rows[i], rows[j]] = [rows[j], rows[i]];
    }
    for (const [batchSize, limit] of [
      [6000, 4096],
      [6000, 1024],
    ]) {
      let nodes = 0;
      let padded = 0;
      for (let start = 0; start < rows.length; start += batchSize) {
        const batch = rows.slice(start, start + batchSize);
        padded += batch.length * Math.max(...batch.map((row) => row.ids.length));
        for (const group of packMicroBatches(batch, limit)) {
          const examples = group.map((i) => batch[i]);
          const counts = countTries(examples, [buildTrie(examples)]);
          expect(counts.nodes).toBe(distinctPrefixes(examples));
          expect(counts.nodes).toBeLessThanOrEqual(limit);
          nodes += counts.nodes;
        }
      }
      expect(nodes).toBeLessThan(padded / 5);
    }
  });
});

describe('packBatch', () => {
  it('pads rows that see only themselves and lists edges by logit row', () => {
    const trie = buildTrie([example([1, 2, 3, 4], 2, 2), example([1, 2, 9, 8], 2), example([1, 5, 6], 2)]);
    const batch = packBatch(trie, { capacity: 8, block: 4, windows: [null, 2, null, 2] });
    expect(batch.rows).toBe(5);
    expect([...batch.tokens]).toEqual([1, 2, 3, 9, 5, 0, 0, 0]);
    expect([...batch.positions]).toEqual([0, 1, 2, 2, 1, 0, 0, 0]);
    expect([...batch.subtreeEnd]).toEqual([5, 4, 3, 4, 5, 6, 7, 8]);
    expect([...batch.logitRows]).toEqual([1, 2, 3, 4]);
    expect([...batch.rowToLogit]).toEqual([-1, 0, 1, 2, 3, -1, -1, -1]);
    expect([...batch.edgeStart]).toEqual([0, 2, 3, 4, 5]);
    expect([...batch.edgeTarget]).toEqual([3, 9, 4, 8, 6]);
    expect([...batch.edgeWeight]).toEqual([2, 1, 2, 1, 1]);
    expect([...batch.blockLists.keys()]).toEqual([null, 2]);
    expect(batch.blockLists.get(null)!.keys[0]).toBe(3);
    expect(() => packBatch(trie, { capacity: 4, block: 4, windows: [null] })).toThrow(RangeError);
  });

  it('rounds rows up to powers of two and one and a half of them', () => {
    expect([0, 1, 64, 65, 96, 97, 129, 193, 257, 385, 513].map(rowBucket)).toEqual([
      64, 64, 64, 96, 96, 128, 192, 256, 384, 512, 768,
    ]);
  });
});

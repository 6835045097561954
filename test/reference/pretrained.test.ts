import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Tokenizer } from '@huggingface/tokenizers';
import { describe, expect, it } from 'vitest';
import type { Example } from '../../src/batch/types.js';
import { findShared, loadModel } from '../golden.js';
import { forward, headOf, runDecoder } from './decoder.js';
import { greedy } from './greedy.js';
import { linearCrossEntropy } from './linear-cross-entropy.js';
import { chain, packChains } from './trie.js';

const readJson = (path: string) => JSON.parse(readFileSync(path, 'utf8'));
const loadTokenizer = (directory: string) =>
  new Tokenizer(readJson(join(directory, 'tokenizer.json')), readJson(join(directory, 'tokenizer_config.json')));

describe('the float64 decoder on lexi-base', () => {
  it('gives the logits that came with it', () => {
    const directory = fileURLToPath(new URL('../../models/lexi-base', import.meta.url));
    const model = loadModel(directory);
    const golden = readJson(join(directory, 'golden.json')) as Record<
      'ids' | 'argmax' | 'last_logits_first8',
      number[]
    >;
    const logits = forward(model, null, chain(golden.ids));
    const vocab = model.config.vocabSize;
    const rows = golden.ids.map((_, row) => logits.subarray(row * vocab, (row + 1) * vocab));
    expect(rows.map((row) => row.indexOf(row.reduce((a, b) => Math.max(a, b))))).toEqual(golden.argmax);
    golden.last_logits_first8.forEach((logit, i) => {
      expect(rows.at(-1)![i]).toBeCloseTo(logit, 4);
    });
  });
});

const stories260k = findShared('models/stories260k');
describe.skipIf(!stories260k)('the float64 decoder on stories260k', () => {
  it('tells the story that llama2.c tells, 200 greedy steps from BOS', () => {
    const { tokens } = greedy(loadModel(stories260k!), [1], 200);
    // The start of expected_stdout in karpathy/llama2.c's test_all.py.
    expect(loadTokenizer(stories260k!).decode(tokens)).toContain(
      'Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball. She wanted to play with it, but it was too high.',
    );
  });

  it('decodes with a cache as without', () => {
    const model = loadModel(stories260k!);
    const { tokens, margins } = greedy(model, [1], 12);
    const logits = forward(model, null, chain([1, ...tokens.slice(0, -1)]));
    tokens.forEach((token, step) => {
      const row = logits.slice(step * 512, (step + 1) * 512).sort();
      expect(logits[step * 512 + token]).toBe(row[511]);
      expect(row[511] - row[510]).toBeCloseTo(margins[step], 10);
    });
  });
});

const tinystories = findShared('models/tinystories-656k');
describe.skipIf(!tinystories)('the float64 decoder on tinystories-656k, which stores lm_head.weight alone', () => {
  it('expects a story far better than chance', () => {
    const text =
      'Once upon a time, there was a little boy named Tom. Tom had a small red boat. One day, he took the boat to the pond with his mom. The boat went far away and Tom was sad. Then a duck came and pushed the boat back. Tom was happy and said, "Thank you, duck!"';
    const ids = Int32Array.from(loadTokenizer(tinystories!).encode(text).ids);
    const model = loadModel(tinystories!);
    const story: Example = { ids, labels: ids, weight: 1 };
    const trie = packChains([story]);
    const edges = { row: trie.edgeRow, target: trie.edgeTarget, weight: trie.edgeWeight };
    const { hidden } = runDecoder(model, null, trie);
    const { loss } = linearCrossEntropy(hidden, headOf(model), model.config.hiddenSize, edges, 1 / (ids.length - 1));
    expect(loss).toBeLessThan(4);
  });
});

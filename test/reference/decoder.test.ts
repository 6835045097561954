import { describe, expect, it } from 'vitest';
import { type GoldenLogits, goldenCases, loadGolden } from '../golden.js';
import { forward, lossAndGradients } from './decoder.js';
import { gradNorm } from './grad-norm.js';
import { relativeError } from './random.js';
import { train } from './training.js';
import { chain, packChains } from './trie.js';

describe.each(goldenCases)('the float64 decoder on the golden case %s', (name) => {
  const golden = loadGolden(name);
  const { model, adapter } = golden;

  it.each(['base', 'adapted'] as const)('gives the %s logits', (which) => {
    const expected = golden.logits[which];
    const logits = forward(model, which === 'adapted' ? adapter : null, chain(golden.logits.ids));
    expect(summarize(logits, expected)).toBeLessThan(1e-12);
  });

  it('gives the logits of asked rows alone', () => {
    const { vocabSize } = model.config;
    const trie = packChains(golden.batch);
    const all = forward(model, adapter, trie);
    const rows = [7, 2];
    const expected = rows.flatMap((row) => [...all.subarray(row * vocabSize, (row + 1) * vocabSize)]);
    expect([...forward(model, adapter, trie, rows)]).toEqual(expected);
  });

  it('gives loss and gradients', () => {
    const trie = packChains(golden.batch);
    const { loss, gradients } = lossAndGradients(model, adapter, trie);
    expect(trie.edgeWeight.reduce((a, b) => a + b)).toBe(golden.supervisedTokens);
    expect(Math.abs(loss / golden.loss - 1)).toBeLessThan(1e-12);
    expect(Math.abs(gradNorm(gradients.values()) / golden.gradNorm - 1)).toBeLessThan(1e-12);
    expect([...gradients.keys()].sort()).toEqual([...golden.gradients.keys()].sort());
    for (const [tensor, expected] of golden.gradients) {
      expect(relativeError(gradients.get(tensor)!, expected), tensor).toBeLessThan(1e-7);
    }
  });

  it('trains five steps', () => {
    const result = train(model, adapter, golden.batches, golden.options);
    const lossesAfter = golden.batches.map((batch) => lossAndGradients(model, result.adapter, packChains(batch)).loss);
    expect(relativeError(result.losses, golden.train.losses)).toBeLessThan(1e-12);
    expect(relativeError(result.learningRates, golden.train.learningRates)).toBeLessThan(1e-14);
    expect(relativeError(result.gradNorms, golden.train.gradNorms)).toBeLessThan(1e-11);
    expect(relativeError(lossesAfter, golden.train.lossesAfter)).toBeLessThan(1e-12);
    for (const [tensor, expected] of golden.train.tensors) {
      expect(relativeError(result.adapter.tensors.get(tensor)!, expected), tensor).toBeLessThan(1e-7);
    }
  });
});

/** The worst relative error of the figures that a golden file keeps of its logits. */
function summarize(logits: Float64Array, expected: GoldenLogits): number {
  const [positions, vocab] = expected.shape;
  expect(logits.length).toBe(positions * vocab);
  const mean = logits.reduce((a, b) => a + b) / logits.length;
  const std = Math.sqrt(logits.reduce((sum, logit) => sum + (logit - mean) ** 2, 0) / logits.length);
  const last = [...logits.subarray((positions - 1) * vocab)].map((logit, token) => [token, logit] as const);
  const top10 = last.sort((a, b) => b[1] - a[1]).slice(0, 10);
  expect(top10.map(([token]) => token)).toEqual(expected.top10.map(([token]) => token));
  const first8 = expected.first8.flatMap((_, row) => [...logits.subarray(row * vocab, row * vocab + 8)]);
  return Math.max(
    relativeError(
      top10.map(([, logit]) => logit),
      expected.top10.map(([, logit]) => logit),
    ),
    relativeError(first8, expected.first8.flat()),
    Math.abs(mean / expected.mean - 1),
    Math.abs(std / expected.std - 1),
  );
}

import { describe, expect, it } from 'vitest';
import type { Example } from '../../src/batch/types.js';
import { adamwStep, zeroMoments } from './adamw.js';
import { type AttentionShape, attention, attentionBackward, type Tree, visible } from './attention.js';
import { clipCoefficient, gradNorm } from './grad-norm.js';
import { linearCrossEntropy, linearCrossEntropyBackward } from './linear-cross-entropy.js';
import { linear, linearBackward } from './matmul.js';
import { numericGradient, randomNormal, relativeError } from './random.js';
import { rmsNorm, rmsNormBackward } from './rms-norm.js';
import { rope, ropeBackward, ropeFrequencies, ropeTable } from './rope.js';
import { type Schedule, scheduleFactor } from './schedule.js';
import { swiglu, swigluBackward } from './swiglu.js';
import { mergePrefixes } from './trie.js';

/** A loss with a known gradient `dy` for the output of an operation. */
const dot = (dy: Float64Array, y: Float64Array) => y.reduce((sum, value, i) => sum + dy[i] * value, 0);

describe('backward against finite differences', () => {
  it('rms-norm', () => {
    const [rows, d, eps] = [3, 5, 0.1];
    const [x, w, dy] = [randomNormal(rows * d, 1), randomNormal(d, 2), randomNormal(rows * d, 3)];
    const expected = numericGradient(() => dot(dy, rmsNorm(x, w, rows, d, eps)), x);
    expect(relativeError(rmsNormBackward(dy, x, w, rows, d, eps), expected)).toBeLessThan(1e-8);
  });

  it('linear with bias and LoRA', () => {
    const [rows, inFeatures, outFeatures, r] = [3, 5, 4, 2];
    const lora = { r, a: randomNormal(r * inFeatures, 4), b: randomNormal(outFeatures * r, 5), scale: 1.5 };
    const weight = randomNormal(outFeatures * inFeatures, 6);
    const layer = { inFeatures, outFeatures, weight, bias: randomNormal(outFeatures, 7), lora };
    const [x, dy] = [randomNormal(rows * inFeatures, 8), randomNormal(rows * outFeatures, 9)];
    const loss = () => dot(dy, linear(x, rows, layer));
    const { dx, dA, dB } = linearBackward(dy, x, rows, layer);
    expect(relativeError(dx, numericGradient(loss, x))).toBeLessThan(1e-8);
    expect(relativeError(dA!, numericGradient(loss, lora.a))).toBeLessThan(1e-8);
    expect(relativeError(dB!, numericGradient(loss, lora.b))).toBeLessThan(1e-8);
  });

  it('rope', () => {
    const [positions, heads, headDim] = [[0, 3, 7], 2, 8];
    const table = ropeTable({ theta: 100, llama3: null }, headDim, 8);
    const [x, dy] = [randomNormal(48, 10), randomNormal(48, 11)];
    const expected = numericGradient(() => dot(dy, rope(x, positions, heads, headDim, table)), x);
    expect(relativeError(ropeBackward(dy, positions, heads, headDim, table), expected)).toBeLessThan(1e-8);
  });

  it.each([null, 2])('attention over a branching tree, grouped heads, window %s', (window) => {
    const tree = mergePrefixes([example([1, 2, 3, 4]), example([1, 2, 5]), example([1, 6]), example([7, 8])]);
    const n = tree.tokens.length;
    const shape: AttentionShape = { heads: 4, kvHeads: 2, headDim: 4, window };
    const [q, k, v] = [randomNormal(n * 16, 12), randomNormal(n * 8, 13), randomNormal(n * 8, 14)];
    const dO = randomNormal(n * 16, 15);
    const loss = () => dot(dO, attention(q, k, v, tree, shape).o);
    const { dq, dk, dv } = attentionBackward(dO, q, k, v, attention(q, k, v, tree, shape), tree, shape);
    expect(relativeError(dq, numericGradient(loss, q))).toBeLessThan(1e-8);
    expect(relativeError(dk, numericGradient(loss, k))).toBeLessThan(1e-8);
    expect(relativeError(dv, numericGradient(loss, v))).toBeLessThan(1e-8);
  });

  it('swiglu', () => {
    const [gate, up, dy] = [randomNormal(12, 16, 3), randomNormal(12, 17), randomNormal(12, 18)];
    const loss = () => dot(dy, swiglu(gate, up));
    const { dGate, dUp } = swigluBackward(dy, gate, up);
    expect(relativeError(dGate, numericGradient(loss, gate))).toBeLessThan(1e-8);
    expect(relativeError(dUp, numericGradient(loss, up))).toBeLessThan(1e-8);
  });

  it('linear-cross-entropy with several edges in a row', () => {
    const [rows, d, vocab] = [4, 3, 7];
    const edges = { row: [0, 0, 2, 3], target: [1, 6, 0, 4], weight: [1, 2.5, 0.5, 3] };
    const [hidden, head] = [randomNormal(rows * d, 19), randomNormal(vocab * d, 20)];
    const expected = numericGradient(() => linearCrossEntropy(hidden, head, d, edges, 0.3).loss, hidden);
    expect(relativeError(linearCrossEntropyBackward(hidden, head, d, edges, 0.3), expected)).toBeLessThan(1e-8);
  });
});

describe('rope', () => {
  it('keeps short wavelengths, stretches long ones and blends between, with llama3 scaling', () => {
    const llama3 = { factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 64 };
    const plain = ropeFrequencies({ theta: 10000, llama3: null }, 32);
    const ratios = ropeFrequencies({ theta: 10000, llama3 }, 32).map((frequency, i) => frequency / plain[i]);
    expect(ratios[0]).toBe(1);
    expect(ratios[15]).toBe(1 / 8);
    // Wavelength 2π·10000^(8/32) = 62.8 of 64 positions: 1.0186 turns, a smooth of 0.0062.
    const smooth = (64 / (2 * Math.PI * 10) - 1) / 3;
    expect(ratios[4]).toBeCloseTo((1 - smooth) / 8 + smooth, 12);
  });

  it('makes scores depend on the distance of positions alone', () => {
    const table = ropeTable({ theta: 10000, llama3: null }, 8, 32);
    const [q, k] = [randomNormal(8, 21), randomNormal(8, 22)];
    const score = (at: number, from: number) => dot(rope(q, [at], 1, 8, table), rope(k, [from], 1, 8, table));
    expect(score(30, 25)).toBeCloseTo(score(5, 0), 12);
    expect(score(30, 24)).not.toBeCloseTo(score(5, 0), 3);
  });
});

describe('attention', () => {
  const tree: Tree = { positions: Uint32Array.of(0, 1, 2, 1, 0), subtreeEnd: Uint32Array.of(4, 3, 3, 4, 5) };

  it('sees a row itself and its ancestors', () => {
    const seen = (q: number, window: number | null) => [0, 1, 2, 3, 4].filter((k) => visible(tree, q, k, window));
    expect(seen(2, null)).toEqual([0, 1, 2]);
    expect(seen(3, null)).toEqual([0, 3]);
    expect(seen(4, null)).toEqual([4]);
  });

  it('measures a window in positions, not rows', () => {
    expect(visible(tree, 2, 0, 2)).toBe(false);
    expect(visible(tree, 3, 0, 2)).toBe(true);
  });

  it('gives the last rows alone when asked', () => {
    const shape = { heads: 2, kvHeads: 1, headDim: 2, window: null };
    const [q, k, v] = [randomNormal(20, 23), randomNormal(10, 24), randomNormal(10, 25)];
    const all = attention(q, k, v, tree, shape);
    const last = attention(q.subarray(12), k, v, tree, shape, 3);
    expect([...last.o]).toEqual([...all.o.subarray(12)]);
    expect([...last.lse]).toEqual([...all.lse.subarray(6)]);
  });
});

describe('optimiser', () => {
  it('clips to the norm and leaves small gradients alone', () => {
    expect(gradNorm([Float64Array.of(3), Float64Array.of(0, 4)])).toBe(5);
    expect(clipCoefficient(5, 1)).toBeCloseTo(0.2, 6);
    expect(clipCoefficient(0.5, 1)).toBe(1);
    expect(clipCoefficient(5, 0)).toBe(1);
  });

  it('steps by the learning rate against the sign of the first gradient, after decay', () => {
    const parameter = Float64Array.of(1, -2);
    const options = { learningRate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 0, weightDecay: 0.5 };
    adamwStep(parameter, Float64Array.of(7, -0.01), zeroMoments(2), 1, options);
    expect(parameter[0]).toBeCloseTo(0.95 - 0.1, 12);
    expect(parameter[1]).toBeCloseTo(-1.9 + 0.1, 12);
  });

  it('schedules as transformers does', () => {
    const factors = (schedule: Schedule) =>
      [0, 1, 2, 4, 6].map((step) => Number(scheduleFactor(schedule, step, 2, 6).toFixed(12)));
    expect(factors('constant')).toEqual([1, 1, 1, 1, 1]);
    expect(factors('constant_with_warmup')).toEqual([0, 0.5, 1, 1, 1]);
    expect(factors('linear')).toEqual([0, 0.5, 1, 0.5, 0]);
    expect(factors('cosine')).toEqual([0, 0.5, 1, 0.5, 0]);
    expect(scheduleFactor('constant_with_warmup', 0, 0, 6)).toBe(1);
  });
});

function example(ids: number[]): Example {
  return { ids: Int32Array.from(ids), labels: Int32Array.from(ids), weight: 1 };
}

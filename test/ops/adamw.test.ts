import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BatchValues } from '../../src/gpu/batch.js';
import { type AdamWChunk, adamw, adapterOperands } from '../../src/ops/adamw.js';
import { OpRun, openTestGpu, rounded, type TestGpu, type Tier, tiers, tolerance } from '../gpu.js';
import { adamwStep, zeroMoments } from '../reference/adamw.js';
import { clipCoefficient, gradNorm } from '../reference/grad-norm.js';
import { randomNormal, relativeError } from '../reference/random.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

const elements = 64 * 67;
/** Of each run of 64 elements: 0 lora_A, else the scale of a lora_B, of which two modules differ. */
const scales = Array.from({ length: elements / 64 }, (_, i) => [4, 0, 0, 0.5, 0][i % 5]);
const isB = (i: number) => scales[Math.floor(i / 64)] !== 0;
const operandOf = (value: number, i: number) => value * (scales[Math.floor(i / 64)] || 1);
const lossScale = 256;
// Rates as f32 holds them, so that the reference takes the same steps.
const [rate, rateB, beta1, beta2, epsilon, decay] = [1e-3, 1.6e-2, 0.9, 0.999, 1e-8, 0.1].map(Math.fround);

interface State {
  parameters: Float64Array;
  first: Float64Array;
  second: Float64Array;
}

/** One step on the device from `state`; the norm is given, not computed. */
async function step(
  tier: Tier,
  state: State,
  gradients: Float64Array,
  norm: [number, number],
  t: number,
  maxNorm: number,
) {
  const op = new OpRun(gpu, tier);
  const chunk: AdamWChunk = {
    parameters: op.input('parameters', 'f32', [elements], state.parameters),
    gradients: op.input('gradients', 'f32', [elements], gradients),
    first: op.input('first', 'f32', [elements], state.first),
    second: op.input('second', 'f32', [elements], state.second),
    operands: op.output('operands', tier, [elements]),
    scales: op.input('scales', 'f32', [elements / 64], scales),
  };
  adamw(op.ctx, chunk, op.input('norm', 'f32', [2], norm));
  const batch: Partial<BatchValues> = {
    unscale: 1 / lossScale,
    rateA: rate,
    rateB,
    beta1,
    beta2,
    epsilon,
    decay,
    correction1: 1 - beta1 ** t,
    correction2: 1 - beta2 ** t,
    maxNorm,
  };
  await op.run(batch);
  return {
    parameters: await op.read(chunk.parameters),
    first: await op.read(chunk.first),
    second: await op.read(chunk.second),
    operands: await op.read(chunk.operands),
  };
}

const start = (): State => ({
  parameters: rounded('f32', randomNormal(elements, 1)),
  first: new Float64Array(elements),
  second: new Float64Array(elements),
});

describe.each(tiers)('adamw, %s', (tier) => {
  it.each([
    ['off', 0],
    ['that bites', 0.5],
    ['above the norm', 1e6],
  ])('takes five steps as the reference, clipping %s', async (_, maxNorm) => {
    const options = { beta1, beta2, epsilon, weightDecay: decay };
    const expected = start().parameters;
    const moments = zeroMoments(elements);
    let state = start();
    for (let t = 1; t <= 5; t++) {
      const scaled = rounded('f32', randomNormal(elements, 10 + t, lossScale * 0.1));
      const unscaled = scaled.map((g) => g / lossScale);
      const norm = Math.fround(gradNorm([unscaled]));
      const clip = clipCoefficient(norm, maxNorm);
      const before = expected.slice();
      const clipped = unscaled.map((g) => g * clip);
      // Both matrices' steps are the same but for their rates, so take each with its own and keep what belongs to it.
      const other = before.slice();
      const otherMoments = { m: moments.m.slice(), v: moments.v.slice() };
      adamwStep(other, clipped, otherMoments, t, { ...options, learningRate: rateB });
      adamwStep(expected, clipped, moments, t, { ...options, learningRate: rate });
      for (let i = 0; i < elements; i++) if (isB(i)) expected[i] = other[i];

      const next = await step(tier, state, scaled, [norm, 0], t, maxNorm);
      const moved = (values: Float64Array, from: Float64Array) => values.map((value, i) => value - from[i]);
      // What the step changed, too: the parameters alone would hide it. f32 parameters round it by up to 1e-4.
      expect(relativeError(moved(next.parameters, state.parameters), moved(expected, before))).toBeLessThan(1e-3);
      const operands = next.parameters.map(operandOf);
      expect(relativeError(next.operands, operands)).toBeLessThan(tier === 'f32' ? 1e-9 : tolerance.f16);
      state = next;
    }
    expect(relativeError(state.parameters, expected)).toBeLessThan(1e-6);
    expect(relativeError(state.first, moments.m)).toBeLessThan(1e-6);
    expect(relativeError(state.second, moments.v)).toBeLessThan(1e-6);
  });

  it('leaves everything as it is when the gradients are not finite', async () => {
    const before = { ...start(), first: randomNormal(elements, 2), second: randomNormal(elements, 3).map(Math.abs) };
    const gradients = randomNormal(elements, 4).fill(Number.NaN, 7, 8);
    const after = await step(tier, before, gradients, [Number.NaN, 1], 3, 1);
    expect(after.parameters).toEqual(before.parameters);
    expect(after.first).toEqual(rounded('f32', before.first));
    expect(after.second).toEqual(rounded('f32', before.second));
    expect(after.operands.every(Number.isNaN)).toBe(true);
  });

  it('makes operands of uploaded parameters', async () => {
    const { parameters } = start();
    const op = new OpRun(gpu, tier);
    const operands = op.output('operands', tier, [elements]);
    const chunk = {
      parameters: op.input('parameters', 'f32', [elements], parameters),
      operands,
      scales: op.input('scales', 'f32', [elements / 64], scales),
    };
    adapterOperands(op.ctx, chunk);
    await op.run({});
    const expected = parameters.map(operandOf);
    if (tier === 'f32') expect(await op.read(operands)).toEqual(expected);
    else expect(relativeError(await op.read(operands), expected)).toBeLessThan(tolerance.f16);
  });
});

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { swiglu, swigluBackward } from '../../src/ops/swiglu.js';
import { OpRun, openTestGpu, rounded, type TestGpu, tiers, tolerance } from '../gpu.js';
import { randomNormal, relativeError } from '../reference/random.js';
import * as reference from '../reference/swiglu.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

/** Gates where e^−g overflows f32 or f16, and where it vanishes. */
const extremes = [-60000, -1000, -200, -88, -20, -11, -1e-4, 0, 1e-4, 11, 20, 88, 200, 1000, 60000];

describe.each(tiers)('swiglu, %s', (tier) => {
  it.each([
    { rows: 1, dim: 4, scale: 1 },
    { rows: 17, dim: 68, scale: 1 / 16 },
  ])('forward and backward: %o', async ({ rows, dim, scale }) => {
    const total = rows * dim;
    const unused = new Array(2 * dim).fill(Number.NaN);
    const gate = rounded(tier, [...randomNormal(total, 1, 3), ...unused]);
    const up = rounded(tier, [...randomNormal(total, 2, 3), ...unused]);
    const dh = rounded(tier, [...randomNormal(total, 3), ...unused]);
    const op = new OpRun(gpu, tier);
    const shape = [rows + 2, dim];
    const h = op.output('h', tier, shape);
    const inputs = { gate: op.input('gate', tier, shape, gate), up: op.input('up', tier, shape, up) };
    swiglu(op.ctx, { ...inputs, h }, scale);
    swigluBackward(op.ctx, { ...inputs, dh: op.input('dh', tier, shape, dh) });
    await op.run({ rows });
    const live = (values: Float64Array) => values.subarray(0, total);
    const expectedH = reference.swiglu(live(gate), live(up)).map((value) => value * scale);
    const gradients = reference.swigluBackward(live(dh), live(gate), live(up));
    for (const [tensor, expected] of [
      [h, expectedH],
      [inputs.gate, gradients.dGate],
      [inputs.up, gradients.dUp],
    ] as const) {
      const actual = await op.read(tensor);
      expect(relativeError(live(actual), expected), tensor.label).toBeLessThan(tolerance[tier]);
      expect(actual.subarray(total).every(Number.isNaN)).toBe(true);
    }
  });

  it('stays finite and right at extreme gates, and the scale keeps products past 65,504 in f16', async () => {
    const gate = rounded(tier, [...extremes, 1000]);
    const up = rounded(tier, [...extremes.map(() => 0.5), 1000]);
    const dh = rounded(
      tier,
      gate.map(() => 0.25),
    );
    const shape = [1, gate.length];
    const op = new OpRun(gpu, tier);
    const h = op.output('h', tier, shape);
    const inputs = { gate: op.input('gate', tier, shape, gate), up: op.input('up', tier, shape, up) };
    swiglu(op.ctx, { ...inputs, h }, 1 / 16);
    swigluBackward(op.ctx, { ...inputs, dh: op.input('dh', tier, shape, dh) });
    await op.run({ rows: 1 });
    const expectedH = reference.swiglu(gate, up).map((value) => value / 16);
    const { dGate, dUp } = reference.swigluBackward(dh, gate, up);
    for (const [tensor, expected] of [
      [h, expectedH],
      [inputs.gate, dGate],
      [inputs.up, dUp],
    ] as const) {
      const actual = await op.read(tensor);
      // Each by itself: the greatest would hide the others in a norm.
      expected.forEach((value, i) => {
        const error = Math.abs(actual[i] - value);
        expect(error, `${tensor.label} at gate ${gate[i]}`).toBeLessThanOrEqual(
          Math.abs(value) * tolerance[tier] + 1e-6,
        );
      });
    }
  });
});

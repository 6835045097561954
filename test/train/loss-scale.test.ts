import { describe, expect, it } from 'vitest';
import { LossScale } from '../../src/train/loss-scale.js';

describe('LossScale', () => {
  it('is 1 in f32, whatever happens', () => {
    const scale = new LossScale('f32');
    expect(scale.scaleFor(1e6)).toBe(1);
    scale.halve();
    for (let i = 0; i < 2000; i++) scale.good();
    expect(scale.scaleFor(1)).toBe(1);
    expect(scale.state).toEqual({ scale: 1, goodSteps: 0 });
  });

  it('gives the heaviest row of logits the same scale, whatever it weighs', () => {
    const scale = new LossScale('f16');
    for (const weight of [0.01, 1, 31, 100, 12345]) {
      expect(scale.scaleFor(weight) * weight).toBeLessThanOrEqual(1024);
      expect(scale.scaleFor(weight) * weight).toBeGreaterThan(512);
      expect(Number.isInteger(Math.log2(scale.scaleFor(weight)))).toBe(true);
    }
    expect(scale.scaleFor(1)).toBe(1024);
    expect(scale.scaleFor(64)).toBe(16);
  });

  it('doubles after an interval of good steps, counted anew after a bad one, up to 2^15', () => {
    const scale = new LossScale('f16');
    for (let i = 1; i < LossScale.growthInterval; i++) scale.good();
    scale.halve();
    scale.good();
    expect(scale.state).toEqual({ scale: 512, goodSteps: 1 });
    for (let i = 1; i < LossScale.growthInterval; i++) scale.good();
    expect(scale.state).toEqual({ scale: 1024, goodSteps: 0 });
    for (let i = 0; i < 10 * LossScale.growthInterval; i++) scale.good();
    expect(scale.state.scale).toBe(2 ** 15);
  });

  it('goes on from its state', () => {
    const scale = new LossScale('f16', { scale: 64, goodSteps: LossScale.growthInterval - 1 });
    expect(scale.scaleFor(1)).toBe(64);
    scale.good();
    expect(scale.scaleFor(1)).toBe(128);
  });
});

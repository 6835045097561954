import { expect, it } from 'vitest';
import { RunningStatistics } from '../../src/train/running-statistics.js';

it('running statistics are those of all values, however they came', () => {
  const values = [3, -1, 4, 1, -5, 9, 2, -6, 5];
  const mean = values.reduce((a, b) => a + b) / values.length;
  const deviation = Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length);
  const running = new RunningStatistics();
  for (const [from, to] of [
    [0, 1],
    [1, 1],
    [1, 6],
    [6, 9],
  ])
    running.add(values.slice(from, to));
  expect(running.state.mean).toBeCloseTo(mean, 12);
  expect(running.deviation).toBeCloseTo(deviation, 12);
  expect(running.normalise(mean + deviation)).toBeCloseTo(1, 7);
  const again = new RunningStatistics(JSON.parse(JSON.stringify(running.state)));
  again.add([7]);
  running.add([7]);
  expect(again.state).toEqual(running.state);
  expect(new RunningStatistics().normalise(0)).toBe(0);
});

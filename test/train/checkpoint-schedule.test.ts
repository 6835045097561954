import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { CheckpointSchedule } from '../../src/train/checkpoint-schedule.js';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

/** What is written of seven steps of a minute each. */
function written(options: { saveSteps: number; saveMinutes: number }): (string | null)[] {
  const schedule = new CheckpointSchedule(options, 7);
  return [1, 2, 3, 4, 5, 6, 7].map((step) => {
    vi.advanceTimersByTime(60_000);
    const due = schedule.due(step);
    if (due) schedule.written();
    return due;
  });
}

it('keeps one every so many steps, and the last', () => {
  expect(written({ saveSteps: 3, saveMinutes: 0 })).toEqual([
    null,
    null,
    'step-000003',
    null,
    null,
    'step-000006',
    'step-000007',
  ]);
});

it('has one of no more than so many minutes ago, but none of the last step, whose adapter is written', () => {
  expect(written({ saveSteps: 0, saveMinutes: 2 })).toEqual([null, 'latest', null, 'latest', null, 'latest', null]);
  expect(written({ saveSteps: 0, saveMinutes: 0.5 })).toEqual([...Array(6).fill('latest'), null]);
  expect(written({ saveSteps: 0, saveMinutes: 0 })).toEqual(Array(7).fill(null));
});

it('counts the minutes from the last checkpoint of either kind', () => {
  const last = 'step-000007';
  expect(written({ saveSteps: 3, saveMinutes: 2 })).toEqual([
    null,
    'latest',
    'step-000003',
    null,
    'latest',
    'step-000006',
    last,
  ]);
});

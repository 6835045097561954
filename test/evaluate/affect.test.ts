import { expect, test } from 'vitest';
import { affectMedians, summarizeAffect } from '../../src/evaluate/affect.js';

const valence = new Map([
  ['joy', 9],
  ['war', 1],
  ['tea', 6],
  ['sea', 7],
]);

test('a cue has the median of those of its first words that are rated', () => {
  const { medians, coverage } = affectMedians(
    [['JOY', 'joy', 'x', 'war', 'tea'], ['x', 'y'], [], ['tea', 'sea']],
    valence,
  );
  // joy 9, war 1, tea 6 → 6; none; none; (6 + 7) / 2
  expect(medians).toEqual([6, null, null, 6.5]);
  // 5 of the distinct 4 + 2 + 0 + 2 words
  expect(coverage).toBe(5 / 8);
});

test('only the first ten distinct words count', () => {
  const list = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'war', 'joy'];
  expect(affectMedians([list], valence)).toEqual({ medians: [1], coverage: 0.1 });
  expect(affectMedians([[]], valence)).toEqual({ medians: [null], coverage: 0 });
});

test('every later run is compared with the first on the cues that both have, whatever stands between them', () => {
  const human = [['joy'], ['joy']];
  // Distances of 8 and of (8 + 0) / 2, each over its own cues, tell the second the nearer; on the cue of both it is as far.
  const runs = [
    [['war'], ['x']],
    [['war'], ['joy']],
    [['tea'], ['x']],
  ];
  const [{ runs: told }] = summarizeAffect(human, runs, { dimensions: new Map([['valence', valence]]), size: 4 });
  expect(told.map(({ distance }) => [distance.mean, distance.n])).toEqual([
    [8, 1],
    [4, 2],
    [3, 1],
  ]);
  expect(told.map(({ change }) => change && [change.nearer.mean, change.nearer.n])).toEqual([null, [0, 1], [5, 1]]);
});

test('runs are compared with people over the cues that both have a median for', () => {
  const human = [['joy'], ['war'], ['tea'], ['x'], ['sea']];
  const before = [['war'], ['joy'], ['tea'], ['joy'], ['x']];
  const after = [['joy'], ['sea'], ['sea'], ['joy'], ['sea']];
  const [summary] = summarizeAffect(human, [before, after], { dimensions: new Map([['valence', valence]]), size: 4 });
  expect(summary.dimension).toBe('valence');
  expect(summary.human.mean).toMatchObject({ mean: (9 + 1 + 6 + 7) / 4, n: 4 });
  const [first, second] = summary.runs;
  // before: 1, 9, 6 against 9, 1, 6
  expect(first.mean).toMatchObject({ mean: 16 / 3, n: 3 });
  expect(first.distance).toMatchObject({ mean: 16 / 3, n: 3 });
  expect(first.test).toMatchObject({ n: 2, p: 1 });
  // after: 9, 7, 7, 7 against 9, 1, 6, 7
  expect(second.mean).toMatchObject({ mean: 7.5, n: 4 });
  expect(second.distance).toMatchObject({ mean: 7 / 4, n: 4 });
  // Three cues have all of them: distances 8, 8, 0 → 0, 6, 1
  expect(second.change?.nearer).toMatchObject({ mean: (8 + 2 - 1) / 3, n: 3 });
  expect(second.change?.nearer.test).toMatchObject({ n: 3, statistic: 1 });
  expect(second.change?.mean).toMatchObject({ mean: (8 - 2 + 1) / 3, n: 3 });
  expect(first.change).toBeNull();
});

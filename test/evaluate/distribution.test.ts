import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import {
  jensenShannonDistance,
  klDivergence,
  normalize,
  ordinalEmd,
  sameMode,
  tension,
  tensionOfSortedShares,
} from '../../src/evaluate/distribution.js';

interface GoldenDistance {
  p: number[];
  q: number[];
  emd: number;
  emd_normalised: number;
  distance_base_e: number;
  distance_base_2: number;
}

test('distances equal the golden figures', () => {
  const file = new URL('../fixtures/metrics.json', import.meta.url);
  const { distances }: { distances: GoldenDistance[] } = JSON.parse(readFileSync(file, 'utf8'));
  expect(distances.length).toBeGreaterThan(4);
  for (const { p, q, emd, emd_normalised, distance_base_e, distance_base_2 } of distances) {
    expect(ordinalEmd(p, q)).toBeCloseTo(emd_normalised, 12);
    expect(ordinalEmd(p, q) * (p.length - 1)).toBeCloseTo(emd, 12);
    expect(jensenShannonDistance(p, q) * Math.sqrt(Math.LN2)).toBeCloseTo(distance_base_e, 7);
    expect(jensenShannonDistance(p, q)).toBeCloseTo(distance_base_2, 7);
    expect(ordinalEmd(q, p)).toBe(ordinalEmd(p, q));
  }
});

test('by hand', () => {
  // Half the mass moves one place of two.
  expect(ordinalEmd([0.5, 0.5, 0], [0.5, 0, 0.5])).toBe(0.25);
  expect(klDivergence([0.5, 0.5], [0.25, 0.75])).toBeCloseTo(0.5 * Math.log(2) + 0.5 * Math.log(2 / 3), 12);
  expect(klDivergence([1, 0], [0.5, 0.5])).toBeCloseTo(Math.log(2), 12);
  expect(klDivergence([0.5, 0.5], [1, 0])).toBe(Number.POSITIVE_INFINITY);
  expect(normalize([1, 3])).toEqual([0.25, 0.75]);
  expect(sameMode([0.2, 0.8], [0.4, 0.6])).toBe(true);
  expect(sameMode([0.8, 0.2], [0.4, 0.6])).toBe(false);
  expect(sameMode([0.5, 0.5], [0.4, 0.6])).toBe(true);
  for (const weights of [
    [0, 0],
    [-1, 2],
    [Number.NaN, 1],
  ])
    expect(() => normalize(weights)).toThrow(RangeError);
  expect(() => ordinalEmd([1, 0], [1, 0, 0])).toThrow(RangeError);
});

test('the paper loses which option has which share', () => {
  const [a, b] = [
    [0.9, 0.1, 0],
    [0, 0.1, 0.9],
  ];
  expect(tension(a, b)).toBeCloseTo((jensenShannonDistance(a, b) + 0.9) / 2, 12);
  expect(tensionOfSortedShares(a, b)).toBeCloseTo(jensenShannonDistance(a, b) / 2, 12);
  // sorted 0, 0.1, 0.9 and 0.2, 0.2, 0.6: (0.2 + 0.1 + 0.3) / 3
  const c = [0.6, 0.2, 0.2];
  expect(tensionOfSortedShares(a, c)).toBeCloseTo((jensenShannonDistance(a, c) + 0.2) / 2, 12);
  expect(a).toEqual([0.9, 0.1, 0]);
});

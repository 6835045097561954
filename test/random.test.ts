import { expect, test } from 'vitest';
import { createRandom, derange, shuffle, splitmix64, xoshiro128 } from '../src/random.js';

test('splitmix64 gives the published outputs of seed 1234567', () => {
  expect(splitmix64(1234567n, 3)).toEqual([6457827717110365317n, 3203168211198807973n, 9817491932198370423n]);
});

test('xoshiro128** gives the outputs worked out by hand from the state 1, 2, 3, 4', () => {
  const random = xoshiro128([1, 2, 3, 4]);
  expect([random.uint32(), random.uint32(), random.uint32(), random.uint32()]).toEqual([11520, 0, 5927040, 70819200]);
});

test('a seed fixes the numbers, another changes them', () => {
  const draw = (seed: number) => Array.from({ length: 5 }, createRandom(seed).uint32);
  expect(draw(42)).toEqual(draw(42));
  expect(draw(42)).not.toEqual(draw(43));
});

test('below covers its range evenly', () => {
  const random = createRandom(7);
  const seen = [0, 0, 0, 0, 0];
  for (let i = 0; i < 5000; i++) seen[random.below(5)]++;
  for (const count of seen) expect(Math.abs(count - 1000)).toBeLessThan(120);
});

test('shuffle permutes a copy; a derangement moves everything', () => {
  const items = Array.from({ length: 50 }, (_, i) => i);
  const mixed = shuffle(items, createRandom(1));
  expect(mixed).not.toEqual(items);
  expect(mixed.toSorted((a, b) => a - b)).toEqual(items);
  for (const n of [2, 3, 108]) {
    const other = derange(n, createRandom(n));
    expect(new Set(other).size).toBe(n);
    other.forEach((j, i) => {
      expect(j).not.toBe(i);
    });
  }
});

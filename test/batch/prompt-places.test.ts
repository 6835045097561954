import { describe, expect, it } from 'vitest';
import { countPromptPlaces, PromptPlaces } from '../../src/batch/prompt-places.js';
import { createRandom } from '../../src/random.js';

const prompts = [[5, 1, 2, 3], [5, 1, 2, 4], [5, 1, 2, 3], [9], [5, 1], [5, 1, 2, 3, 7]].map((ids) =>
  Int32Array.from(ids),
);

describe('PromptPlaces', () => {
  it('stores each prefix once and leaves last tokens out', () => {
    const cache = new PromptPlaces(prompts, 10);
    // 5, 5 1, 5 1 2 and 5 1 2 3
    expect(cache.nodes).toBe(4);
    expect(countPromptPlaces(prompts)).toBe(4);
    expect([...cache.order]).toEqual([3, 4, 0, 1, 2, 5]);
    expect(cache.admit(3)).toEqual({ places: new Uint32Array(0), stored: 0 });
    const first = cache.admit(0)!;
    expect(first.stored).toBe(0);
    expect(new Set(first.places).size).toBe(3);
    expect(cache.admit(1)).toEqual({ places: first.places, stored: 3 });
    expect(cache.admit(2)).toEqual({ places: first.places, stored: 3 });
    const last = cache.admit(5)!;
    expect(last.stored).toBe(3);
    expect([...last.places.subarray(0, 3)]).toEqual([...first.places]);
    expect(cache.free).toBe(6);
  });

  it('keeps a prefix until its last sequence has ended, and says when there is no room', () => {
    const cache = new PromptPlaces(prompts, 3);
    cache.admit(3);
    const { places } = cache.admit(4)!;
    for (const i of [0, 1, 2]) cache.admit(i);
    expect(cache.admit(5)).toBeNull();
    for (const i of [0, 1, 2, 3, 4]) cache.release(i);
    expect(cache.free).toBe(0);
    expect(cache.admit(5)).toBeNull();
    const roomy = new PromptPlaces(prompts, 4);
    for (const i of [3, 4, 0, 1, 2]) {
      roomy.admit(i);
      roomy.release(i);
    }
    const { stored } = roomy.admit(5)!;
    expect(stored).toBe(3);
    roomy.release(5);
    expect(roomy.free).toBe(4);
    expect(places).toHaveLength(1);
  });

  it('never lacks room for one sequence where the longest prompt fits', () => {
    const random = createRandom(3);
    const many = Array.from({ length: 200 }, () =>
      Int32Array.from({ length: 1 + random.below(9) }, () => random.below(2)),
    );
    const cache = new PromptPlaces(many, 8);
    const active: number[] = [];
    let most = 0;
    for (const sequence of cache.order) {
      while (cache.admit(sequence) === null) {
        expect(active.length).toBeGreaterThan(0);
        cache.release(active.splice(random.below(active.length), 1)[0]);
      }
      active.push(sequence);
      most = Math.max(most, active.length);
    }
    for (const sequence of active) cache.release(sequence);
    expect(cache.free).toBe(8);
    expect(most).toBeGreaterThan(3);
  });
});

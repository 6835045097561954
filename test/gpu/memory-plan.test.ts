import { describe, expect, it } from 'vitest';
import { type Lifetime, type MemoryPlan, planMemory } from '../../src/gpu/memory-plan.js';
import { Tensor } from '../../src/gpu/tensor.js';
import { randomSource } from '../reference/random.js';

const tensor = (bytes: number) => new Tensor('t', 'f32', [bytes / 4]);

/** Lives of random length in `steps` steps, of sizes that often repeat, as those of a decoder's activations do. */
function randomLives(seed: number, count: number, steps: number): Lifetime[] {
  const random = randomSource(seed);
  return Array.from({ length: count }, () => {
    const first = Math.floor(random() * steps);
    const last = Math.min(steps - 1, first + Math.floor(random() ** 3 * steps));
    return { tensor: tensor(16 * 2 ** Math.floor(random() * 6) * (random() < 0.3 ? 3 : 1)), first, last };
  });
}

const overlap = (a: Lifetime, b: Lifetime) => a.first <= b.last && b.first <= a.last;
const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);

function peak(lives: readonly Lifetime[]): number {
  return Math.max(
    0,
    ...lives.map(({ first }) =>
      sum(lives.filter((l) => l.first <= first && first <= l.last).map((l) => l.tensor.bytes)),
    ),
  );
}

function check(plan: MemoryPlan, lives: readonly Lifetime[]): void {
  const slotOf = (life: Lifetime) => plan.slotOf.get(life.tensor)!;
  for (const [i, a] of lives.entries()) {
    expect(plan.slots[slotOf(a)]).toBeGreaterThanOrEqual(a.tensor.bytes);
    for (const b of lives.slice(i + 1)) if (overlap(a, b)) expect(slotOf(a)).not.toBe(slotOf(b));
  }
  expect(plan.bytes).toBe(sum(plan.slots));
  expect(plan.bytes).toBeGreaterThanOrEqual(peak(lives));
  expect(plan.bytes).toBeLessThanOrEqual(sum(lives.map((l) => l.tensor.bytes)));
}

describe('planMemory', () => {
  it('never lets tensors share that are alive together, and stays between the peak and the sum', () => {
    for (let seed = 0; seed < 60; seed++) {
      const lives = randomLives(seed, 1 + seed, 5 + (seed % 17));
      check(planMemory(lives), lives);
    }
  });

  it('reaches the peak on a chain, where each step reads what the one before wrote', () => {
    const lives = Array.from({ length: 20 }, (_, i) => ({ tensor: tensor(1024), first: i, last: i + 1 }));
    expect(planMemory(lives).slots).toEqual([1024, 1024]);
  });

  it('keeps a tensor that ends at a step apart from one that begins there', () => {
    const [a, b] = [tensor(64), tensor(64)];
    const plan = planMemory([
      { tensor: a, first: 0, last: 3 },
      { tensor: b, first: 3, last: 4 },
    ]);
    expect(plan.slotOf.get(a)).not.toBe(plan.slotOf.get(b));
  });

  it('plans nothing for nothing', () => {
    expect(planMemory([])).toMatchObject({ slots: [], bytes: 0 });
  });
});

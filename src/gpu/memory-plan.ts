import type { Tensor } from './tensor.js';

/** When a transient tensor is needed: from the step that first writes it to the last that touches it, both included. */
export interface Lifetime {
  readonly tensor: Tensor;
  readonly first: number;
  readonly last: number;
}

export interface MemoryPlan {
  /** Bytes of each slot; one GPUBuffer each. */
  readonly slots: readonly number[];
  readonly slotOf: ReadonlyMap<Tensor, number>;
  /** The tensor that each slot was made for, which has its size. */
  readonly madeFor: readonly Tensor[];
  /** Sum of the slots: what the program's transient tensors take. */
  readonly bytes: number;
}

/**
 * Assigns tensors to slots so that those alive at one step never share. Greedy by falling size: each tensor takes the
 * free slot that was made for the next larger one, else a new slot of its own size; no slot ever grows.
 */
export function planMemory(lifetimes: readonly Lifetime[]): MemoryPlan {
  const slots: { bytes: number; taken: Lifetime[] }[] = [];
  const slotOf = new Map<Tensor, number>();
  const bySize = [...lifetimes].sort((a, b) => b.tensor.bytes - a.tensor.bytes || a.first - b.first);
  for (const life of bySize) {
    let best = -1;
    for (let i = 0; i < slots.length; i++) {
      const free = slots[i].taken.every((other) => other.last < life.first || life.last < other.first);
      if (free && (best < 0 || slots[i].bytes < slots[best].bytes)) best = i;
    }
    if (best < 0) {
      best = slots.length;
      slots.push({ bytes: life.tensor.bytes, taken: [] });
    }
    slots[best].taken.push(life);
    slotOf.set(life.tensor, best);
  }
  return {
    slots: slots.map((s) => s.bytes),
    slotOf,
    madeFor: slots.map((s) => s.taken[0].tensor),
    bytes: slots.reduce((sum, s) => sum + s.bytes, 0),
  };
}

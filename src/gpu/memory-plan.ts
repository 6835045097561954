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

/** For each slot the smallest buffer that holds it and no other slot, −1 for a new one; `sizes` fall. */
export function assignBuffers(slots: readonly number[], sizes: readonly number[]): number[] {
  const order = slots.map((_, i) => i).sort((a, b) => slots[b] - slots[a]);
  const taken: number[] = new Array(slots.length);
  const free = [...sizes.keys()];
  for (const slot of order) {
    const fits = free.findLastIndex((i) => sizes[i] >= slots[slot]);
    taken[slot] = fits >= 0 ? free.splice(fits, 1)[0] : -1;
  }
  return taken;
}

/** Sizes of the buffers of a BufferPool that has served programs with these slots, in this order. */
export function poolSizes(programs: readonly (readonly number[])[]): number[] {
  let sizes: number[] = [];
  for (const slots of programs) {
    const taken = assignBuffers(slots, sizes);
    sizes = [...sizes, ...slots.filter((_, i) => taken[i] < 0)].sort((a, b) => b - a);
  }
  return sizes;
}

import { type Example, unsupervised } from './types.js';

/**
 * How many of an example's tokens have to be computed: those up to the last one that predicts a target. What stands
 * behind is only a target itself.
 */
export function neededLength({ labels }: Example): number {
  let i = labels.length - 1;
  while (i > 0 && labels[i] === unsupervised) i--;
  return Math.max(i, 0);
}

/** Examples in lexicographic order of their needed tokens (equal ones by index), and what neighbours share. */
export interface PrefixOrder {
  /** [examples] indices of the examples. */
  readonly order: Uint32Array;
  /** [examples] needed length of the example at this place of the order. */
  readonly needed: Uint32Array;
  /** [examples] needed tokens it shares with the one before it; 0 for the first. */
  readonly shared: Uint32Array;
}

/** Sorts so that examples with a common prefix stand together: each adds `needed − shared` trie nodes to those before. */
export function orderByPrefix(examples: readonly Example[]): PrefixOrder {
  const lengths = Uint32Array.from(examples, neededLength);
  const commonLength = (a: number, b: number): number => {
    const x = examples[a].ids;
    const y = examples[b].ids;
    const end = Math.min(lengths[a], lengths[b]);
    let i = 0;
    while (i < end && x[i] === y[i]) i++;
    return i;
  };
  const order = Uint32Array.from(examples.keys()).sort((a, b) => {
    const i = commonLength(a, b);
    if (i < lengths[a] && i < lengths[b]) return examples[a].ids[i] - examples[b].ids[i];
    return lengths[a] - lengths[b] || a - b;
  });
  return {
    order,
    needed: order.map((index) => lengths[index]),
    shared: order.map((index, i) => (i === 0 ? 0 : commonLength(order[i - 1], index))),
  };
}

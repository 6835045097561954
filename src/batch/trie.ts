import { orderByPrefix } from './order.js';
import { type Example, noNode, type TokenTrie, unsupervised } from './types.js';

/**
 * Merges examples by their common prefixes. Siblings stand in order of token id, so the result does not depend on the
 * order of the examples, but for `nodeOf` and `edgeOf` and the rounding of summed weights. Tokens that only serve as
 * targets get no node. O(tokens · log examples).
 */
export function buildTrie(examples: readonly Example[]): TokenTrie {
  const { order, needed, shared } = orderByPrefix(examples);
  let nodes = 0;
  for (let i = 0; i < order.length; i++) nodes += needed[i] - shared[i];
  const tokens = new Uint32Array(nodes);
  const positions = new Uint32Array(nodes);
  const subtreeEnd = new Uint32Array(nodes);
  const nodeOf: Uint32Array[] = new Array(examples.length);

  // `path` is the chain of nodes of the example before; a node ends where the first example that leaves it begins.
  const path = new Uint32Array(needed.reduce((most, length) => Math.max(most, length), 0));
  let depth = 0;
  let next = 0;
  for (let i = 0; i < order.length; i++) {
    const { ids } = examples[order[i]];
    while (depth > shared[i]) subtreeEnd[path[--depth]] = next;
    for (; depth < needed[i]; depth++) {
      path[depth] = next;
      tokens[next] = ids[depth];
      positions[next++] = depth;
    }
    nodeOf[order[i]] = new Uint32Array(ids.length).fill(noNode);
    nodeOf[order[i]].set(path.subarray(0, needed[i]));
  }
  while (depth > 0) subtreeEnd[path[--depth]] = next;
  return { tokens, positions, subtreeEnd, nodeOf, ...mergeEdges(examples, order, nodeOf, nodes) };
}

/** (row, target) as one number; exact in a double, since both are below 2^31 and rows in truth far below 2^22. */
const targetRange = 2 ** 31;

function mergeEdges(
  examples: readonly Example[],
  order: Uint32Array,
  nodeOf: readonly Uint32Array[],
  nodes: number,
): Pick<TokenTrie, 'edgeRow' | 'edgeTarget' | 'edgeWeight' | 'edgeOf'> {
  let supervised = 0;
  for (const { labels } of examples)
    for (let i = 1; i < labels.length; i++) if (labels[i] !== unsupervised) supervised++;
  const keys = new Float64Array(supervised);
  let filled = 0;
  for (let e = 0; e < examples.length; e++) {
    const { labels } = examples[e];
    for (let i = 1; i < labels.length; i++) {
      if (labels[i] !== unsupervised) keys[filled++] = nodeOf[e][i - 1] * targetRange + labels[i];
    }
  }
  keys.sort();
  let edges = 0;
  for (let i = 0; i < supervised; i++) if (i === 0 || keys[i] !== keys[i - 1]) keys[edges++] = keys[i];

  const edgeRow = new Uint32Array(edges);
  const edgeTarget = new Uint32Array(edges);
  const edgeWeight = new Float64Array(edges);
  const rowStart = new Uint32Array(nodes + 1);
  for (let edge = 0; edge < edges; edge++) {
    edgeRow[edge] = Math.floor(keys[edge] / targetRange);
    edgeTarget[edge] = keys[edge] % targetRange;
    rowStart[edgeRow[edge] + 1] = edge + 1;
  }
  for (let row = 0; row < nodes; row++) rowStart[row + 1] = Math.max(rowStart[row + 1], rowStart[row]);

  const findEdge = (row: number, target: number): number => {
    let low = rowStart[row];
    let high = rowStart[row + 1] - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (edgeTarget[middle] < target) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  const edgeOf: Int32Array[] = new Array(examples.length);
  for (const e of order) {
    const { labels, weight } = examples[e];
    edgeOf[e] = new Int32Array(labels.length).fill(-1);
    for (let i = 1; i < labels.length; i++) {
      if (labels[i] === unsupervised) continue;
      const edge = findEdge(nodeOf[e][i - 1], labels[i]);
      edgeOf[e][i] = edge;
      edgeWeight[edge] += weight;
    }
  }
  return { edgeRow, edgeTarget, edgeWeight, edgeOf };
}

/** What a batch costs as tries, and what it would cost otherwise. */
export interface TrieCounts {
  /** Tokens the tries compute. */
  readonly nodes: number;
  /** Tokens of all examples: what a trainer with packed sequences computes. */
  readonly equivalentTokens: number;
  /** Examples times the longest: what a trainer with padded rows computes. */
  readonly paddedTokens: number;
  /** Supervised tokens, each times its example's weight: the loss's denominator. */
  readonly supervisedWeight: number;
}

/** `tries` together hold the examples. */
export function countTries(examples: readonly Example[], tries: readonly TokenTrie[]): TrieCounts {
  const lengths = examples.map((example) => example.ids.length);
  return {
    nodes: tries.reduce((sum, trie) => sum + trie.tokens.length, 0),
    equivalentTokens: lengths.reduce((sum, length) => sum + length, 0),
    paddedTokens: examples.length * lengths.reduce((most, length) => Math.max(most, length), 0),
    supervisedWeight: tries.reduce((sum, trie) => trie.edgeWeight.reduce((a, b) => a + b, sum), 0),
  };
}

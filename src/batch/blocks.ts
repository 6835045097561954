import type { BlockLists, TokenTrie } from './types.js';

/**
 * Which key blocks each query block needs under the trie's mask, and the transpose, both ascending. Exact: a pair of
 * blocks stands in the lists iff some key of the one is visible to some query of the other, and its `masked` bit is 0
 * iff both blocks are whole and every key is visible to every query.
 *
 * `rows` ≤ the arrays' length; `block` is rows in a block; `window` in positions (≥ 1), null for none.
 *
 * Keys before a query block that any of its rows sees see its first row too, so they are that row's ancestors: the
 * walk keeps the chain of ancestors and costs O(rows + blocks · depth).
 */
export function blockLists(
  { positions, subtreeEnd }: Pick<TokenTrie, 'positions' | 'subtreeEnd'>,
  rows: number,
  block: number,
  window: number | null,
): BlockLists {
  const blocks = Math.ceil(rows / block);
  const reach = window ?? Number.POSITIVE_INFINITY;
  const keys: number[] = new Array(blocks + 1);
  keys[0] = blocks + 1;
  const chain = new Uint32Array(rows);
  let chainLength = 0;
  const shallowest = new Uint32Array(block);
  for (let q = 0; q < blocks; q++) {
    const first = q * block;
    const end = Math.min(first + block, rows);
    while (chainLength > 0 && subtreeEnd[chain[chainLength - 1]] <= first) chainLength--;

    // shallowest[i]: least position among the first i + 1 queries, so of those that a key's subtree reaches.
    let deepest = 0;
    for (let i = first; i < end; i++) {
      shallowest[i - first] = i === first ? positions[i] : Math.min(shallowest[i - first - 1], positions[i]);
      deepest = Math.max(deepest, positions[i]);
    }
    // Down the chain from the nearest ancestor, so key blocks come in falling order.
    const found: number[] = [(q << 1) | (block === 1 ? 0 : 1)];
    let current = -1;
    let visible = false;
    let seenByAll = 0;
    const close = () => {
      if (visible) found.push((current << 1) | (seenByAll === block && end - first === block ? 0 : 1));
    };
    for (let c = chainLength - 1; c >= 0; c--) {
      const key = chain[c];
      if (shallowest[end - first - 1] - positions[key] >= reach) break;
      const keyBlock = Math.floor(key / block);
      if (keyBlock !== current) {
        close();
        current = keyBlock;
        visible = false;
        seenByAll = 0;
      }
      if (shallowest[Math.min(subtreeEnd[key], end) - first - 1] - positions[key] < reach) visible = true;
      if (subtreeEnd[key] >= end && deepest - positions[key] < reach) seenByAll++;
    }
    close();
    for (let i = found.length - 1; i >= 0; i--) keys.push(found[i]);
    keys[q + 1] = keys.length;

    for (let i = first; i < end; i++) {
      while (chainLength > 0 && subtreeEnd[chain[chainLength - 1]] <= i) chainLength--;
      chain[chainLength++] = i;
    }
  }
  return { block, keys: Uint32Array.from(keys), queries: transpose(keys, blocks) };
}

function transpose(keys: readonly number[], blocks: number): Uint32Array {
  const queries = new Uint32Array(keys.length);
  queries[0] = blocks + 1;
  for (let i = blocks + 1; i < keys.length; i++) queries[(keys[i] >>> 1) + 1]++;
  for (let k = 0; k < blocks; k++) queries[k + 1] += queries[k];
  const next = queries.slice(0, blocks);
  for (let q = 0; q < blocks; q++) {
    for (let i = keys[q]; i < keys[q + 1]; i++) queries[next[keys[i] >>> 1]++] = (q << 1) | (keys[i] & 1);
  }
  return queries;
}

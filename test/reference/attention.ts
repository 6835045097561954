import type { TokenTrie } from '../../src/batch/types.js';

/** What attention needs to know of a trie. */
export type Tree = Pick<TokenTrie, 'positions' | 'subtreeEnd'>;

export interface AttentionShape {
  readonly heads: number;
  /** Divides heads; query head h reads key/value head ⌊h · kvHeads / heads⌋. */
  readonly kvHeads: number;
  readonly headDim: number;
  /** Distance in positions from which on a key is out of sight; null sees everything before. */
  readonly window: number | null;
}

/** Whether query row q sees key row k: k is q or an ancestor of q, within the window. */
export function visible(tree: Tree, q: number, k: number, window: number | null): boolean {
  if (k > q || q >= tree.subtreeEnd[k]) return false;
  return window === null || tree.positions[q] - tree.positions[k] < window;
}

export interface AttentionResult {
  /** [queries, heads, headDim]. */
  readonly o: Float64Array;
  /** [queries, heads] natural logarithm of Σ exp(score) over the visible keys. */
  readonly lse: Float64Array;
}

/**
 * o = softmax(q·kᵀ / √headDim) · v over the visible keys.
 * k, v [n, kvHeads, headDim] with n = tree.positions.length; q [n − firstQuery, heads, headDim] holds the rows from
 * `firstQuery` on (0 in training; decoding against a cache asks for the last rows only).
 */
export function attention(
  q: Float64Array,
  k: Float64Array,
  v: Float64Array,
  tree: Tree,
  shape: AttentionShape,
  firstQuery = 0,
): AttentionResult {
  const { heads, kvHeads, headDim } = shape;
  const queries = tree.positions.length - firstQuery;
  const o = new Float64Array(queries * heads * headDim);
  const lse = new Float64Array(queries * heads);
  for (let row = 0; row < queries; row++) {
    const keys = visibleKeys(tree, firstQuery + row, shape.window);
    for (let h = 0; h < heads; h++) {
      const qAt = (row * heads + h) * headDim;
      const kvHead = Math.floor((h * kvHeads) / heads);
      const scores = keys.map(
        (key) => dot(q, qAt, k, (key * kvHeads + kvHead) * headDim, headDim) / Math.sqrt(headDim),
      );
      const top = scores.reduce((a, b) => Math.max(a, b));
      const sum = scores.reduce((a, score) => a + Math.exp(score - top), 0);
      lse[row * heads + h] = top + Math.log(sum);
      keys.forEach((key, i) => {
        const p = Math.exp(scores[i] - top) / sum;
        addScaled(o, qAt, v, (key * kvHeads + kvHead) * headDim, headDim, p);
      });
    }
  }
  return { o, lse };
}

export interface AttentionGradients {
  /** [n, heads, headDim]. */
  readonly dq: Float64Array;
  /** [n, kvHeads, headDim]. */
  readonly dk: Float64Array;
  /** [n, kvHeads, headDim]. */
  readonly dv: Float64Array;
}

/**
 * Gradients of attention(). With P = exp(S − lse), dP = dO·vᵀ, D = Σ dO·O and dS = P·(dP − D):
 * dq = dS·k/√headDim, dk = dSᵀ·q/√headDim, dv = Pᵀ·dO (FlashAttention-2, Dao 2023, algorithm 2).
 * dO and forward.o [n, heads, headDim], q [n, heads, headDim], k, v [n, kvHeads, headDim].
 */
export function attentionBackward(
  dO: Float64Array,
  q: Float64Array,
  k: Float64Array,
  v: Float64Array,
  forward: AttentionResult,
  tree: Tree,
  shape: AttentionShape,
): AttentionGradients {
  const { heads, kvHeads, headDim } = shape;
  const scale = 1 / Math.sqrt(headDim);
  const dq = new Float64Array(q.length);
  const dk = new Float64Array(k.length);
  const dv = new Float64Array(v.length);
  for (let row = 0; row < tree.positions.length; row++) {
    const keys = visibleKeys(tree, row, shape.window);
    for (let h = 0; h < heads; h++) {
      const qAt = (row * heads + h) * headDim;
      const kvHead = Math.floor((h * kvHeads) / heads);
      const D = dot(dO, qAt, forward.o, qAt, headDim);
      for (const key of keys) {
        const kAt = (key * kvHeads + kvHead) * headDim;
        const p = Math.exp(scale * dot(q, qAt, k, kAt, headDim) - forward.lse[row * heads + h]);
        const dS = p * (dot(dO, qAt, v, kAt, headDim) - D);
        addScaled(dq, qAt, k, kAt, headDim, scale * dS);
        addScaled(dk, kAt, q, qAt, headDim, scale * dS);
        addScaled(dv, kAt, dO, qAt, headDim, p);
      }
    }
  }
  return { dq, dk, dv };
}

function visibleKeys(tree: Tree, q: number, window: number | null): number[] {
  const keys: number[] = [];
  for (let k = 0; k <= q; k++) if (visible(tree, q, k, window)) keys.push(k);
  return keys;
}

function dot(a: Float64Array, aAt: number, b: Float64Array, bAt: number, n: number): number {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += a[aAt + i] * b[bAt + i];
  return sum;
}

function addScaled(out: Float64Array, at: number, x: Float64Array, xAt: number, n: number, scale: number): void {
  for (let i = 0; i < n; i++) out[at + i] += scale * x[xAt + i];
}

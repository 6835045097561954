/** The label of a token that is not to be learnt, as in PyTorch's cross-entropy. */
export const unsupervised = -100;

/** In `TokenTrie.nodeOf`: the token predicts nothing in its example, nor does any after it, so no node is kept for it. */
export const noNode = 0xffffffff;

/** One tokenised example. `labels[i]` is the target of the prediction made at i − 1 (so `labels[0]` never counts); −100 is unsupervised. */
export interface Example {
  readonly ids: Int32Array;
  readonly labels: Int32Array;
  /** Scales the loss of every supervised token of this example. */
  readonly weight: number;
}

/**
 * Examples merged by their common prefixes. Nodes stand in depth-first order; query q sees key k iff
 * `k <= q < subtreeEnd[k]` (and, in windowed layers, `positions[q] - positions[k] < window`).
 */
export interface TokenTrie {
  /** [nodes] token id. */
  readonly tokens: Uint32Array;
  /** [nodes] depth, 0 at a root. */
  readonly positions: Uint32Array;
  /** [nodes] one past the last descendant. */
  readonly subtreeEnd: Uint32Array;
  /** [edges] node whose logits predict the target; ascending. No (row, target) pair stands twice. */
  readonly edgeRow: Uint32Array;
  /** [edges] */
  readonly edgeTarget: Uint32Array;
  /** [edges] sum of the weights of the examples' tokens that meet here. */
  readonly edgeWeight: Float64Array;
  /** For each example: the node of each of its tokens; `noNode` behind the last token that predicts a target. */
  readonly nodeOf: readonly Uint32Array[];
  /** For each example: the edge that predicts token i, −1 where unsupervised and at i = 0. */
  readonly edgeOf: readonly Int32Array[];
}

/**
 * Which key blocks a query block needs, and the transpose. An entry is `block << 1 | masked`; blocks that see nothing are
 * left out. A list begins with the places in it where each block's entries begin, [blocks + 1]; the entries follow.
 */
export interface BlockLists {
  /** Rows in a block. */
  readonly block: number;
  /** Key blocks of each query block. */
  readonly keys: Uint32Array;
  /** Query blocks of each key block. */
  readonly queries: Uint32Array;
}

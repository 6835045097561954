/** Targets of logit rows; a row may have several edges. */
export interface Edges {
  /** [edges] row of `hidden`. */
  readonly row: ArrayLike<number>;
  /** [edges] token id. */
  readonly target: ArrayLike<number>;
  /** [edges] */
  readonly weight: ArrayLike<number>;
}

export interface CrossEntropy {
  /** scale · Σ weight · (−log p). */
  readonly loss: number;
  /** [edges] log p(target | row), unweighted. */
  readonly logprobs: Float64Array;
}

/** Cross-entropy of softmax(hidden · headᵀ) at the edges. hidden [rows, d], head [vocab, d]. */
export function linearCrossEntropy(
  hidden: Float64Array,
  head: Float64Array,
  d: number,
  edges: Edges,
  scale: number,
): CrossEntropy {
  const logprobs = new Float64Array(edges.row.length);
  let loss = 0;
  for (const [row, indices] of edgesByRow(edges)) {
    const rowLogprobs = logSoftmax(logitRow(hidden, row, head, d));
    for (const e of indices) {
      logprobs[e] = rowLogprobs[edges.target[e]];
      loss -= scale * edges.weight[e] * logprobs[e];
    }
  }
  return { loss, logprobs };
}

/**
 * Gradient of linearCrossEntropy() for hidden; the head is frozen. A row's logits get
 * scale · ((Σw)·softmax − Σ w·onehot(target)); rows without an edge get 0.
 * hidden [rows, d], head [vocab, d] → dHidden [rows, d].
 */
export function linearCrossEntropyBackward(
  hidden: Float64Array,
  head: Float64Array,
  d: number,
  edges: Edges,
  scale: number,
): Float64Array {
  const dHidden = new Float64Array(hidden.length);
  for (const [row, indices] of edgesByRow(edges)) {
    const total = indices.reduce((sum, e) => sum + edges.weight[e], 0);
    const dLogits = logSoftmax(logitRow(hidden, row, head, d)).map((logprob) => scale * total * Math.exp(logprob));
    for (const e of indices) dLogits[edges.target[e]] -= scale * edges.weight[e];
    for (let token = 0; token < dLogits.length; token++) {
      for (let i = 0; i < d; i++) dHidden[row * d + i] += dLogits[token] * head[token * d + i];
    }
  }
  return dHidden;
}

/** Entropy of softmax(hidden · headᵀ) of each row. */
export function entropies(hidden: Float64Array, head: Float64Array, d: number): Float64Array {
  return Float64Array.from({ length: hidden.length / d }, (_, row) =>
    logSoftmax(logitRow(hidden, row, head, d)).reduce((sum, logprob) => sum - Math.exp(logprob) * logprob, 0),
  );
}

/** log softmax of one row of logits [vocab]. */
function logSoftmax(logits: Float64Array): Float64Array {
  const top = logits.reduce((a, b) => Math.max(a, b));
  const lse = top + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - top), 0));
  return logits.map((logit) => logit - lse);
}

function logitRow(hidden: Float64Array, row: number, head: Float64Array, d: number): Float64Array {
  const logits = new Float64Array(head.length / d);
  for (let token = 0; token < logits.length; token++) {
    let sum = 0;
    for (let i = 0; i < d; i++) sum += hidden[row * d + i] * head[token * d + i];
    logits[token] = sum;
  }
  return logits;
}

function edgesByRow(edges: Edges): Map<number, number[]> {
  const rows = new Map<number, number[]>();
  for (let e = 0; e < edges.row.length; e++) {
    const indices = rows.get(edges.row[e]);
    if (indices) indices.push(e);
    else rows.set(edges.row[e], [e]);
  }
  return rows;
}

import type { Defines } from '../gpu/shader.js';
import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext } from './context.js';

/** Rows in a block of the block lists: what a workgroup of kernels/attention.wgsl owns. */
export const attentionBlock = 16;

export interface AttentionShape {
  readonly heads: number;
  readonly kvHeads: number;
  /** A multiple of 4, at most 256. */
  readonly headDim: number;
  /** Positions a query looks back, itself included; null: all. */
  readonly window: number | null;
}

/** The trie as attention sees it (src/batch): who sees whom, and which blocks are worth looking at. */
export interface AttentionTree {
  readonly positions: Tensor;
  readonly subtreeEnd: Tensor;
  /** For each query block its key blocks. */
  readonly keyStart: Tensor;
  readonly keyBlocks: Tensor;
  /** For each key block its query blocks. */
  readonly queryStart: Tensor;
  readonly queryBlocks: Tensor;
}

/** o = softmax(q·kᵀ/√headDim)·v over the trie's visible keys. q, o: [rows, heads·headDim]; k, v: [rows, kvHeads·headDim]; lse f32 [rows, heads]. */
export function attention(
  ctx: OpContext,
  shape: AttentionShape,
  tree: AttentionTree,
  args: { q: Tensor; k: Tensor; v: Tensor; o: Tensor; lse: Tensor },
): void {
  const rows = args.q.shape[0];
  ctx.recorder.dispatch({
    ...common('forward', shape, args.q, 'attention', ctx.cpu && shape.headDim <= 64),
    tensors: { ...args, ...lists(tree, 'key') },
    workgroups: [Math.ceil(rows / attentionBlock), shape.heads],
    flops: 4 * rows * rows * shape.heads * shape.headDim * 0.5,
    bytes: args.q.bytes * 2 + args.k.bytes * 2,
  });
}

/** Gradients of q, k and v from that of o, after FlashAttention-2 (Dao 2023): no atomics, probabilities recomputed. */
export function attentionBackward(
  ctx: OpContext,
  shape: AttentionShape,
  tree: AttentionTree,
  args: {
    q: Tensor;
    k: Tensor;
    v: Tensor;
    o: Tensor;
    lse: Tensor;
    dout: Tensor;
    dq: Tensor;
    dk: Tensor;
    dv: Tensor;
  },
): void {
  const { q, k, v, o, lse, dout, dq, dk, dv } = args;
  const rows = q.shape[0];
  const blocks = Math.ceil(rows / attentionBlock);
  const delta = ctx.recorder.tensor('attention.delta', 'f32', [rows, shape.heads]);
  ctx.recorder.dispatch({
    ...common('prepare', shape, q, 'attention.backward', false),
    tensors: { o, dout, delta },
    workgroups: grid(Math.ceil((rows * shape.heads) / 64)),
    flops: 2 * q.elements,
    bytes: 2 * q.bytes,
  });
  const inputs = { q, k, v, lse, dout, delta };
  const half = 0.5 * rows * rows * shape.heads * shape.headDim;
  ctx.recorder.dispatch({
    ...common('keys', shape, q, 'attention.backward', ctx.cpu && shape.headDim <= 64),
    tensors: { ...inputs, ...lists(tree, 'query'), dk, dv },
    workgroups: [blocks, shape.kvHeads],
    flops: 8 * half,
    bytes: 2 * q.bytes + 4 * k.bytes,
  });
  ctx.recorder.dispatch({
    ...common('queries', shape, q, 'attention.backward', ctx.cpu && shape.headDim <= 64),
    tensors: { ...inputs, ...lists(tree, 'key'), dq },
    workgroups: [blocks, shape.heads],
    flops: 6 * half,
    bytes: 3 * q.bytes + 2 * k.bytes,
  });
}

/** `direct`: the form for drivers that run on CPU cores. */
function common(pass: string, shape: AttentionShape, q: Tensor, label: string, direct: boolean) {
  if (shape.headDim % 4 || shape.headDim > 256)
    throw new Error(`attention: head_dim ${shape.headDim} is not a multiple of 4 up to 256`);
  const defines: Defines = direct
    ? { TYPE: q.dtype, QUADS: shape.headDim / 4, ROWS: 2, prepare: 0 }
    : { TYPE: q.dtype, PARTS: Math.ceil(shape.headDim / 16) };
  return {
    kernel: direct ? 'attention-direct' : 'attention',
    pass,
    label,
    defines,
    params: {
      heads: shape.heads,
      kvHeads: shape.kvHeads,
      headDim: shape.headDim,
      window: shape.window ?? 0,
      scale: 1 / Math.sqrt(shape.headDim),
    },
  };
}

function lists(tree: AttentionTree, of: 'key' | 'query') {
  return {
    positions: tree.positions,
    subtreeEnd: tree.subtreeEnd,
    listStart: of === 'key' ? tree.keyStart : tree.queryStart,
    listBlocks: of === 'key' ? tree.keyBlocks : tree.queryBlocks,
  };
}

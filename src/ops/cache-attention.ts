import type { Tensor } from '../gpu/tensor.js';
import type { AttentionShape } from './attention.js';
import { grid, type OpContext } from './context.js';

/** Keys and values of one layer, [places, kvHeads · headDim] each. */
export interface KvCache {
  readonly keys: Tensor;
  readonly values: Tensor;
}

/** Stores k and v [rows, kvHeads · headDim] at `place` [rows] of the cache. */
export function appendToCache(ctx: OpContext, cache: KvCache, args: { k: Tensor; v: Tensor; place: Tensor }): void {
  ctx.recorder.dispatch({
    kernel: 'cache-attention',
    pass: 'append',
    defines: { TYPE: args.k.dtype },
    label: 'cache_append',
    tensors: { ...args, cacheKeys: cache.keys, cacheValues: cache.values },
    params: { dim: args.k.shape[1] },
    workgroups: grid(args.k.shape[0]),
    bytes: 4 * args.k.bytes,
  });
}

/**
 * Attention of decoding: row i attends to the first `lengths[i]` places of `paths[i]`, its own (the last) included.
 * q, o: [rows, heads · headDim]; paths: u32 [rows, maxLength]; lengths: u32 [rows].
 */
export function cacheAttention(
  ctx: OpContext,
  shape: AttentionShape,
  cache: KvCache,
  args: { q: Tensor; o: Tensor; paths: Tensor; lengths: Tensor },
): void {
  const [rows, maxLength] = args.paths.shape;
  ctx.recorder.dispatch({
    kernel: 'cache-attention',
    pass: 'forward',
    defines: { TYPE: args.q.dtype },
    label: 'cache_attention',
    tensors: { ...args, cacheKeys: cache.keys, cacheValues: cache.values },
    params: {
      heads: shape.heads,
      kvHeads: shape.kvHeads,
      headDim: shape.headDim,
      window: shape.window ?? 0,
      maxLength,
      scale: 1 / Math.sqrt(shape.headDim),
    },
    workgroups: [rows, shape.heads],
    flops: 4 * rows * maxLength * shape.heads * shape.headDim,
    bytes: 2 * rows * maxLength * shape.kvHeads * shape.headDim * (args.q.dtype === 'f16' ? 2 : 4),
  });
}

import type { Tensor } from '../gpu/tensor.js';
import type { AttentionShape } from './attention.js';
import { grid, type OpContext } from './context.js';
import type { DecodeTables } from './decode-rows.js';

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

/** Most heads of one key head that a workgroup takes together. */
const mostHeads = 8;

/** Workgroup memory that every WebGPU device has. */
const workgroupBytes = 16_384;

/** Of how many heads the sums of 64 invocations fit beside the queries, weights and places of `group`. */
function sumsTogether(group: number, headDim: number, wide: number): number {
  const others = group * (4 * headDim + 4 * 64 + 4 * 8) + 4 * 64;
  return Math.min(group, Math.floor((workgroupBytes - others) / (64 * 4 * wide)));
}

/**
 * Attention of decoding: every row of the table attends to its tokens' places, its own included. q, o: [rows, heads ·
 * headDim]. A row comes out the same whatever the other rows are.
 */
export function cacheAttention(
  ctx: OpContext,
  shape: AttentionShape,
  cache: KvCache,
  args: DecodeTables & { q: Tensor; o: Tensor },
): void {
  const { q } = args;
  const { heads, kvHeads, headDim, window } = shape;
  const sharing = heads / kvHeads;
  let group = Math.min(mostHeads, sharing);
  while (sharing % group) group--;
  const whole = q.dtype === 'f16' && headDim % 8 === 0;
  const wide = whole ? 8 : 4;
  const together = sumsTogether(group, headDim, wide);
  ctx.recorder.dispatch({
    kernel: 'cache-attention',
    pass: 'forward',
    defines: {
      TYPE: q.dtype,
      UNIT: whole ? 'u32' : q.dtype,
      WIDE: wide,
      DIM: headDim,
      GROUP: group,
      TOGETHER: together,
      ROUNDS: Math.ceil(group / together),
      PATHS: 1,
    },
    label: 'cache_attention',
    tensors: { ...args, cacheKeys: cache.keys, cacheValues: cache.values },
    params: { heads, kvHeads, window: window ?? 0, maxPath: args.paths.shape[1], scale: 1 / Math.sqrt(headDim) },
    workgroups: [q.shape[0], heads / group],
  });
}

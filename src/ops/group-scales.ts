import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext } from './context.js';
import type { ColumnPiece } from './repack.js';

/** Element types of stored scales. */
export type ScaleType = 'f32' | 'f16' | 'bf16';

/** y[first …] = map[absmax] · nestedAbsmax + offset for `count` bytes of absmax, the first being number `place` of all. */
export function nestedScales(
  ctx: OpContext,
  tensors: { absmax: Tensor; map: Tensor; nestedAbsmax: Tensor; y: Tensor },
  params: { count: number; first: number; place: number; block: number; offset: number },
): void {
  record(ctx, 'nested', { D: 'f32' }, tensors, params);
}

/** y[first …] = (scale, bias) for `count` of each, stored as `type`. */
export function biasedScales(
  ctx: OpContext,
  tensors: { scales: Tensor; biases: Tensor; y: Tensor },
  type: ScaleType,
  params: { count: number; first: number },
): void {
  record(ctx, 'biased', { D: type }, tensors, params);
}

/**
 * Pairs [first, first + columns) of each row of y = (scale, −scale · zero), for `count / columns` rows, from the same
 * columns of scales [columns, n] of `type` and zeros [columns, n / 8], eight to a word in the `order` of the codes;
 * `add` is added to each word.
 */
export function zeroedScales(
  ctx: OpContext,
  tensors: { scales: Tensor; zeros: Tensor; y: Tensor },
  stored: { type: ScaleType; order: 'gptq' | 'awq' },
  params: ColumnPiece & { count: number; first: number; add: number },
): void {
  record(ctx, 'zeroed', { D: stored.type, ORDER: stored.order }, tensors, { ...params });
}

function record(
  ctx: OpContext,
  pass: string,
  defines: Record<string, string>,
  tensors: Record<string, Tensor>,
  params: Record<string, number> & { count: number },
): void {
  const { recorder } = ctx;
  const workgroups = grid(Math.ceil(params.count / 64));
  recorder.dispatch({ kernel: 'group-scales', pass, defines, label: 'group_scales', tensors, params, workgroups });
}

import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext, type RowCount } from './context.js';

export interface RmsNormShape {
  /** Elements normalised together: the last dimension of x. */
  readonly dim: number;
  /** Such rows to a row of the batch: 1, or the number of heads for q and k norms. */
  readonly perRow: number;
  readonly epsilon: number;
  readonly count: RowCount;
}

/** y = x / sqrt(mean(x²) + ε) · w over the last dimension (Zhang & Sennrich 2019). x, y: [rows · perRow, dim]; w f32. */
export function rmsNorm(ctx: OpContext, shape: RmsNormShape, args: { x: Tensor; w: Tensor; y: Tensor }): void {
  const { x, w, y } = args;
  ctx.recorder.dispatch({
    kernel: 'rms-norm',
    pass: 'forward',
    defines: { X: x.dtype, Y: y.dtype, COUNT: shape.count },
    label: 'rms_norm',
    tensors: { x, w, y },
    params: { dim: shape.dim, perRow: shape.perRow, epsilon: shape.epsilon },
    workgroups: grid(x.elements / shape.dim),
    flops: 4 * x.elements,
    bytes: x.bytes + y.bytes,
  });
}

/**
 * dx = rstd·w·dy − x·rstd³/dim·Σ w·dy·x. With `accumulate` it is added to dx. `dxCopy` receives dx in operand type
 * where that is f16 and dx is f32.
 */
export function rmsNormBackward(
  ctx: OpContext,
  shape: RmsNormShape,
  args: { x: Tensor; w: Tensor; dy: Tensor; dx: Tensor; dxCopy?: Tensor; accumulate: boolean },
): void {
  const { x, w, dy, dx, accumulate } = args;
  const copy: Record<string, Tensor> = args.dxCopy && ctx.operand === 'f16' ? { dxCopy: args.dxCopy } : {};
  ctx.recorder.dispatch({
    kernel: 'rms-norm',
    pass: 'backward',
    defines: {
      X: x.dtype,
      DY: dy.dtype,
      DX: dx.dtype,
      COPY: 'dxCopy' in copy ? 'f16' : 'none',
      ACCUMULATE: Number(accumulate),
      COUNT: shape.count,
    },
    label: 'rms_norm.backward',
    tensors: { x, w, dy, dx, ...copy },
    params: { dim: shape.dim, perRow: shape.perRow, epsilon: shape.epsilon },
    workgroups: grid(x.elements / shape.dim),
    flops: 9 * x.elements,
    bytes: x.bytes + dy.bytes + dx.bytes * (accumulate ? 2 : 1),
  });
}

/**
 * y = x · w / √(mean(x²) + eps), row by row (Zhang & Sennrich 2019, as LlamaRMSNorm).
 * x [rows, d], w [d] → y [rows, d]. For q/k norms rows are tokens × heads and d is head_dim.
 */
export function rmsNorm(x: Float64Array, w: Float64Array, rows: number, d: number, eps: number): Float64Array {
  const y = new Float64Array(rows * d);
  for (let row = 0; row < rows; row++) {
    const at = row * d;
    const inverse = inverseRms(x, at, d, eps);
    for (let i = 0; i < d; i++) y[at + i] = x[at + i] * inverse * w[i];
  }
  return y;
}

/**
 * Gradient of rmsNorm's input; w is frozen. With g = dy · w and s = 1/rms: dx = s·g − x · s³/d · Σ(g·x).
 * dy, x [rows, d], w [d] → dx [rows, d].
 */
export function rmsNormBackward(
  dy: Float64Array,
  x: Float64Array,
  w: Float64Array,
  rows: number,
  d: number,
  eps: number,
): Float64Array {
  const dx = new Float64Array(rows * d);
  for (let row = 0; row < rows; row++) {
    const at = row * d;
    const inverse = inverseRms(x, at, d, eps);
    let dot = 0;
    for (let i = 0; i < d; i++) dot += dy[at + i] * w[i] * x[at + i];
    const shrink = (dot * inverse ** 3) / d;
    for (let i = 0; i < d; i++) dx[at + i] = dy[at + i] * w[i] * inverse - x[at + i] * shrink;
  }
  return dx;
}

function inverseRms(x: Float64Array, at: number, d: number, eps: number): number {
  let squares = 0;
  for (let i = 0; i < d; i++) squares += x[at + i] * x[at + i];
  return 1 / Math.sqrt(squares / d + eps);
}

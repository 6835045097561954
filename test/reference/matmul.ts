/** x [M, K] · wᵀ, w [N, K] → [M, N]: a linear layer's forward. */
export function matmulNT(x: Float64Array, w: Float64Array, M: number, N: number, K: number): Float64Array {
  const y = new Float64Array(M * N);
  for (let m = 0; m < M; m++) {
    for (let n = 0; n < N; n++) {
      let sum = 0;
      for (let k = 0; k < K; k++) sum += x[m * K + k] * w[n * K + k];
      y[m * N + n] = sum;
    }
  }
  return y;
}

/** dy [M, N] · w [N, K] → [M, K]: the gradient of a linear layer's input. */
export function matmulNN(dy: Float64Array, w: Float64Array, M: number, N: number, K: number): Float64Array {
  const dx = new Float64Array(M * K);
  for (let m = 0; m < M; m++) {
    for (let n = 0; n < N; n++) {
      const g = dy[m * N + n];
      for (let k = 0; k < K; k++) dx[m * K + k] += g * w[n * K + k];
    }
  }
  return dx;
}

/** aᵀ · b, a [M, I], b [M, J] → [I, J]: the gradient of a weight, summed over M rows. */
export function matmulTN(a: Float64Array, b: Float64Array, M: number, I: number, J: number): Float64Array {
  const out = new Float64Array(I * J);
  for (let m = 0; m < M; m++) {
    for (let i = 0; i < I; i++) {
      const g = a[m * I + i];
      for (let j = 0; j < J; j++) out[i * J + j] += g * b[m * J + j];
    }
  }
  return out;
}

/** A frozen linear layer with an optional bias and an optional LoRA pair (Hu et al. 2021, PEFT's shapes). */
export interface Linear {
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** W [outFeatures, inFeatures]. */
  readonly weight: Float64Array;
  /** [outFeatures]. */
  readonly bias: Float64Array | null;
  readonly lora: Lora | null;
}

export interface Lora {
  readonly r: number;
  /** A [r, inFeatures]. */
  readonly a: Float64Array;
  /** B [outFeatures, r]. */
  readonly b: Float64Array;
  /** s = alpha / r, or alpha / √r with rsLoRA. */
  readonly scale: number;
}

/** y = x·Wᵀ + bias + s·(x·Aᵀ)·Bᵀ. x [rows, inFeatures] → y [rows, outFeatures]. */
export function linear(x: Float64Array, rows: number, layer: Linear): Float64Array {
  const { inFeatures, outFeatures, weight, bias, lora } = layer;
  const y = matmulNT(x, weight, rows, outFeatures, inFeatures);
  if (bias) for (let i = 0; i < y.length; i++) y[i] += bias[i % outFeatures];
  if (lora) {
    const u = matmulNT(x, lora.a, rows, lora.r, inFeatures);
    const z = matmulNT(u, lora.b, rows, outFeatures, lora.r);
    for (let i = 0; i < y.length; i++) y[i] += lora.scale * z[i];
  }
  return y;
}

export interface LinearGradients {
  /** [rows, inFeatures]. */
  readonly dx: Float64Array;
  /** [r, inFeatures]; null without LoRA. */
  readonly dA: Float64Array | null;
  /** [outFeatures, r]; null without LoRA. */
  readonly dB: Float64Array | null;
}

/**
 * Gradients of linear(); W and bias are frozen. With t = s·dy·B: dx = dy·W + t·A, dA = tᵀ·x, dB = s·dyᵀ·(x·Aᵀ).
 * dy [rows, outFeatures], x [rows, inFeatures].
 */
export function linearBackward(dy: Float64Array, x: Float64Array, rows: number, layer: Linear): LinearGradients {
  const { inFeatures, outFeatures, weight, lora } = layer;
  const dx = matmulNN(dy, weight, rows, outFeatures, inFeatures);
  if (!lora) return { dx, dA: null, dB: null };
  const { r, a, b, scale } = lora;
  const t = matmulNN(dy, b, rows, outFeatures, r).map((g) => scale * g);
  const throughA = matmulNN(t, a, rows, r, inFeatures);
  for (let i = 0; i < dx.length; i++) dx[i] += throughA[i];
  const u = matmulNT(x, a, rows, r, inFeatures);
  const dA = matmulTN(t, x, rows, r, inFeatures);
  const dB = matmulTN(dy, u, rows, outFeatures, r).map((g) => scale * g);
  return { dx, dA, dB };
}

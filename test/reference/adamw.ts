export interface AdamwOptions {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
}

/** First and second moments of one tensor, both as long as it. */
export interface AdamwMoments {
  readonly m: Float64Array;
  readonly v: Float64Array;
}

export function zeroMoments(length: number): AdamwMoments {
  return { m: new Float64Array(length), v: new Float64Array(length) };
}

/**
 * One step of AdamW in place, as torch.optim.AdamW (Loshchilov & Hutter 2019): decay p by lr·weightDecay first, then
 * p −= lr/(1 − β1^t) · m / (√v/√(1 − β2^t) + ε). `step` t counts from 1. LoRA+ gives lora_B its own learning rate.
 */
export function adamwStep(
  parameter: Float64Array,
  gradient: Float64Array,
  { m, v }: AdamwMoments,
  step: number,
  options: AdamwOptions,
): void {
  const { learningRate, beta1, beta2, epsilon, weightDecay } = options;
  const correction1 = 1 - beta1 ** step;
  const correction2 = Math.sqrt(1 - beta2 ** step);
  for (let i = 0; i < parameter.length; i++) {
    const g = gradient[i];
    m[i] = beta1 * m[i] + (1 - beta1) * g;
    v[i] = beta2 * v[i] + (1 - beta2) * g * g;
    parameter[i] *= 1 - learningRate * weightDecay;
    parameter[i] -= ((learningRate / correction1) * m[i]) / (Math.sqrt(v[i]) / correction2 + epsilon);
  }
}

/** L2 norm of all gradients together. */
export function gradNorm(gradients: Iterable<Float64Array>): number {
  let squares = 0;
  for (const gradient of gradients) for (const g of gradient) squares += g * g;
  return Math.sqrt(squares);
}

/** What torch.nn.utils.clip_grad_norm_ multiplies gradients by: min(1, maxNorm / (norm + 1e-6)). maxNorm 0 is off. */
export function clipCoefficient(norm: number, maxNorm: number): number {
  return maxNorm === 0 ? 1 : Math.min(1, maxNorm / (norm + 1e-6));
}

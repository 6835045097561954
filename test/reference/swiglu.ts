/** silu(gate) · up, silu(g) = g / (1 + e^−g) (Shazeer 2020). gate, up and the result [rows, ffn]. */
export function swiglu(gate: Float64Array, up: Float64Array): Float64Array {
  return gate.map((g, i) => (g / (1 + Math.exp(-g))) * up[i]);
}

/** Gradients of swiglu(): silu′(g) = σ(g)·(1 + g·(1 − σ(g))). dy, gate, up and the results [rows, ffn]. */
export function swigluBackward(
  dy: Float64Array,
  gate: Float64Array,
  up: Float64Array,
): { dGate: Float64Array; dUp: Float64Array } {
  const dGate = new Float64Array(gate.length);
  const dUp = new Float64Array(gate.length);
  for (let i = 0; i < gate.length; i++) {
    const sigmoid = 1 / (1 + Math.exp(-gate[i]));
    dGate[i] = dy[i] * up[i] * sigmoid * (1 + gate[i] * (1 - sigmoid));
    dUp[i] = dy[i] * gate[i] * sigmoid;
  }
  return { dGate, dUp };
}

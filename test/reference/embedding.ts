/** Rows of `table` [vocab, d] for `tokens` [n] → [n, d]. The table is frozen, so there is no backward. */
export function embed(table: Float64Array, tokens: ArrayLike<number>, d: number): Float64Array {
  const out = new Float64Array(tokens.length * d);
  for (let i = 0; i < tokens.length; i++) out.set(table.subarray(tokens[i] * d, (tokens[i] + 1) * d), i * d);
  return out;
}

/** Uniform numbers in [0, 1), the same for the same seed (mulberry32). */
export function randomSource(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** `length` normal numbers of the given standard deviation (Box–Muller). */
export function randomNormal(length: number, seed: number, deviation = 1): Float64Array {
  const random = randomSource(seed);
  return Float64Array.from(
    { length },
    () => deviation * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()),
  );
}

/** ‖actual − expected‖₂ / ‖expected‖₂; NaN in `actual` gives NaN, which fails any comparison. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) throw new RangeError(`${actual.length} numbers, expected ${expected.length}`);
  let difference = 0;
  let squares = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i] - expected[i]) ** 2;
    squares += expected[i] ** 2;
  }
  return difference === 0 ? 0 : Math.sqrt(difference / squares);
}

/** Gradient of `loss` for every element of `x` by central differences; x is left as it was. */
export function numericGradient(loss: () => number, x: Float64Array, step = 1e-5): Float64Array {
  return Float64Array.from(x, (value, i) => {
    x[i] = value + step;
    const above = loss();
    x[i] = value - step;
    const below = loss();
    x[i] = value;
    return (above - below) / (2 * step);
  });
}

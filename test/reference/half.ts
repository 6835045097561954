/** Rounds to nearest, ties to even; from 65,520 on to infinity; NaN stays NaN. */
export function float32ToFloat16(values: Float32Array): Uint16Array {
  const halves = new Uint16Array(values.length);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < values.length; i++) {
    const sign = (bits[i] >>> 16) & 0x8000;
    const magnitude = bits[i] & 0x7fffffff;
    if (magnitude > 0x7f800000) halves[i] = sign | 0x7e00 | ((magnitude >> 13) & 0x3ff);
    else if (magnitude >= 0x477ff000) halves[i] = sign | 0x7c00;
    else if (magnitude >= 0x38800000) {
      const rebiased = magnitude - 0x38000000;
      halves[i] = sign | ((rebiased + 0xfff + ((rebiased >> 13) & 1)) >> 13);
    } else {
      // Subnormal in f16: adding 2^52 makes the double's own rounding do the ties.
      halves[i] = sign | (Math.abs(values[i]) * 2 ** 24 + 2 ** 52 - 2 ** 52);
    }
  }
  return halves;
}

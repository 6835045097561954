// The 16-bit floats: IEEE 754 binary16 (f16) and bfloat16 (the upper half of an f32).

/** Exact. */
export function float16ToFloat32(halves: Uint16Array): Float32Array {
  const values = new Float32Array(halves.length);
  const bits = new Uint32Array(values.buffer);
  for (let i = 0; i < halves.length; i++) {
    const half = halves[i];
    const sign = (half & 0x8000) << 16;
    const exponent = (half >> 10) & 0x1f;
    const mantissa = half & 0x3ff;
    if (exponent === 0x1f) bits[i] = sign | 0x7f800000 | (mantissa << 13);
    else if (exponent > 0) bits[i] = sign | ((exponent + 112) << 23) | (mantissa << 13);
    else values[i] = sign === 0 ? mantissa * 2 ** -24 : -mantissa * 2 ** -24;
  }
  return values;
}

/** Exact. */
export function bfloat16ToFloat32(values: Uint16Array): Float32Array {
  const bits = new Uint32Array(values.length);
  for (let i = 0; i < values.length; i++) bits[i] = values[i] << 16;
  return new Float32Array(bits.buffer);
}

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

// The 16-bit floats: IEEE 754 binary16 (f16) and bfloat16 (the upper half of an f32). Each conversion fills and gives
// `into`, an array of as many elements, which is a new one by default.

/** Exact. */
export function float16ToFloat32(halves: Uint16Array, into = new Float32Array(halves.length)): Float32Array {
  const bits = bitsOf(into);
  for (let i = 0; i < halves.length; i++) {
    const half = halves[i];
    const sign = (half & 0x8000) << 16;
    const exponent = (half >> 10) & 0x1f;
    const mantissa = half & 0x3ff;
    if (exponent === 0x1f) bits[i] = sign | 0x7f800000 | (mantissa << 13);
    else if (exponent > 0) bits[i] = sign | ((exponent + 112) << 23) | (mantissa << 13);
    else into[i] = sign === 0 ? mantissa * 2 ** -24 : -mantissa * 2 ** -24;
  }
  return into;
}

/** Exact. */
export function bfloat16ToFloat32(halves: Uint16Array, into = new Float32Array(halves.length)): Float32Array {
  const bits = bitsOf(into);
  for (let i = 0; i < halves.length; i++) bits[i] = halves[i] << 16;
  return into;
}

/** Rounds to nearest, ties to even; from 65,520 on to infinity; NaN stays NaN. */
export function float32ToFloat16(values: Float32Array, into = new Uint16Array(values.length)): Uint16Array {
  const bits = bitsOf(values);
  for (let i = 0; i < values.length; i++) {
    const sign = (bits[i] >>> 16) & 0x8000;
    const magnitude = bits[i] & 0x7fffffff;
    if (magnitude > 0x7f800000) into[i] = sign | 0x7e00 | ((magnitude >> 13) & 0x3ff);
    else if (magnitude >= 0x477ff000) into[i] = sign | 0x7c00;
    else if (magnitude >= 0x38800000) {
      const rebiased = magnitude - 0x38000000;
      into[i] = sign | ((rebiased + 0xfff + ((rebiased >> 13) & 1)) >> 13);
    } else {
      // Subnormal in f16: adding 2^52 makes the double's own rounding do the ties.
      into[i] = sign | (Math.abs(values[i]) * 2 ** 24 + 2 ** 52 - 2 ** 52);
    }
  }
  return into;
}

/** Rounds to nearest, ties to even; NaN stays NaN. */
export function float32ToBfloat16(values: Float32Array, into = new Uint16Array(values.length)): Uint16Array {
  const bits = bitsOf(values);
  for (let i = 0; i < values.length; i++) {
    const value = bits[i];
    const notANumber = (value & 0x7fffffff) > 0x7f800000;
    into[i] = notANumber ? (value >>> 16) | 0x40 : (value + 0x7fff + ((value >>> 16) & 1)) >>> 16;
  }
  return into;
}

function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

import type { RopeConfig } from '../../models/config.js';

export interface RopeTable {
  /** [positions, headDim / 2]. */
  readonly cos: Float64Array;
  /** [positions, headDim / 2]. */
  readonly sin: Float64Array;
}

/**
 * Angle per position of each of the headDim / 2 rotations: theta^(−2i/headDim), long wavelengths stretched where
 * `rope_scaling` is llama3 (transformers' _compute_llama3_parameters).
 */
export function ropeFrequencies(rope: RopeConfig, headDim: number): Float64Array {
  const scaling = rope.llama3;
  return Float64Array.from({ length: headDim / 2 }, (_, i) => {
    const frequency = rope.theta ** ((-2 * i) / headDim);
    if (!scaling) return frequency;
    const wavelength = (2 * Math.PI) / frequency;
    if (wavelength < scaling.originalMaxPositions / scaling.highFreqFactor) return frequency;
    if (wavelength > scaling.originalMaxPositions / scaling.lowFreqFactor) return frequency / scaling.factor;
    const turns = scaling.originalMaxPositions / wavelength;
    const smooth = (turns - scaling.lowFreqFactor) / (scaling.highFreqFactor - scaling.lowFreqFactor);
    return ((1 - smooth) * frequency) / scaling.factor + smooth * frequency;
  });
}

/** cos and sin of position × frequency for positions 0 … positions − 1. */
export function ropeTable(rope: RopeConfig, headDim: number, positions: number): RopeTable {
  const frequencies = ropeFrequencies(rope, headDim);
  const half = headDim / 2;
  const cos = new Float64Array(positions * half);
  const sin = new Float64Array(positions * half);
  for (let i = 0; i < cos.length; i++) {
    const angle = Math.floor(i / half) * frequencies[i % half];
    cos[i] = Math.cos(angle);
    sin[i] = Math.sin(angle);
  }
  return { cos, sin };
}

/**
 * Rotates element i with element i + headDim/2 of each head (Hugging Face's rotate_half convention, not interleaved).
 * x [n, heads, headDim], positions [n] → [n, heads, headDim].
 */
export function rope(
  x: Float64Array,
  positions: ArrayLike<number>,
  heads: number,
  headDim: number,
  table: RopeTable,
): Float64Array {
  return rotate(x, positions, heads, headDim, table, 1);
}

/** Gradient of rope()'s input: a rotation is orthogonal, so this is the inverse rotation of dy [n, heads, headDim]. */
export function ropeBackward(
  dy: Float64Array,
  positions: ArrayLike<number>,
  heads: number,
  headDim: number,
  table: RopeTable,
): Float64Array {
  return rotate(dy, positions, heads, headDim, table, -1);
}

function rotate(
  x: Float64Array,
  positions: ArrayLike<number>,
  heads: number,
  headDim: number,
  table: RopeTable,
  direction: 1 | -1,
): Float64Array {
  const half = headDim / 2;
  const y = new Float64Array(x.length);
  for (let row = 0; row < positions.length * heads; row++) {
    const angle = positions[Math.floor(row / heads)] * half;
    for (let i = 0; i < half; i++) {
      const c = table.cos[angle + i];
      const s = direction * table.sin[angle + i];
      const low = row * headDim + i;
      const high = low + half;
      y[low] = x[low] * c - x[high] * s;
      y[high] = x[high] * c + x[low] * s;
    }
  }
  return y;
}

/** As `RopeConfig` of models/config.ts. */
export interface RopeFrequencies {
  readonly theta: number;
  readonly llama3: {
    readonly factor: number;
    readonly lowFreqFactor: number;
    readonly highFreqFactor: number;
    readonly originalMaxPositions: number;
  } | null;
}

/**
 * Cosine and sine of every position's angles, [positions, headDim / 2, 2], computed in float64 on the host because
 * WGSL promises only 2⁻¹¹ within ±π. llama3 scaling after transformers' `_compute_llama3_parameters`: long wavelengths
 * are divided by the factor, those between the two bounds blend.
 */
export function ropeTable(rope: RopeFrequencies, headDim: number, positions: number): Float32Array {
  const half = headDim / 2;
  const table = new Float32Array(positions * headDim);
  for (let i = 0; i < half; i++) {
    let frequency = rope.theta ** ((-2 * i) / headDim);
    if (rope.llama3) {
      const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = rope.llama3;
      const turns = (originalMaxPositions * frequency) / (2 * Math.PI);
      const blend = Math.min(1, Math.max(0, (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor)));
      frequency = (1 - blend) * (frequency / factor) + blend * frequency;
    }
    for (let p = 0; p < positions; p++) {
      table[2 * (p * half + i)] = Math.cos(p * frequency);
      table[2 * (p * half + i) + 1] = Math.sin(p * frequency);
    }
  }
  return table;
}

import type { PackedMatrix } from '../../src/ops/dequantize.js';
import type { OpRun } from '../gpu.js';
import { nf4Levels } from '../reference/quantize.js';
import { randomNormal } from '../reference/random.js';

export interface PackedCase {
  readonly format: PackedMatrix['format'];
  readonly n: number;
  readonly k: number;
  readonly group: number;
  /** Whether columns lie in the order of their groups. */
  readonly ordered: boolean;
}

/** A packed matrix of arbitrary codes and scales, and its weights in float64. */
export function packedMatrix(op: OpRun, { format, n, k, group, ordered }: PackedCase, spread = 1) {
  const bits = format === 'affine8' ? 8 : 4;
  const perWord = 32 / bits;
  const code = Array.from({ length: n * k }, (_, i) => (i * 7 + (i >> 4) * 3) % 2 ** bits);
  const words = new Uint32Array((n * k) / perWord);
  code.forEach((value, i) => {
    words[Math.floor(i / perWord)] |= value << (bits * (i % perWord));
  });
  const groups = (n * k) / group;
  const scales = Float32Array.from(randomNormal(groups * (format === 'nf4' ? 1 : 2), 1, spread / (2 ** bits - 1)));
  const columnGroup = Array.from({ length: k }, (_, i) => (i * 5 + 1) % (k / group));
  const matrix: PackedMatrix = {
    format,
    n,
    k,
    codes: op.input('codes', 'u32', [words.length], words),
    scales: op.input('scales', 'f32', [scales.length], scales),
    group,
    columnGroup: ordered ? null : op.input('columnGroup', 'u32', [k], columnGroup),
  };
  const values = Float64Array.from(code, (value, i) => {
    const of = ordered ? Math.floor(i / group) : Math.floor(i / k) * (k / group) + columnGroup[i % k];
    return format === 'nf4' ? nf4Levels[value] * scales[of] : value * scales[2 * of] + scales[2 * of + 1];
  });
  return { matrix, values };
}

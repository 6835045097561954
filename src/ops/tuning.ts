import { type MatrixUnits, nameMatrix } from '../gpu/device.js';
import type { MatmulProblem, MatmulSettings, TensorTile } from './matmul-tile.js';

/** Settings that were measured on one device, by `productClass`. */
export type Tuning = ReadonlyMap<string, MatmulSettings>;

/**
 * Products that share settings: of one form, and type or packed format, on one shape of matrices, of sizes that round up
 * to the same powers of 2.
 */
export function productClass(matrix: MatrixUnits, { form, dtype, packed, m, n, k }: MatmulProblem): string {
  const bucket = (size: number) => 2 ** Math.ceil(Math.log2(Math.max(1, size)));
  return `${nameMatrix(matrix)}, ${form} ${packed?.format ?? dtype} ${bucket(m)}x${bucket(n)}x${bucket(k)}`;
}

/** What the tensor tier asks a tuning; undefined where nothing was measured. */
export function tunedBy(
  tuning: Tuning | undefined,
  matrix: MatrixUnits | undefined,
): ((problem: MatmulProblem) => MatmulSettings | undefined) | undefined {
  if (!tuning?.size || !matrix) return undefined;
  return (problem) => tuning.get(productClass(matrix, problem));
}

const choices: { readonly [name in keyof TensorTile]: readonly number[] } = {
  TM: [1, 2, 4, 8],
  TN: [1, 2, 4, 8],
  GM: [1, 2, 4, 8],
  GN: [1, 2, 4],
  BK: [8, 16, 32, 64],
  STAGES: [0, 1, 2],
  PAD: [0, 1],
  GROUP: [1, 4, 8, 16],
  UNPACK: [0, 1],
  TURN: [0, 1],
};

/** Whether something read from a file is settings of a matmul, as a search over `neighbours` may give them. */
export function isMatmulSettings(value: unknown): value is MatmulSettings {
  if (value === 'registers' || value === 'rows') return true;
  if (typeof value !== 'object' || value === null) return false;
  const names = Object.keys(choices) as (keyof TensorTile)[];
  const tile = value as Record<string, unknown>;
  return (
    Object.keys(tile).length === names.length && names.every((name) => choices[name].includes(tile[name] as number))
  );
}

/** Settings that differ from these in one parameter, parameter by parameter, those that matter most first. */
export function neighbours(settings: TensorTile): TensorTile[][] {
  return (Object.keys(choices) as (keyof TensorTile)[]).map((name) =>
    choices[name].filter((value) => value !== settings[name]).map((value) => ({ ...settings, [name]: value })),
  );
}

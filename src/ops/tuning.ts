import { type MatrixUnits, nameMatrix } from '../gpu/device.js';
import type { AttentionSettings } from './attention.js';
import type { OpContext } from './context.js';
import type { MatmulProblem, MatmulSettings, TensorTile } from './matmul-tile.js';

/** Settings that were measured on one device: of products by `productClass`, of attention by `attentionClass`. */
export type Tuning = ReadonlyMap<string, MatmulSettings | AttentionSettings>;

/**
 * Products that share settings: of one form, and type or packed format, on one shape of matrices, of sizes that round up
 * to the same powers of 2.
 */
export function productClass(matrix: MatrixUnits, { form, dtype, packed, m, n, k }: MatmulProblem): string {
  const bucket = (size: number) => 2 ** Math.ceil(Math.log2(Math.max(1, size)));
  return `${nameMatrix(matrix)}, ${form} ${packed?.format ?? dtype} ${bucket(m)}x${bucket(n)}x${bucket(k)}`;
}

const attentionWord = 'attention of';

/** Attention that shares settings: over heads of one size, on one shape of matrices. */
export function attentionClass(matrix: MatrixUnits, headDim: number): string {
  return `${nameMatrix(matrix)}, ${attentionWord} ${headDim}`;
}

/** What the tensor tier asks a tuning; nothing where nothing was measured. */
export function tunedBy(
  tuning: Tuning | undefined,
  matrix: MatrixUnits | undefined,
): Pick<OpContext, 'tuned' | 'tunedAttention'> {
  if (!tuning?.size || !matrix) return {};
  return {
    tuned: (problem) => tuning.get(productClass(matrix, problem)) as MatmulSettings | undefined,
    tunedAttention: (headDim) => tuning.get(attentionClass(matrix, headDim)) as AttentionSettings | undefined,
  };
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

const attentionChoices: { readonly [name in keyof AttentionSettings]: readonly number[] } = {
  BLOCK: [32, 64, 128],
  ROWS: [16, 32, 64],
  HELD: [0, 1],
};

/** Whether something read from a file is settings of that class, as a search may give them. */
export function isSettings(name: string, value: unknown): value is MatmulSettings | AttentionSettings {
  if (name.includes(attentionWord)) return isOneOf(attentionChoices, value);
  return value === 'registers' || value === 'rows' || isOneOf(choices, value);
}

function isOneOf(known: Readonly<Record<string, readonly number[]>>, value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const settings = value as Record<string, number>;
  const names = Object.keys(known);
  return Object.keys(settings).length === names.length && names.every((name) => known[name].includes(settings[name]));
}

/** Every setting of attention there is. */
export function attentionSettings(): AttentionSettings[] {
  const { BLOCK, ROWS, HELD } = attentionChoices;
  return BLOCK.flatMap((block) =>
    ROWS.flatMap((rows) => HELD.map((held) => ({ BLOCK: block, ROWS: rows, HELD: held as 0 | 1 }))),
  );
}

/** Settings that differ from these in one parameter, parameter by parameter, those that matter most first. */
export function neighbours(settings: TensorTile): TensorTile[][] {
  return (Object.keys(choices) as (keyof TensorTile)[]).map((name) =>
    choices[name].filter((value) => value !== settings[name]).map((value) => ({ ...settings, [name]: value })),
  );
}

import type { MatrixUnits } from '../src/gpu/device.js';
import type { Tensor } from '../src/gpu/tensor.js';
import type { Matrix } from '../src/ops/dequantize.js';
import { matmul } from '../src/ops/matmul.js';
import {
  defaultTensorTile,
  fewRows,
  type MatmulProblem,
  type MatmulSettings,
  rowsTile,
  type TensorTile,
  tensorTile,
} from '../src/ops/matmul-tile.js';
import { neighbours, productClass } from '../src/ops/tuning.js';
import { rowsAgree, timeInTurns } from './in-turns.js';
import { type BenchDevice, Operands } from './measure.js';

/** What a search found for one class of products, or of attention. */
export interface Tuned<Settings> {
  readonly class: string;
  readonly settings: Settings;
  /** The default's time over that of these settings, measured in turns. */
  readonly gain: number;
  readonly gflops: number;
  readonly tried: number;
}

/** What the default must be beaten by: less is noise. */
export const leastGain = 1.03;
/** Settings that are to replace others by less than this are not worth the next comparison. */
export const leastStep = 1.01;
/** An adapter's share goes along, as in training. */
const rank = 16;

/**
 * Looks for the fastest settings of a product x·wᵀ or x·w with an adapter: from the default, parameter by parameter,
 * keeping what measures faster in turns with the best so far, at most `most` tiles; then against the forms without matrix
 * units. Everything tried must equal the default's result. Null where nothing beats the default by 3 %.
 */
export async function tuneMatmul(
  bench: BenchDevice,
  matrix: MatrixUnits,
  product: Omit<MatmulProblem, 'rank' | 'dtype'> & { readonly form: 'nt' | 'nn' },
  most = 100,
): Promise<Tuned<MatmulSettings> | null> {
  const problem: MatmulProblem = { ...product, dtype: 'f16', rank };
  const side = new Sides(bench, matrix, problem);
  try {
    const { cpu, subgroups } = bench.device.features;
    const tile = defaultTensorTile(matrix, cpu, problem);
    const rows = subgroups && !cpu && rowsTile(problem) ? 'rows' : null;
    const first: MatmulSettings = rows && problem.m <= fewRows ? rows : tile;
    const seen = new Set([JSON.stringify(tile)]);
    let best: MatmulSettings = tile;
    const beats = async (settings: MatmulSettings) => {
      const key = JSON.stringify(settings);
      if (seen.has(key) || (typeof settings === 'object' && seen.size > most)) return false;
      seen.add(key);
      if (typeof settings === 'object' && !tensorTile(matrix, problem, settings)) return false;
      const gain = await side.compare(best, settings);
      if (gain === null || gain < leastStep) return false;
      best = settings;
      return true;
    };
    // CPUs, whose matrices are emulated, are spared the search where their registers do better.
    if (!(cpu && (await beats('registers')))) {
      for (let better = true; better; ) {
        better = false;
        for (const parameter of neighbours(best as TensorTile).keys()) {
          for (const settings of neighbours(best as TensorTile)[parameter]) better = (await beats(settings)) || better;
        }
      }
      await beats('registers');
    }
    // The best tile against the form that reads each weight once: where the one passes the other is a device's own.
    if (rows) await beats(rows);
    if (best === first) return null;
    const gain = await side.compare(first, best);
    if (gain === null || gain < leastGain) return null;
    const { m, n, k } = problem;
    return {
      class: productClass(matrix, problem),
      settings: best,
      gain,
      gflops: (2 * m * n * (k + rank)) / side.nanoseconds,
      tried: seen.size,
    };
  } finally {
    side.destroy();
  }
}

/** Two settings of one product, on the same operands. */
class Sides {
  /** Median of the second side in the last comparison. */
  nanoseconds = 0;
  readonly #bench: BenchDevice;
  readonly #matrix: MatrixUnits;
  readonly #problem: MatmulProblem;
  readonly #operands: Operands;
  readonly #sets: { x: Tensor; w: Matrix; u: Tensor; v: Tensor }[];
  readonly #results: readonly [Tensor, Tensor];

  constructor(bench: BenchDevice, matrix: MatrixUnits, problem: MatmulProblem) {
    this.#bench = bench;
    this.#matrix = matrix;
    this.#problem = problem;
    const { form, m, n, k, packed } = problem;
    this.#operands = new Operands(bench.device);
    const make = (...shape: number[]) => this.#operands.random('f16', shape);
    // Two sets of operands take turns, so that nothing but the caches of a real step helps.
    this.#sets = [0, 1].map(() => ({
      x: make(m, k),
      w: this.#operands.matrix(form === 'nt' ? [n, k] : [k, n], packed?.format ?? 'f16'),
      u: make(m, rank),
      v: form === 'nt' ? make(n, rank) : make(rank, n),
    }));
    const result = () => this.#operands.empty('f32', [m, n]);
    this.#results = [result(), result()];
  }

  /** Time of the first settings over that of the second; null where the second's result differs or does not compile. */
  async compare(first: MatmulSettings, second: MatmulSettings): Promise<number | null> {
    const { cpu, subgroups } = this.#bench.device.features;
    const { m, n, k, form } = this.#problem;
    const settings = [first, second];
    const times = await timeInTurns(
      this.#bench,
      m,
      (recorder, side, round) => {
        const { x, w, u, v } = this.#sets[(round >> 1) % 2];
        const ctx = { recorder, operand: 'f16', cpu, subgroups, matrix: this.#matrix } as const;
        matmul(
          { ...ctx, tuned: () => settings[side] },
          { label: 'tune', form, x, w, c: this.#results[side], n, k, lora: { u, v, rank }, count: 'batch.rows' },
        );
      },
      // But for the order of sums.
      () => rowsAgree(this.#bench, this.#results, 1e-4),
    );
    if (!times) return null;
    this.nanoseconds = times[1];
    return times[0] / times[1];
  }

  destroy(): void {
    this.#operands.destroy();
  }
}

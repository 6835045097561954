import type { MatrixUnits } from '../src/gpu/device.js';
import {
  type AttentionSettings,
  type AttentionShape,
  type AttentionTree,
  attention,
  attentionBackward,
  defaultAttention,
  fitsAttention,
} from '../src/ops/attention.js';
import { attentionClass, attentionSettings } from '../src/ops/tuning.js';
import { rowsAgree, timeInTurns } from './in-turns.js';
import { chain } from './kernels/operations.js';
import { type BenchDevice, Operands } from './measure.js';
import { leastGain, leastStep, type Tuned } from './tune.js';

/**
 * Looks for the fastest settings of attention on matrix units, forward and backward, over one chain of `rows` tokens:
 * each in turns with the best so far. Everything tried must equal the default's results. Null where nothing beats the
 * default by 3 %, and where these units do no attention over such heads.
 */
export async function tuneAttention(
  bench: BenchDevice,
  matrix: MatrixUnits,
  shape: AttentionShape,
  rows: number,
  candidates: readonly AttentionSettings[] = attentionSettings(),
): Promise<Tuned<AttentionSettings> | null> {
  const { heads, kvHeads, headDim, window } = shape;
  const first = defaultAttention(matrix, headDim);
  if (!first) return null;
  const operands = new Operands(bench.device);
  try {
    const [wide, narrow] = [heads, kvHeads].map((count) => [rows, count * headDim]);
    const make = (...shape: number[]) => operands.empty('f16', shape);
    const [q, k, v, dout] = [wide, narrow, narrow, wide].map((size) => operands.random('f16', size));
    const sides = [0, 1].map(() => ({
      forward: { q, k, v, o: make(...wide), lse: operands.empty('f32', [rows, heads]) },
      backward: { dout, dq: make(...wide), dk: make(...narrow), dv: make(...narrow) },
    }));
    const trees = new Map<number, AttentionTree>();
    const treeOf = (block: number) => {
      const tree = trees.get(block) ?? chain(operands, block, window, rows);
      trees.set(block, tree);
      return tree;
    };
    let nanoseconds = 0;
    const compare = async (settings: readonly [AttentionSettings, AttentionSettings]) => {
      const times = await timeInTurns(
        bench,
        rows,
        (recorder, side) => {
          const ctx = { recorder, operand: 'f16', cpu: false, matrix, tunedAttention: () => settings[side] } as const;
          const tree = treeOf(settings[side].BLOCK);
          const { forward, backward } = sides[side];
          attention(ctx, shape, tree, forward);
          attentionBackward(ctx, shape, tree, { ...forward, ...backward });
        },
        async () => {
          const [first, second] = sides.map(({ forward: { o }, backward: { dq, dk, dv } }) => [o, dq, dk, dv]);
          // Halves, rounded from sums in another order.
          for (const [i, tensor] of first.entries())
            if (!(await rowsAgree(bench, [tensor, second[i]], 2e-3))) return false;
          return true;
        },
      );
      if (!times) return null;
      nanoseconds = times[1];
      return times[0] / times[1];
    };
    let best = first;
    let tried = 1;
    for (const settings of candidates) {
      if (JSON.stringify(settings) === JSON.stringify(first) || !fitsAttention(matrix, headDim, settings)) continue;
      tried++;
      const gain = await compare([best, settings]);
      if (gain !== null && gain >= leastStep) best = settings;
    }
    if (best === first) return null;
    const gain = await compare([first, best]);
    if (gain === null || gain < leastGain) return null;
    // Counted as is usual: 2 products forward and 5 backward, of the pairs that see each other.
    const flops = 7 * heads * headDim * rows ** 2;
    return { class: attentionClass(matrix, headDim), settings: best, gain, gflops: flops / nanoseconds, tried };
  } finally {
    operands.destroy();
  }
}

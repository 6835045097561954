import type { ModelConfig } from '../../models/config.js';
import { packBatch } from '../../src/batch/pack.js';
import { buildTrie } from '../../src/batch/trie.js';
import { formsOf, operandOf, type Tier } from '../../src/model/language-model.js';
import { type AttentionTree, attention, attentionBackward, attentionBlock } from '../../src/ops/attention.js';
import type { OpContext } from '../../src/ops/context.js';
import { loraGradient } from '../../src/ops/lora-gradient.js';
import { rmsNorm, rmsNormBackward } from '../../src/ops/rms-norm.js';
import { swiglu, swigluBackward } from '../../src/ops/swiglu.js';
import { type BenchDevice, measure, Operands } from '../measure.js';
import { type BenchRow, benchRow } from '../rows.js';

/** What one operation does over a model's rows, and how much work that is. */
interface Operation {
  readonly variant: string;
  readonly shape: string;
  readonly record: (ctx: OpContext, set: 0 | 1) => void;
  readonly flops: number;
  readonly bytes: number;
}

/** `treeOf`: one chain of tokens, each of which sees itself and those before, of a window as many as that. */
type Make = (
  operands: Operands,
  tier: Tier,
  config: ModelConfig,
  rows: number,
  treeOf: (window: number | null) => AttentionTree,
) => Operation[];

const two = <T>(make: () => T): [T, T] => [make(), make()];
const rank = 16;

/** Operations other than matmul that `bench kernels` knows. */
export const operations: Readonly<Record<string, Make>> = {
  attention(operands, tier, { heads, kvHeads, headDim, windows }, rows, treeOf) {
    const type = operandOf(tier);
    const wide = [rows, heads * headDim];
    const narrow = [rows, kvHeads * headDim];
    const sets = two(() => {
      const [q, dout] = [operands.random(type, wide), operands.random(type, wide)];
      const [k, v] = [operands.random(type, narrow), operands.random(type, narrow)];
      const [o, dq] = [operands.empty(type, wide), operands.empty(type, wide)];
      const [dk, dv] = [operands.empty(type, narrow), operands.empty(type, narrow)];
      const lse = operands.empty('f32', [rows, heads]);
      return { forward: { q, k, v, o, lse }, backward: { dout, dq, dk, dv } };
    });
    const bytes = (q: number, k: number) => (q * heads + k * kvHeads) * headDim * rows * (type === 'f16' ? 2 : 4);
    return [...new Set(windows)].flatMap((window) => {
      const shape = { heads, kvHeads, headDim, window };
      const tree = treeOf(window);
      // Counted as is usual: 2 products forward and 5 backward, of what is visible.
      const far = Math.max(0, rows - (window ?? rows));
      const product = heads * headDim * (rows * rows - far * far);
      const name = `${rows} rows, ${heads}/${kvHeads} heads of ${headDim}${window ? `, window ${window}` : ''}`;
      return [
        {
          variant: 'forward',
          shape: name,
          record: (ctx: OpContext, set: 0 | 1) => attention(ctx, shape, tree, sets[set].forward),
          flops: 2 * product,
          bytes: bytes(2, 2),
        },
        {
          variant: 'forward and backward',
          shape: name,
          record(ctx: OpContext, set: 0 | 1) {
            attention(ctx, shape, tree, sets[set].forward);
            attentionBackward(ctx, shape, tree, { ...sets[set].forward, ...sets[set].backward });
          },
          flops: 7 * product,
          bytes: bytes(7, 8),
        },
      ];
    });
  },
  'lora-gradient'(operands, tier, { hiddenSize: hidden }, rows) {
    const type = operandOf(tier);
    const sets = two(() => ({
      skinny: operands.random(type, [rows, rank]),
      wide: operands.random(type, [rows, hidden]),
      gradient: operands.empty('f32', [hidden, rank]),
    }));
    return (['a', 'b'] as const).map((layout) => ({
      variant: layout === 'a' ? 'of A' : 'of B',
      shape: `${rows} rows, ${hidden} x ${rank}`,
      record: (ctx: OpContext, set: 0 | 1) =>
        loraGradient(ctx, { label: 'bench', layout, ...sets[set], rank, columns: hidden, alpha: 1 }),
      flops: 2 * rows * hidden * rank,
      bytes: rows * (hidden + rank) * (type === 'f16' ? 2 : 4) + 8 * hidden * rank,
    }));
  },
  'rms-norm'(operands, tier, { hiddenSize: hidden }, rows) {
    const type = operandOf(tier);
    const norm = { dim: hidden, perRow: 1, epsilon: 1e-5, count: 'batch.rows' as const };
    const w = operands.random('f32', [hidden]);
    const sets = two(() => ({
      x: operands.random('f32', [rows, hidden]),
      dy: operands.random('f32', [rows, hidden]),
      y: operands.empty(type, [rows, hidden]),
      dx: operands.random('f32', [rows, hidden]),
      dxCopy: operands.empty(type, [rows, hidden]),
    }));
    const half = type === 'f16' ? 2 : 4;
    const shape = `${rows} rows of ${hidden}`;
    return [
      {
        variant: 'forward',
        shape,
        record: (ctx, set) => rmsNorm(ctx, norm, { x: sets[set].x, w, y: sets[set].y }),
        flops: 4 * rows * hidden,
        bytes: (4 + half) * rows * hidden,
      },
      {
        variant: 'backward',
        shape,
        record(ctx, set) {
          const { x, dy, dx, dxCopy } = sets[set];
          rmsNormBackward(ctx, norm, { x, w, dy, dx, dxCopy, accumulate: true });
        },
        flops: 10 * rows * hidden,
        bytes: (16 + half) * rows * hidden,
      },
    ];
  },
  swiglu(operands, tier, { intermediateSize: ffn }, rows) {
    const type = operandOf(tier);
    const sets = two(() => {
      const [gate, up, dh] = [1, 2, 3].map(() => operands.random(type, [rows, ffn]));
      const h = operands.empty(type, [rows, ffn]);
      return { forward: { gate, up, h }, backward: { gate, up, dh } };
    });
    const half = type === 'f16' ? 2 : 4;
    const shape = `${rows} rows of ${ffn}`;
    return [
      {
        variant: 'forward',
        shape,
        record: (ctx, set) => swiglu(ctx, sets[set].forward, 1),
        flops: 6 * rows * ffn,
        bytes: 3 * half * rows * ffn,
      },
      {
        variant: 'backward',
        shape,
        record: (ctx, set) => swigluBackward(ctx, sets[set].backward),
        flops: 12 * rows * ffn,
        bytes: 5 * half * rows * ffn,
      },
    ];
  },
};

/** Times one of `operations` over a layer of a model with so many rows, forward and backward. */
export async function benchOperation(
  bench: BenchDevice,
  operation: string,
  tier: Tier,
  config: ModelConfig,
  rows: number,
): Promise<BenchRow[]> {
  const operands = new Operands(bench.device);
  const found: BenchRow[] = [];
  try {
    const block = attentionBlock(formsOf(bench.device, tier, bench.tuning), config.headDim);
    const treeOf = (window: number | null) => chain(operands, block, window, rows);
    const made = operations[operation](operands, tier, config, rows, treeOf);
    for (const { variant, shape: name, record, flops, bytes } of made) {
      const measured = await measure(bench, tier, rows, record);
      found.push(benchRow({ operation, shape: name, tier, variant }, measured, { flops, bytes }, null));
    }
  } finally {
    operands.destroy();
  }
  return found;
}

/** One chain of tokens, laid out for attention that walks blocks of so many rows. */
export function chain(operands: Operands, block: number, window: number | null, rows: number): AttentionTree {
  const ids = Int32Array.from({ length: rows + 1 }, (_, i) => i);
  const batch = packBatch(buildTrie([{ ids, labels: ids, weight: 1 }]), { capacity: rows, block, windows: [window] });
  const lists = batch.blockLists.get(window)!;
  return {
    block,
    positions: operands.numbers(batch.positions),
    subtreeEnd: operands.numbers(batch.subtreeEnd),
    keys: operands.numbers(lists.keys),
    queries: operands.numbers(lists.queries),
  };
}

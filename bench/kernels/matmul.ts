import { bytesOf } from '../../src/gpu/tensor.js';
import { operandOf, type Tier } from '../../src/model/language-model.js';
import { matrixBytes, type PackedLayout } from '../../src/ops/dequantize.js';
import { matmul } from '../../src/ops/matmul.js';
import { type BenchDevice, measure, Operands } from '../measure.js';
import type { PeerMatmul } from '../peer-tfjs.js';
import { type BenchRow, benchRow } from '../rows.js';

export interface MatmulShape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** How w is packed; null where it is plain. */
  readonly packed: PackedLayout['format'] | null;
}

/** Bytes of the largest of a product's tensors; a packed w counts as it is, because it is unpacked in parts that fit. */
export function largestTensor({ m, n, k, packed }: MatmulShape, operand: 'f16' | 'f32', result = operand): number {
  const w = packed === null ? bytesOf[operand] : packed === 'affine8' ? 1 : 1 / 2;
  return Math.max(m * k * bytesOf[operand], n * k * w, m * n * bytesOf[result]);
}

/** Times c = x·wᵀ ('nt') or x·w ('nn') of operand type. */
export async function benchMatmul(
  bench: BenchDevice,
  tier: Tier,
  form: 'nt' | 'nn',
  shape: MatmulShape,
  peer: { name: string; matmul: PeerMatmul } | null,
): Promise<BenchRow> {
  const { m, n, k, packed } = shape;
  const operand = operandOf(tier);
  const operands = new Operands(bench.device);
  const sets = [0, 1].map(() => ({
    x: operands.random(operand, [m, k]),
    w: operands.matrix(form === 'nt' ? [n, k] : [k, n], packed ?? operand),
    c: operands.empty(operand, [m, n]),
  }));
  const theirs = peer ? await peer.matmul(m, n, k) : null;
  try {
    const measured = await measure(
      bench,
      tier,
      m,
      (ctx, set) => matmul(ctx, { label: 'bench', form, ...sets[set], n, k, count: 'batch.rows' }),
      theirs,
    );
    return benchRow(
      { operation: 'matmul', shape: `${m}x${n}x${k}`, tier, variant: packed ? `${form} ${packed}` : form },
      measured,
      { flops: 2 * m * n * k, bytes: (m * k + m * n) * bytesOf[operand] + matrixBytes(sets[0].w) },
      peer?.name ?? null,
    );
  } finally {
    theirs?.dispose();
    operands.destroy();
  }
}

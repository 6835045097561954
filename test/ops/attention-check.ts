import { expect } from 'vitest';
import { packBatch } from '../../src/batch/pack.js';
import { buildTrie } from '../../src/batch/trie.js';
import type { Example, TokenTrie } from '../../src/batch/types.js';
import type { MatrixUnits } from '../../src/gpu/device.js';
import type { Tensor } from '../../src/gpu/tensor.js';
import {
  type AttentionSettings,
  type AttentionShape,
  type AttentionTree,
  attention,
  attentionBackward,
  attentionBlock,
} from '../../src/ops/attention.js';
import { example, randomExamples } from '../batch/random-tries.js';
import { OpRun, rounded, type TestGpu, type Tier, tolerance } from '../gpu.js';
import * as reference from '../reference/attention.js';
import { randomNormal, relativeError } from '../reference/random.js';
import { noMatrices, skip } from '../skip.js';

export const range = (n: number) => Array.from({ length: n }, (_, i) => i);
/** Tokens that only serve as targets get no node, so each path ends with one. */
export const trie = (paths: number[][]): TokenTrie => buildTrie(paths.map((ids) => example([...ids, 1000])));
const merged = (examples: Example[]): TokenTrie => buildTrie(examples);

export const tries: Record<string, TokenTrie> = {
  'one row': trie([[1]]),
  'one chain of 17': trie([range(17)]),
  'one chain of 70': trie([range(70)]),
  '40 roots, chains of 1 to 3': trie(range(40).map((i) => range(1 + (i % 3)).map((t) => i + 100 * t))),
  'a binary tree of depth 6': trie(range(64).map((i) => [9, ...range(6).map((bit) => (i >> bit) & 1)])),
  'a node with 100 children': trie(range(100).map((i) => [5, 6, 7, i])),
  'long branches off a long chain': trie(
    range(4).map((i) => [...range(20 + 9 * i), ...range(12).map((t) => 200 + 20 * i + t)]),
  ),
  'random prefixes': merged(randomExamples(3, { count: 30, length: 14, vocab: 3 })),
};

export interface Form {
  readonly tier: Tier;
  readonly cpu: boolean;
  /** On matrix units: those of the device, if it has some, or others in their place. */
  readonly matrix?: (own: MatrixUnits | undefined) => MatrixUnits | undefined;
  /** On those: in the place of the default. */
  readonly settings?: AttentionSettings;
}

/** Forward and backward against float64, and nothing written past the live rows. */
export async function checkAttention(
  gpu: TestGpu,
  form: Form,
  trie: TokenTrie,
  shape: AttentionShape,
  { spare = 5, deviation = 1, cancelling = 1 } = {},
) {
  const { tier, cpu } = form;
  const matrix = form.matrix?.(gpu.device.matrixUnits[0]);
  if (form.matrix && !matrix) skip(noMatrices);
  const { heads, kvHeads, headDim, window } = shape;
  const rows = trie.tokens.length;
  const capacity = rows + spare;
  const op = new OpRun(gpu, tier, { cpu, matrix, tunedAttention: () => form.settings });
  const block = attentionBlock(op.ctx, headDim);
  if (form.settings) expect(block).toBe(form.settings.BLOCK);
  const batch = packBatch(trie, { capacity, block, windows: [window] });
  const lists = batch.blockLists.get(window)!;
  // Rows past the live ones are NaN: they must not be read.
  const make = (name: string, width: number, seed: number, spread = 1) => {
    const values = rounded(tier, randomNormal(capacity * width, seed, spread)).fill(Number.NaN, rows * width);
    return { values: values.subarray(0, rows * width), tensor: op.input(name, tier, [capacity, width], values) };
  };
  const q = make('q', heads * headDim, 1, deviation);
  const k = make('k', kvHeads * headDim, 2);
  const v = make('v', kvHeads * headDim, 3);
  const dout = make('dout', heads * headDim, 4);
  const u32 = (name: string, values: Uint32Array) => op.input(name, 'u32', [Math.max(1, values.length)], values);
  const tree: AttentionTree = {
    block,
    positions: u32('positions', batch.positions),
    subtreeEnd: u32('subtreeEnd', batch.subtreeEnd),
    keys: u32('keys', lists.keys),
    queries: u32('queries', lists.queries),
  };
  const [o, dq] = ['o', 'dq'].map((name) => op.output(name, tier, [capacity, heads * headDim]));
  const [dk, dv] = ['dk', 'dv'].map((name) => op.output(name, tier, [capacity, kvHeads * headDim]));
  const lse = op.output('lse', 'f32', [capacity, heads]);
  const inputs = { q: q.tensor, k: k.tensor, v: v.tensor, o, lse };
  attention(op.ctx, shape, tree, inputs);
  attentionBackward(op.ctx, shape, tree, { ...inputs, dout: dout.tensor, dq, dk, dv });
  await op.run({ rows });
  if (matrix) expect([...op.kernels]).toContain('attention-tensor');

  const forward = reference.attention(q.values, k.values, v.values, trie, shape);
  const backward = reference.attentionBackward(dout.values, q.values, k.values, v.values, forward, trie, shape);
  const check = async (tensor: Tensor, expected: Float64Array, limit: number) => {
    const actual = await op.read(tensor);
    const live = actual.subarray(0, expected.length);
    expect(actual.subarray(expected.length).every(Number.isNaN), `${tensor.label} past the live rows`).toBe(true);
    // One row sees itself alone: its probabilities are constant, and the gradients of q and k are rounding about 0.
    const norm = Math.hypot(...expected);
    if (norm < 1e-9) expect(Math.hypot(...live), tensor.label).toBeLessThan(limit * 10);
    else expect(relativeError(live, expected), tensor.label).toBeLessThan(limit);
  };
  await check(o, forward.o, tolerance[tier]);
  await check(lse, forward.lse, 1e-5);
  await check(dq, backward.dq, cancelling * tolerance[tier]);
  await check(dk, backward.dk, cancelling * tolerance[tier]);
  await check(dv, backward.dv, tolerance[tier]);
}

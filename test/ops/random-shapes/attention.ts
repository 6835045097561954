import { packBatch } from '../../../src/batch/pack.js';
import { buildTrie } from '../../../src/batch/trie.js';
import { attention, attentionBackward, attentionBlock } from '../../../src/ops/attention.js';
import { cacheAttention } from '../../../src/ops/cache-attention.js';
import { rope } from '../../../src/ops/rope.js';
import { ropeTable } from '../../../src/ops/rope-table.js';
import { randomExamples } from '../../batch/random-tries.js';
import { tolerance } from '../../gpu.js';
import * as attentionReference from '../../reference/attention.js';
import * as ropeReference from '../../reference/rope.js';

import { decodeTable, placesOf, type RowPlaces } from '../decode-table.js';
import { drawRows, type RandomCase } from './draw.js';

/** head_dim decides about a pipeline: two each. */
function attend(headDims: readonly number[]): RandomCase['record'] {
  return (op, tier, draw) => {
    const kvHeads = draw.int(1, 2);
    const shape = {
      heads: kvHeads * draw.int(1, 2),
      kvHeads,
      headDim: draw.pick(headDims),
      window: draw.pick([null, 1, 3, 20]),
    };
    const set = { count: draw.int(1, 14), length: draw.pick([1, 4, 20]), vocab: draw.int(1, 4) };
    const trie = buildTrie([...randomExamples(draw.int(1, 1e6), set), ...randomExamples(1, { ...set, length: 9 })]);
    const rows = trie.tokens.length;
    if (rows === 0) return attend(headDims)(op, tier, draw);
    const capacity = rows + draw.int(0, 70);
    const block = attentionBlock(op.ctx, shape.headDim);
    const batch = packBatch(trie, { capacity, block, windows: [shape.window] });
    const lists = batch.blockLists.get(shape.window)!;
    const u32 = (values: Uint32Array) => op.input('list', 'u32', [Math.max(1, values.length)], values);
    const tree = {
      block,
      positions: u32(batch.positions),
      subtreeEnd: u32(batch.subtreeEnd),
      keys: u32(lists.keys),
      queries: u32(lists.queries),
    };
    const [wide, narrow] = [shape.heads * shape.headDim, shape.kvHeads * shape.headDim];
    const make = (width: number) => draw.rows(op, tier, [rows, capacity], width);
    const [q, dout, k, v] = [make(wide), make(wide), make(narrow), make(narrow)];
    const [o, dq] = [1, 2].map(() => op.output('o', tier, [capacity, wide]));
    const [dk, dv] = [1, 2].map(() => op.output('d', tier, [capacity, narrow]));
    const lse = op.output('lse', 'f32', [capacity, shape.heads]);
    const tensors = { q: q.tensor, k: k.tensor, v: v.tensor, o, lse };
    attention(op.ctx, shape, tree, tensors);
    attentionBackward(op.ctx, shape, tree, { ...tensors, dout: dout.tensor, dq, dk, dv });
    const there = attentionReference.attention(q.values, k.values, v.values, trie, shape);
    const back = attentionReference.attentionBackward(dout.values, q.values, k.values, v.values, there, trie, shape);
    const limit = tolerance[tier];
    // Where every row sees itself alone, the gradients of q and k are rounding about 0 and have no relative error.
    const alone = Math.hypot(...back.dq) < 1e-9;
    return {
      batch: { rows },
      checks: [
        { tensor: o, expected: there.o, limit },
        { tensor: lse, expected: there.lse, limit: 1e-5 },
        { tensor: dv, expected: back.dv, limit },
        ...(alone
          ? []
          : [
              { tensor: dq, expected: back.dq, limit },
              { tensor: dk, expected: back.dk, limit },
            ]),
      ],
    };
  };
}

/** By name of the kernel's file. */
export const attentions: Readonly<Record<string, RandomCase>> = {
  attention: { form: 'registers', record: attend([20, 80]) },
  'attention-direct': { form: 'direct', record: attend([8, 20]) },
  'attention-tensor': { form: 'matrices', tiers: ['f16'], record: attend([24]) },
  rope: {
    record(op, tier, draw) {
      const [rows, capacity] = drawRows(draw, 60);
      const [heads, kvHeads, headDim] = [draw.int(1, 5), draw.int(1, 5), 4 * draw.int(1, 33)];
      const [q, k] = [heads, kvHeads].map((count) => draw.rows(op, tier, [rows, capacity], count * headDim));
      const positions = Array.from({ length: capacity }, () => draw.int(0, 49));
      const config = { theta: 10000, llama3: null };
      rope(
        op.ctx,
        { heads, kvHeads, headDim },
        {
          q: q.tensor,
          k: k.tensor,
          positions: op.input('positions', 'u32', [capacity], positions),
          table: op.input('table', 'f32', [50, headDim / 2, 2], ropeTable(config, headDim, 50)),
        },
      );
      const table = ropeReference.ropeTable(config, headDim, 50);
      const turned = (x: Float64Array, count: number) =>
        ropeReference.rope(x, positions.slice(0, rows), count, headDim, table);
      return {
        batch: { rows },
        checks: [
          { tensor: q.tensor, expected: turned(q.values, heads), limit: tolerance[tier] },
          { tensor: k.tensor, expected: turned(k.values, kvHeads), limit: tolerance[tier] },
        ],
      };
    },
  },
  'cache-attention': {
    record(op, tier, draw) {
      const [rows, capacity] = drawRows(draw, 9);
      const kvHeads = draw.int(1, 3);
      const window = draw.pick([null, 1, 5, 70]);
      // Kernels are made for a head's size and for how many heads share a key head: few of each.
      const [sharing, headDim] = draw.pick([
        [1, 4],
        [3, 20],
        [10, 72],
      ]);
      const shape = { heads: kvHeads * sharing, kvHeads, headDim, window };
      const [width, size] = [kvHeads * headDim, shape.heads * headDim];
      const [places, maxPath] = [draw.int(1, 200), 150];
      const keys = draw.rows(op, tier, [places, places], width);
      const values = draw.rows(op, tier, [places, places], width);
      const q = draw.rows(op, tier, [rows, capacity], size);
      const about = Array.from({ length: capacity }, (): RowPlaces => {
        const own = draw.int(0, places - 1);
        const shared = Array.from({ length: draw.int(0, maxPath) }, () => draw.int(0, places - 1));
        return { shared, own, owned: draw.int(shared.length > 0 ? 0 : 1, places - own) };
      });
      const paths = about.map(placesOf);
      const o = op.output('o', tier, [capacity, size]);
      cacheAttention(
        op.ctx,
        shape,
        { keys: keys.tensor, values: values.tensor },
        { q: q.tensor, o, ...decodeTable(op, about.slice(0, rows), capacity, maxPath) },
      );
      const expected = paths.slice(0, rows).flatMap((path, row) => {
        const along = (all: Float64Array) =>
          Float64Array.from(path.flatMap((place) => [...all.subarray(place * width, (place + 1) * width)]));
        const chain = {
          positions: Uint32Array.from(path.keys()),
          subtreeEnd: new Uint32Array(path.length).fill(path.length),
        };
        const query = q.values.subarray(row * size, (row + 1) * size);
        const last = path.length - 1;
        return [...attentionReference.attention(query, along(keys.values), along(values.values), chain, shape, last).o];
      });
      return {
        batch: { rows },
        checks: [{ tensor: o, expected: Float64Array.from(expected), limit: tolerance[tier] }],
      };
    },
  },
};

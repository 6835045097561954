import { dequantize } from '../../../src/ops/dequantize.js';
import { loraGradient } from '../../../src/ops/lora-gradient.js';
import { matmul } from '../../../src/ops/matmul.js';
import type { TensorTile } from '../../../src/ops/matmul-tile.js';
import { sumSplits } from '../../../src/ops/sum-splits.js';
import { rounded, tolerance } from '../../gpu.js';
import { matmulNN, matmulNT, matmulTN } from '../../reference/matmul.js';
import { packedMatrix } from '../packed.js';

import { drawRows, type RandomCase } from './draw.js';

/** Small, so that they compile fast where matrix units are emulated; the pipelines of matmul-tensor.test.ts. */
export const smallTile: TensorTile = {
  GM: 2,
  GN: 1,
  TM: 1,
  TN: 2,
  BK: 16,
  PAD: 1,
  STAGES: 1,
  GROUP: 3,
  UNPACK: 0,
  TURN: 0,
};

/** c = 0.5·(x·wᵀ + u·vᵀ) + bias + residual. */
function forward(
  unit: number,
  most: { m: number; n: number; k: number },
  room = Number.POSITIVE_INFINITY,
): RandomCase['record'] {
  return (op, tier, draw) => {
    const [rows, more] = drawRows(draw, most.m);
    const capacity = Math.min(more, room);
    const [n, k, rank] = [most.n, most.k, 3].map((size) => unit * draw.int(1, size));
    const x = draw.rows(op, tier, [rows, capacity], k);
    const u = draw.rows(op, tier, [rows, capacity], rank);
    const w = draw.rows(op, tier, [n, n], k, 1 / Math.sqrt(k));
    const v = draw.rows(op, tier, [n, n], rank);
    const bias = draw.rows(op, 'f32', [1, 1], n);
    const residual = draw.rows(op, 'f32', [rows, capacity], n);
    const c = op.output('c', 'f32', [capacity, n]);
    matmul(op.ctx, {
      label: 'test',
      form: 'nt',
      x: x.tensor,
      w: w.tensor,
      c,
      n,
      k,
      lora: { u: u.tensor, v: v.tensor, rank },
      bias: bias.tensor,
      residual: residual.tensor,
      alpha: 0.5,
      count: 'batch.rows',
    });
    const share = matmulNT(u.values, v.values, rows, n, rank);
    const expected = matmulNT(x.values, w.values, rows, n, k).map(
      (sum, i) => 0.5 * (sum + share[i]) + bias.values[i % n] + residual.values[i],
    );
    return { batch: { rows }, checks: [{ tensor: c, expected, limit: 1e-5 }] };
  };
}

/** c += x·w in operand type, at times with nothing but that. */
function backward(unit: number): RandomCase['record'] {
  return (op, tier, draw) => {
    const [rows, capacity] = drawRows(draw, 70);
    const [n, k] = [unit * draw.int(1, 14), unit * draw.int(1, 14)];
    const x = draw.rows(op, tier, [rows, capacity], k);
    const w = draw.rows(op, tier, [k, k], n, 1 / Math.sqrt(k));
    const before = draw.rows(op, tier, [rows, capacity], n);
    matmul(op.ctx, {
      label: 'test',
      form: 'nn',
      x: x.tensor,
      w: w.tensor,
      c: before.tensor,
      n,
      k,
      accumulate: true,
      count: 'batch.rows',
    });
    const expected = matmulNN(x.values, w.values, rows, k, n).map((sum, i) => sum + before.values[i]);
    return { batch: { rows }, checks: [{ tensor: before.tensor, expected, limit: tolerance[tier] }] };
  };
}

/** A packed w, in both forms: c = x·wᵀ + u·vᵀ, and c += x·w. */
const overPacked: RandomCase['record'] = (op, tier, draw) => {
  const [rows, capacity] = drawRows(draw, 60);
  const group = draw.pick([8, 16, 64]);
  const [out, into, rank] = [8 * draw.int(1, 10), group * draw.int(1, 3), 8];
  const format = draw.pick(['nf4', 'affine8'] as const);
  const packed = packedMatrix(op, { format, n: out, k: into, group, ordered: true });
  const common = { label: 'test', w: packed.matrix, count: 'batch.rows' } as const;
  const limit = tolerance[tier];
  if (draw.int(0, 1)) {
    const x = draw.rows(op, tier, [rows, capacity], into);
    const [u, v] = [draw.rows(op, tier, [rows, capacity], rank), draw.rows(op, tier, [out, out], rank)];
    const c = op.output('c', 'f32', [capacity, out]);
    const lora = { u: u.tensor, v: v.tensor, rank };
    matmul(op.ctx, { ...common, form: 'nt', x: x.tensor, c, n: out, k: into, lora });
    const share = matmulNT(u.values, v.values, rows, out, rank);
    const expected = matmulNT(x.values, packed.values, rows, out, into).map((sum, i) => sum + share[i]);
    return { batch: { rows }, checks: [{ tensor: c, expected, limit }] };
  }
  const x = draw.rows(op, tier, [rows, capacity], out);
  const before = draw.rows(op, 'f32', [rows, capacity], into);
  matmul(op.ctx, { ...common, form: 'nn', x: x.tensor, c: before.tensor, n: into, k: out, accumulate: true });
  const expected = matmulNN(x.values, packed.values, rows, out, into).map((sum, i) => sum + before.values[i]);
  return { batch: { rows }, checks: [{ tensor: before.tensor, expected, limit }] };
};

const either = (a: RandomCase['record'], b: RandomCase['record']): RandomCase['record'] => {
  return (op, tier, draw) => draw.pick([a, b])(op, tier, draw);
};

const gradient: RandomCase['record'] = (op, tier, draw) => {
  const unit = op.ctx.matrix ? 8 : 4;
  const [rows, capacity] = drawRows(draw, 300);
  const [rank, columns] = [unit * draw.int(1, 5), unit * draw.int(1, 20)];
  const layout = draw.pick(['a', 'b'] as const);
  // Of lora_B, u may stand between those of other modules.
  const [column, more] = layout === 'b' ? [8 * draw.int(0, 2), 8 * draw.int(0, 2)] : [0, 0];
  const stride = column + rank + more;
  const skinny = draw.rows(op, tier, [rows, capacity], stride);
  const wide = draw.rows(op, tier, [rows, capacity], columns);
  const before = draw.rows(op, 'f32', [rank, rank], columns);
  const arguments_ = { skinny: skinny.tensor, wide: wide.tensor, gradient: before.tensor, rank, columns };
  loraGradient(op.ctx, {
    label: 'test',
    layout,
    alpha: 0.25,
    ...arguments_,
    column: layout === 'b' ? column : undefined,
  });
  const s = Float64Array.from({ length: rows * rank }, (_, i) => {
    return skinny.values[Math.floor(i / rank) * stride + column + (i % rank)];
  });
  const w = wide.values;
  const product = layout === 'a' ? matmulTN(s, w, rows, rank, columns) : matmulTN(w, s, rows, columns, rank);
  const expected = product.map((sum, i) => 0.25 * sum + before.values[i]);
  return { batch: { rows }, checks: [{ tensor: before.tensor, expected, limit: 1e-5 }] };
};

/** By name of the kernel's file. */
export const products: Readonly<Record<string, RandomCase>> = {
  'matmul-direct': { form: 'direct', record: either(forward(4, { m: 70, n: 50, k: 30 }), backward(4)) },
  matmul: { form: 'registers', record: either(forward(4, { m: 70, n: 50, k: 30 }), backward(4)) },
  'matmul-rows': { form: 'rows', record: forward(8, { m: 16, n: 20, k: 150 }, 16) },
  'matmul-tensor': {
    form: 'matrices',
    tiers: ['f16'],
    record: either(forward(8, { m: 60, n: 10, k: 12 }), backward(8)),
  },
  'matmul-tensor, packed': { kernel: 'matmul-tensor', form: 'matrices', tiers: ['f16'], record: overPacked },
  'lora-gradient': { form: 'registers', record: gradient },
  'lora-gradient, direct': { kernel: 'lora-gradient', form: 'direct', record: gradient },
  'lora-gradient, matrices': { kernel: 'matmul-tensor', form: 'matrices', tiers: ['f16'], record: gradient },
  'sum-splits': {
    record(op, tier, draw) {
      const [rows, capacity] = drawRows(draw, 60);
      const [splits, columns] = [draw.int(1, 8), 4 * draw.int(1, 70)];
      const [yColumn, width] = draw.pick([
        [undefined, columns],
        [4 * draw.int(0, 5), columns + 24],
      ]);
      const sums = rounded('f32', draw.normal(splits * capacity * columns));
      const y = draw.rows(op, tier, [rows, capacity], width);
      const parts = op.input('sums', 'f32', [splits, capacity, columns], sums);
      sumSplits(op.ctx, { label: 'test', sums: parts, y: y.tensor, count: 'batch.rows', yColumn });
      const expected = y.values.map((before, i) => {
        const column = (i % width) - (yColumn ?? 0);
        if (column < 0 || column >= columns) return before;
        let sum = 0;
        for (let z = 0; z < splits; z++) sum += sums[(z * capacity + Math.floor(i / width)) * columns + column];
        return sum;
      });
      return { batch: { rows }, checks: [{ tensor: y.tensor, expected, limit: tolerance[tier] }] };
    },
  },
  dequantize: {
    record(op, tier, draw) {
      const format = draw.pick(['nf4', 'affine4', 'affine8'] as const);
      const group = 8 * draw.int(1, 16);
      const packed = { format, n: 4 * draw.int(1, 12), k: group * draw.int(1, 4), group, ordered: true };
      const { matrix, values } = packedMatrix(op, packed);
      const y = op.output('y', tier, [packed.n, packed.k]);
      dequantize(op.ctx, matrix, y);
      return { batch: {}, checks: [{ tensor: y, expected: values, limit: tolerance[tier] }] };
    },
  },
};

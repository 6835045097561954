import { adamw } from '../../../src/ops/adamw.js';
import { convert } from '../../../src/ops/convert.js';
import { dequantize, layOutPacked } from '../../../src/ops/dequantize.js';
import { dropout } from '../../../src/ops/dropout.js';
import { embedding } from '../../../src/ops/embedding.js';
import { gatherRows } from '../../../src/ops/gather-rows.js';
import { gradNorm } from '../../../src/ops/grad-norm.js';
import { linearCrossEntropy } from '../../../src/ops/linear-cross-entropy.js';
import { quantize } from '../../../src/ops/quantize.js';
import { rmsNorm, rmsNormBackward } from '../../../src/ops/rms-norm.js';
import { swiglu, swigluBackward } from '../../../src/ops/swiglu.js';
import { type OpRun, rounded, type Tier, tolerance } from '../../gpu.js';
import { adamwStep } from '../../reference/adamw.js';
import { embed } from '../../reference/embedding.js';
import * as normReference from '../../reference/grad-norm.js';
import * as lossReference from '../../reference/linear-cross-entropy.js';
import { nf4Levels, type Quantized, quantizeAffine, quantizeNf4 } from '../../reference/quantize.js';
import * as rmsReference from '../../reference/rms-norm.js';
import * as swigluReference from '../../reference/swiglu.js';

import { drawRows, type RandomCase } from './draw.js';

/** A vocabulary in parts of at most `size` rows, each padded to a multiple of 8. */
function parts(op: OpRun, tier: Tier, values: Float64Array, dim: number, size: number) {
  const vocab = values.length / dim;
  return Array.from({ length: Math.ceil(vocab / size) }, (_, i) => {
    const first = i * size;
    const count = Math.min(size, vocab - first);
    const rows = Math.ceil(count / 8) * 8;
    const padded = new Float64Array(rows * dim);
    padded.set(values.subarray(first * dim, (first + count) * dim));
    return { first, count, rows, weight: op.input('part', tier, [rows, dim], padded) };
  });
}

/** By name of the kernel's file. */
export const others: Readonly<Record<string, RandomCase>> = {
  'rms-norm': {
    record(op, tier, draw) {
      const [rows, capacity] = drawRows(draw, 30);
      const dim = 4 * draw.int(1, 150);
      const x = draw.rows(op, 'f32', [rows, capacity], dim, 3);
      const dy = draw.rows(op, 'f32', [rows, capacity], dim);
      const before = draw.rows(op, 'f32', [rows, capacity], dim);
      const w = draw.rows(op, 'f32', [1, 1], dim);
      const y = op.output('y', tier, [capacity, dim]);
      const dxCopy = op.output('dxCopy', tier, [capacity, dim]);
      const shape = { dim, perRow: 1, epsilon: 1e-5, count: 'batch.rows' as const };
      rmsNorm(op.ctx, shape, { x: x.tensor, w: w.tensor, y });
      const tensors = { x: x.tensor, w: w.tensor, dy: dy.tensor, dx: before.tensor, dxCopy };
      rmsNormBackward(op.ctx, shape, { ...tensors, accumulate: true });
      const there = rmsReference.rmsNorm(x.values, w.values, rows, dim, 1e-5);
      const back = rmsReference
        .rmsNormBackward(dy.values, x.values, w.values, rows, dim, 1e-5)
        .map((value, i) => value + before.values[i]);
      return {
        batch: { rows },
        checks: [
          { tensor: y, expected: there, limit: tolerance[tier] },
          { tensor: before.tensor, expected: back, limit: 1e-5 },
          // In the f32 tier there is no copy: dx is an operand itself.
          { tensor: dxCopy, expected: tier === 'f16' ? back : new Float64Array(), limit: tolerance[tier] },
        ],
      };
    },
  },
  swiglu: {
    record(op, tier, draw) {
      const [rows, capacity] = drawRows(draw, 40);
      const dim = 4 * draw.int(1, 90);
      const make = (deviation: number) => draw.rows(op, tier, [rows, capacity], dim, deviation);
      const [gate, up, dh] = [make(3), make(3), make(1)];
      const h = op.output('h', tier, [capacity, dim]);
      const inputs = { gate: gate.tensor, up: up.tensor };
      swiglu(op.ctx, { ...inputs, h }, 1 / 16);
      swigluBackward(op.ctx, { ...inputs, dh: dh.tensor });
      const there = swigluReference.swiglu(gate.values, up.values).map((value) => value / 16);
      const back = swigluReference.swigluBackward(dh.values, gate.values, up.values);
      const limit = tolerance[tier];
      return {
        batch: { rows },
        checks: [
          { tensor: h, expected: there, limit },
          { tensor: gate.tensor, expected: back.dGate, limit },
          { tensor: up.tensor, expected: back.dUp, limit },
        ],
      };
    },
  },
  embedding: {
    record(op, tier, draw) {
      const [rows, capacity] = drawRows(draw, 40);
      const [vocab, dim] = [draw.int(1, 120), 4 * draw.int(1, 70)];
      const values = rounded(tier, draw.normal(vocab * dim));
      const tokens = Array.from({ length: capacity }, () => draw.int(0, vocab - 1));
      const y = op.output('y', 'f32', [capacity, dim]);
      const table = { dim, vocab, parts: parts(op, tier, values, dim, 8 * draw.int(1, 15)) };
      embedding(op.ctx, { tokens: op.input('tokens', 'u32', [capacity], tokens), table, y });
      const expected = Float64Array.from(embed(values, tokens.slice(0, rows), dim));
      return { batch: { rows }, checks: [{ tensor: y, expected, limit: 1e-7 }] };
    },
  },
  'gather-rows': {
    record(op, _tier, draw) {
      const [rows, capacity] = drawRows(draw, 40);
      const [from, dim] = [draw.int(1, 60), 4 * draw.int(1, 70)];
      const x = draw.rows(op, 'f32', [from, from], dim);
      const index = Array.from({ length: capacity }, () => draw.int(0, from - 1));
      const y = op.output('y', 'f32', [capacity, dim]);
      gatherRows(op.ctx, { index: op.input('index', 'u32', [capacity], index), x: x.tensor, y });
      const taken = index.slice(0, rows).flatMap((row) => [...x.values.subarray(row * dim, (row + 1) * dim)]);
      return { batch: { logitRows: rows }, checks: [{ tensor: y, expected: Float64Array.from(taken), limit: 1e-7 }] };
    },
  },
  'linear-cross-entropy': {
    record(op, tier, draw) {
      const [rows, capacity] = drawRows(draw, 12);
      const [vocab, dim] = [draw.int(2, 150), 4 * draw.int(1, 15)];
      const hidden = draw.rows(op, tier, [rows, capacity], dim, 3 / Math.sqrt(dim));
      const head = rounded(tier, draw.normal(vocab * dim));
      const [row, target, start]: number[][] = [[], [], [0]];
      for (let r = 0; r < rows; r++) {
        const targets = new Set(Array.from({ length: draw.int(1, 6) }, () => draw.int(0, vocab - 1)));
        for (const t of targets) {
          row.push(r);
          target.push(t);
        }
        start.push(row.length);
      }
      const weight = rounded('f32', draw.normal(row.length));
      const edgeLogprob = op.output('edgeLogprob', 'f32', [row.length + 3]);
      const dhidden = op.output('dhidden', 'f32', [capacity, dim]);
      linearCrossEntropy(op.ctx, {
        hidden: hidden.tensor,
        head: { dim, vocab, parts: parts(op, tier, head, dim, 8 * draw.int(1, 40)) },
        edges: {
          edgeStart: op.input('edgeStart', 'u32', [capacity + 1], start),
          edgeTarget: op.input('edgeTarget', 'u32', [row.length], target),
          edgeWeight: op.input('edgeWeight', 'f32', [row.length], weight),
        },
        edgeLogprob,
        dhidden,
        chunkRows: 8 * draw.int(1, 4),
      });
      const edges = { row, target, weight };
      const { logprobs } = lossReference.linearCrossEntropy(hidden.values, head, dim, edges, 0.125);
      const back = lossReference.linearCrossEntropyBackward(hidden.values, head, dim, edges, 0.125);
      const limit = tolerance[tier];
      return {
        batch: { logitRows: rows, gradScale: 0.125 },
        checks: [
          { tensor: edgeLogprob, expected: logprobs, limit },
          { tensor: dhidden, expected: back, limit },
        ],
      };
    },
  },
  dropout: {
    record(op, tier, draw) {
      const [rows, capacity] = drawRows(draw, 40);
      const dim = 4 * draw.int(1, 70);
      const x = draw.rows(op, tier, [rows, capacity], dim);
      const y = op.output('y', tier, [capacity, dim]);
      dropout(op.ctx, { x: x.tensor, y }, draw.int(0, 9));
      // What a mask drops is dropout.test.ts's business: at p = 0 every number stays.
      return { batch: { rows, dropout: 0 }, checks: [{ tensor: y, expected: x.values, limit: 1e-7 }] };
    },
  },
  convert: {
    record(op, tier, draw) {
      const count = draw.int(1, 900);
      const values = rounded('f16', draw.normal(count));
      const raw = op.input('raw', 'f16', [count + (count % 2)], [...values, 0].slice(0, count + (count % 2)));
      const y = op.output('y', tier, [count + 3]);
      convert(op.ctx, { raw, y, from: 'f16', count, first: 0 });
      return { batch: {}, checks: [{ tensor: y, expected: values, limit: 1e-7 }] };
    },
  },
  quantize: {
    record(op, tier, draw) {
      const format = draw.pick(['nf4', 'affine4', 'affine8'] as const);
      const group = 8 * draw.int(1, 16);
      const groups = draw.int(2, 9);
      const count = group * groups - (format === 'nf4' ? 8 * draw.int(0, group / 8 - 1) : 0);
      const first = group * draw.int(1, groups - 1);
      // Again where rounding decides a code.
      let values: Float64Array;
      let expected: Quantized;
      do {
        values = rounded(tier, draw.normal(count));
        expected =
          format === 'nf4' ? quantizeNf4(values, group) : quantizeAffine(values, group, format === 'affine4' ? 4 : 8);
      } while (expected.margins.some((margin) => margin < 1e-5));
      const { codes, offsets } = expected;
      const scales = format === 'nf4' ? expected.scales : rounded(tier, expected.scales);
      const matrix = layOutPacked({ format, n: count / 8, k: 8, group, ordered: true }, 'w', (...a) => op.output(...a));
      const part = (from: number, to: number) =>
        quantize(op.ctx, {
          raw: op.input('raw', tier, [to - from], values.subarray(from, to)),
          matrix,
          from: tier,
          count: to - from,
          first: from,
        });
      part(first, count);
      part(0, first);
      const y = op.output('y', 'f32', [count / 8, 8]);
      dequantize(op.ctx, matrix, y);
      const value = (code: number, i: number) => {
        const g = Math.floor(i / group);
        return (format === 'nf4' ? nf4Levels[code] : code) * scales[g] + offsets[g];
      };
      return { batch: {}, checks: [{ tensor: y, expected: Float64Array.from(codes, value), limit: tolerance[tier] }] };
    },
  },
  'grad-norm': {
    record(op, _tier, draw) {
      const chunks = Array.from({ length: draw.int(1, 3) }, () => rounded('f32', draw.normal(64 * draw.int(1, 90))));
      const norm = op.output('norm', 'f32', [2]);
      const gradients = chunks.map((chunk) => op.input('gradients', 'f32', [chunk.length], chunk));
      gradNorm(op.ctx, { gradients, norm });
      const expected = Float64Array.of(normReference.gradNorm(chunks) / 8, 0);
      return { batch: { unscale: 1 / 8 }, checks: [{ tensor: norm, expected, limit: 1e-5 }] };
    },
  },
  adamw: {
    record(op, tier, draw) {
      const elements = 64 * draw.int(1, 60);
      const make = (deviation: number) => rounded('f32', draw.normal(elements, deviation));
      const [parameters, gradients, first] = [make(1), make(0.1), make(0.1)];
      const second = make(0.1).map(Math.abs);
      const input = (values: Float64Array) => op.input('chunk', 'f32', [elements], values);
      const chunk = {
        parameters: input(parameters),
        gradients: input(gradients),
        first: input(first),
        second: input(second),
        operands: op.output('operands', tier, [elements]),
        scales: op.input('scales', 'f32', [elements / 64], new Float64Array(elements / 64)),
      };
      const [rateA, beta1, beta2, epsilon, decay] = [1e-3, 0.9, 0.999, 1e-8, 0.1].map(Math.fround);
      const t = draw.int(1, 50);
      adamw(op.ctx, chunk, op.input('norm', 'f32', [2], [1, 0]));
      const expected = parameters.slice();
      const options = { beta1, beta2, epsilon, weightDecay: decay, learningRate: rateA };
      adamwStep(expected, gradients, { m: first, v: second }, t, options);
      const [correction1, correction2] = [1 - beta1 ** t, 1 - beta2 ** t];
      const rates = { rateA, beta1, beta2, epsilon, decay, correction1, correction2 };
      return {
        batch: { unscale: 1, maxNorm: 0, ...rates },
        checks: [
          { tensor: chunk.parameters, expected, limit: 1e-6 },
          { tensor: chunk.operands, expected, limit: tolerance[tier] },
        ],
      };
    },
  },
};

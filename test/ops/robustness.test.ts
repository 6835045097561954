import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packBatch } from '../../src/batch/pack.js';
import { buildTrie } from '../../src/batch/trie.js';
import type { Tensor } from '../../src/gpu/tensor.js';
import { adamw } from '../../src/ops/adamw.js';
import { attention, attentionBackward, attentionBlock } from '../../src/ops/attention.js';
import { appendToCache, cacheAttention } from '../../src/ops/cache-attention.js';
import { convert } from '../../src/ops/convert.js';
import { decodeRows } from '../../src/ops/decode-rows.js';
import { dropout } from '../../src/ops/dropout.js';
import { embedding } from '../../src/ops/embedding.js';
import { gatherRowsBackward } from '../../src/ops/gather-rows.js';
import { gradNorm } from '../../src/ops/grad-norm.js';
import { linearCrossEntropy } from '../../src/ops/linear-cross-entropy.js';
import { loraGradient } from '../../src/ops/lora-gradient.js';
import { matmul } from '../../src/ops/matmul.js';
import { quantize } from '../../src/ops/quantize.js';
import { rmsNorm, rmsNormBackward } from '../../src/ops/rms-norm.js';
import { rope } from '../../src/ops/rope.js';
import { ropeTable } from '../../src/ops/rope-table.js';
import { greedySampling, sample } from '../../src/ops/sample.js';
import { swiglu, swigluBackward } from '../../src/ops/swiglu.js';
import { randomExamples } from '../batch/random-tries.js';
import { OpRun, openTestGpu, type TestGpu } from '../gpu.js';
import { randomNormal } from '../reference/random.js';
import { decodeTable } from './decode-table.js';

// Users run without bounds checks and without safe division. Where these change a result, a kernel leaves its bounds.
let users: TestGpu;
let checked: TestGpu;
beforeAll(async () => {
  users = await openTestGpu();
  checked = await openTestGpu({ debug: true });
});
afterAll(async () => {
  await users.close();
  await checked.close();
});

const tier = 'f16';
const rows = 37;
const capacity = 43;

let seed = 0;
/** Random rows, as many as `shape` says: those past the live ones hold numbers too, so that reading them would show. */
function random(op: OpRun, shape: readonly number[], dtype: 'f16' | 'f32' = tier): Tensor {
  return op.input(
    'input',
    dtype,
    shape,
    randomNormal(
      shape.reduce((a, b) => a * b, 1),
      ++seed,
    ),
  );
}

const operations: Record<string, (op: OpRun) => Tensor[]> = {
  'matmul-direct': (op) => multiply(op),
  matmul: (op) => multiply(op),
  attention(op) {
    const trie = buildTrie(randomExamples(3, { count: 12, length: 9, vocab: 3 }));
    const window = 4;
    const block = attentionBlock(op.ctx, 20);
    const batch = packBatch(trie, { capacity: trie.tokens.length + 6, block, windows: [window] });
    const lists = batch.blockLists.get(window)!;
    const u32 = (values: Uint32Array) => op.input('list', 'u32', [values.length], values);
    const tree = {
      block,
      positions: u32(batch.positions),
      subtreeEnd: u32(batch.subtreeEnd),
      keys: u32(lists.keys),
      queries: u32(lists.queries),
    };
    const shape = { heads: 2, kvHeads: 1, headDim: 20, window };
    const [wide, narrow] = [
      [batch.capacity, 40],
      [batch.capacity, 20],
    ];
    const args = {
      q: random(op, wide),
      k: random(op, narrow),
      v: random(op, narrow),
      o: op.output('o', tier, wide),
      lse: op.output('lse', 'f32', [batch.capacity, 2]),
    };
    const [dq, dk, dv] = [wide, narrow, narrow].map((dims) => op.output('d', tier, dims));
    attention(op.ctx, shape, tree, args);
    attentionBackward(op.ctx, shape, tree, { ...args, dout: random(op, wide), dq, dk, dv });
    return [args.o, args.lse, dq, dk, dv];
  },
  'cache-attention'(op) {
    const [places, maxLength, dim] = [90, 80, 20];
    const cache = { keys: random(op, [places, dim]), values: random(op, [places, dim]) };
    const place = op.input(
      'place',
      'u32',
      [capacity],
      Uint32Array.from({ length: capacity }, (_, i) => 40 + i),
    );
    appendToCache(op.ctx, cache, { k: random(op, [capacity, dim]), v: random(op, [capacity, dim]), place });
    const o = op.output('o', tier, [capacity, 2 * dim]);
    const about = Array.from({ length: capacity }, (_, i) => ({
      shared: Array.from({ length: 1 + ((2 * i) % maxLength) }, (_, j) => (i + j * 7) % places),
      own: i % 80,
      owned: i % 10,
    }));
    cacheAttention(op.ctx, { heads: 2, kvHeads: 1, headDim: dim, window: 70 }, cache, {
      q: random(op, [capacity, 2 * dim]),
      o,
      ...decodeTable(op, about, capacity, maxLength),
    });
    return [o, cache.keys, cache.values];
  },
  'decode-rows and sample'(op) {
    const about = Array.from({ length: rows }, (_, i) => ({ shared: [i % 7], own: i, owned: i % 3 }));
    const table = decodeTable(op, about, capacity, 1);
    const sampled = op.output('sampled', 'u32', [capacity, 4]);
    const [tokens, positions, place] = ['t', 'p', 'l'].map((label) => op.output(label, 'u32', [capacity]));
    decodeRows(op.ctx, { ...table, sampled, tokens, positions, place });
    const vocab = 45;
    const given = op.input(
      'given',
      'u32',
      [capacity, 2],
      Uint32Array.from({ length: 2 * capacity }, (_, i) => i * 0x9e3779b9),
    );
    const notes = { given, spared: op.input('spared', 'u32', [2], [5, 9]) };
    const logits = random(op, [capacity, 48], 'f32');
    for (const filter of [{}, { topK: 7, topP: 0.8 }]) {
      const options = { ...greedySampling, temperature: 1, presencePenalty: 1, ...filter };
      sample(op.ctx, options, { logits, vocab, rows: table.rows, sampled, notes });
    }
    return [tokens, positions, place, sampled, given];
  },
  'linear-cross-entropy'(op) {
    const dim = 20;
    const parts = [
      { first: 0, count: 30, rows: 32, weight: random(op, [32, dim]) },
      { first: 30, count: 17, rows: 24, weight: random(op, [24, dim]) },
    ];
    const edges = {
      edgeStart: op.input(
        'edgeStart',
        'u32',
        [capacity + 1],
        Array.from({ length: capacity + 1 }, (_, i) => 2 * i),
      ),
      edgeTarget: op.input(
        'edgeTarget',
        'u32',
        [2 * capacity],
        Array.from({ length: 2 * capacity }, (_, i) => (i * 5) % 47),
      ),
      edgeWeight: random(op, [2 * capacity], 'f32'),
    };
    const edgeLogprob = op.output('edgeLogprob', 'f32', [2 * capacity]);
    const dhidden = op.output('dhidden', 'f32', [capacity, dim]);
    const head = { dim, vocab: 47, parts };
    linearCrossEntropy(op.ctx, {
      hidden: random(op, [capacity, dim]),
      head,
      edges,
      edgeLogprob,
      dhidden,
      chunkRows: 16,
    });
    return [edgeLogprob, dhidden];
  },
  'lora-gradient'(op) {
    const [rank, columns] = [12, 36];
    return (['a', 'b'] as const).map((layout) => {
      const gradient = random(op, [rank, columns], 'f32');
      const [skinny, wide] = [random(op, [capacity, rank]), random(op, [capacity, columns])];
      loraGradient(op.ctx, { label: 'test', layout, skinny, wide, gradient, rank, columns, alpha: 2 });
      return gradient;
    });
  },
  'rms-norm'(op) {
    const shape = { dim: 260, perRow: 1, epsilon: 1e-5, count: 'batch.rows' as const };
    const dims = [capacity, 260];
    const [x, w] = [random(op, dims, 'f32'), random(op, [260], 'f32')];
    const [y, dx, dxCopy] = [op.output('y', tier, dims), random(op, dims, 'f32'), op.output('dxCopy', tier, dims)];
    rmsNorm(op.ctx, shape, { x, w, y });
    rmsNormBackward(op.ctx, shape, { x, w, dy: random(op, dims, 'f32'), dx, dxCopy, accumulate: true });
    return [y, dx, dxCopy];
  },
  rope(op) {
    const [q, k] = [random(op, [capacity, 3, 20]), random(op, [capacity, 1, 20])];
    const positions = op.input(
      'positions',
      'u32',
      [capacity],
      Array.from({ length: capacity }, (_, i) => (i * 5) % 29),
    );
    const values = ropeTable({ theta: 10000, llama3: null }, 20, 29);
    const table = op.input('table', 'f32', [29, 10, 2], values);
    rope(op.ctx, { heads: 3, kvHeads: 1, headDim: 20 }, { q, k, positions, table });
    return [q, k];
  },
  swiglu(op) {
    const dims = [capacity, 36];
    const [gate, up, dh] = [random(op, dims), random(op, dims), random(op, dims)];
    const h = op.output('h', tier, dims);
    swiglu(op.ctx, { gate, up, h }, 1 / 16);
    swigluBackward(op.ctx, { gate, up, dh });
    return [h, gate, up];
  },
  'gathers, dropout and conversion'(op) {
    const y = op.output('y', 'f32', [capacity, 20]);
    const tokens = op.input(
      'tokens',
      'u32',
      [capacity],
      Array.from({ length: capacity }, (_, i) => i % 13),
    );
    const table = { dim: 20, vocab: 13, parts: [{ first: 0, count: 13, rows: 16, weight: random(op, [16, 20]) }] };
    embedding(op.ctx, { tokens, table, y });
    const dx = op.output('dx', 'f32', [capacity, 20]);
    const dxCopy = op.output('dxCopy', tier, [capacity, 20]);
    const inverse = op.input(
      'inverse',
      'i32',
      [capacity],
      Array.from({ length: capacity }, (_, i) => (i % 3 ? -1 : i / 3)),
    );
    gatherRowsBackward(op.ctx, { inverse, dy: random(op, [20, 20], 'f32'), dx, dxCopy });
    const dropped = op.output('dropped', tier, [capacity, 20]);
    dropout(op.ctx, { x: random(op, [capacity, 20], 'f32'), y: dropped }, 2);
    const converted = op.output('converted', 'f32', [30]);
    convert(op.ctx, { raw: random(op, [14]), y: converted, from: 'f16', count: 13, first: 3 });
    return [y, dx, dxCopy, dropped, converted];
  },
  quantize: (op) =>
    (['nf4', 'affine4', 'affine8'] as const).flatMap((format) => {
      // Whole groups but for the last of NF4, which has 24 numbers.
      const [group, count] = [32, format === 'nf4' ? 88 : 96];
      const codes = op.output('codes', 'u32', [format === 'affine8' ? 32 : 16]);
      const scales = op.output('scales', 'f32', [format === 'nf4' ? 4 : 8]);
      const matrix = { format, n: 4, k: 32, codes, scales, group, columnGroup: null };
      quantize(op.ctx, { raw: random(op, [count]), matrix, from: 'f16', count, first: 32 });
      return [codes, scales];
    }),
  'grad-norm and adamw'(op) {
    const elements = 64 * 67;
    const scales = op.input(
      'scales',
      'f32',
      [67],
      Array.from({ length: 67 }, (_, i) => 2 * (i % 2)),
    );
    const [parameters, gradients, first] = [1, 2, 3].map(() => random(op, [elements], 'f32'));
    const second = op.input('second', 'f32', [elements], new Float64Array(elements).fill(0.5));
    const [operands, norm] = [op.output('operands', tier, [elements]), op.output('norm', 'f32', [2])];
    gradNorm(op.ctx, { gradients: [gradients], norm });
    adamw(op.ctx, { parameters, gradients, first, second, operands, scales }, norm);
    return [norm, parameters, first, second, operands];
  },
};

/** c = x·wᵀ + u·vᵀ with everything added, and dx = dy·w accumulated; from a row on, in shapes that fill no tile. */
function multiply(op: OpRun): Tensor[] {
  const [n, k, rank] = [68, 36, 12];
  const c = op.output('c', 'f32', [capacity, n]);
  const lora = { u: random(op, [capacity, rank]), v: random(op, [n, rank]), rank };
  const [x, w] = [random(op, [capacity, k]), random(op, [n, k])];
  const extra = { bias: random(op, [n], 'f32'), residual: random(op, [capacity, n], 'f32') };
  matmul(op.ctx, { label: 'test', form: 'nt', x, w, c, n, k, lora, ...extra, count: 'batch.rows' });
  const dx = random(op, [capacity, k]);
  const dy = random(op, [capacity, n]);
  matmul(op.ctx, { label: 'test', form: 'nn', x: dy, w, c: dx, n: k, k: n, accumulate: true, count: 'batch.rows' });
  return [c, dx];
}

async function run(gpu: TestGpu, name: string): Promise<Float64Array[]> {
  seed = 0;
  const op = new OpRun(gpu, tier, { cpu: name !== 'matmul' });
  const outputs = operations[name](op);
  await op.run({
    rows,
    logitRows: rows,
    seed: 5,
    gradScale: 0.5,
    unscale: 0.25,
    rateA: 0.01,
    rateB: 0.1,
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 1e-8,
    decay: 0.1,
    correction1: 0.19,
    correction2: 0.02,
    maxNorm: 1,
    dropout: 0.25,
  });
  return Promise.all(outputs.map((tensor) => op.read(tensor)));
}

describe('with and without bounds checks', () => {
  it.each(Object.keys(operations))('%s gives the same bits', async (name) => {
    const expected = await run(checked, name);
    expect(expected.some((values) => values.some((value) => !Number.isNaN(value)))).toBe(true);
    (await run(users, name)).forEach((actual, i) => {
      expect(actual, `output ${i}`).toEqual(expected[i]);
    });
  });
});

import { float16ToFloat32 } from '../formats/half.js';
import { NF4_LEVELS } from '../formats/nf4-writer.js';
import { BatchUniform } from '../gpu/batch.js';
import type { Device, MatrixUnits } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernels.js';
import { BufferPool, Recorder } from '../gpu/program.js';
import { createTensor, type DType, type Tensor, upload } from '../gpu/tensor.js';
import { attention, attentionBackward, attentionBlock } from '../ops/attention.js';
import type { OpContext } from '../ops/context.js';
import { layOutPacked, type Matrix } from '../ops/dequantize.js';
import { loraGradient } from '../ops/lora-gradient.js';
import { matmul } from '../ops/matmul.js';
import { opContext, type Tier } from './language-model.js';

/** One product of the self-test: rows, columns, length of the sum, rank of the adapter folded in. */
export interface Product {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly rank: number;
  readonly bias?: boolean;
  readonly packed?: 'nf4' | 'affine4';
}

/** One program on small tensors, and what it allocated. */
export class Check {
  readonly ctx: OpContext;
  readonly #device: Device;
  readonly #owned: Tensor[] = [];
  #recorder: Recorder;
  readonly #kernels: KernelCache;

  constructor(
    device: Device,
    kernels: KernelCache,
    { tier, matrix, subgroups }: { tier: Tier; matrix?: MatrixUnits; subgroups?: false },
  ) {
    this.#device = device;
    this.#kernels = kernels;
    this.#recorder = new Recorder(kernels);
    const check = this;
    this.ctx = {
      ...opContext(device, this.#recorder, tier),
      matrix,
      subgroups: subgroups ?? device.features.subgroups,
      get recorder() {
        return check.#recorder;
      },
    };
  }

  tensor(label: string, dtype: DType, shape: readonly number[], values?: ArrayLike<number>): Tensor {
    const tensor = createTensor(this.#device, label, dtype, shape);
    this.#owned.push(tensor);
    if (values) {
      const arrays = { f32: Float32Array, u32: Uint32Array, i32: Int32Array } as const;
      upload(
        this.#device,
        tensor,
        dtype === 'f16' ? Uint16Array.from(values, eighthToHalf) : arrays[dtype].from(values),
      );
    }
    return tensor;
  }

  /** Runs what was recorded. */
  async run(rows: number): Promise<void> {
    const batch = new BatchUniform(this.#device);
    const pool = new BufferPool(this.#device);
    const program = await this.#recorder.realise(this.#device, pool, batch.buffer);
    batch.write({ rows });
    program.run();
    await this.#device.finish();
    program.destroy();
    pool.destroy();
    this.#device.destroyBuffer(batch.buffer);
    this.#recorder = new Recorder(this.#kernels);
  }

  /** Numbers of a tensor of floats. */
  async read(tensor: Tensor): Promise<ArrayLike<number>> {
    const bytes = await this.#device.read(tensor.buffer!, 0, tensor.bytes);
    if (tensor.dtype === 'f32') return new Float32Array(bytes);
    return float16ToFloat32(new Uint16Array(bytes));
  }

  destroy(): void {
    for (const tensor of this.#owned) this.#device.destroyBuffer(tensor.buffer!);
  }
}

/** Largest difference of a product from the host's, over the largest element. */
export async function matmulError(check: Check, form: 'nt' | 'nn' | 'tn', product: Product): Promise<number> {
  const { m, n, k, rank } = product;
  // The last row is not live.
  const live = form === 'tn' ? m : m - 1;
  const { operand } = check.ctx;
  const x = eighths(m * k, 1);
  const wShape = form === 'nt' ? ([n, k] as const) : ([k, n] as const);
  const { matrix, values: w } = product.packed
    ? packedWeights(check, product.packed, wShape)
    : plainWeights(check, wShape);
  const bias = eighths(product.bias ? n : 0, 9);
  const u = eighths(m * rank, 7);
  const v = eighths(n * rank, 8);
  const lora = {
    u: check.tensor('u', operand, [m, rank], u),
    v: check.tensor('v', operand, form === 'nt' ? [n, rank] : [rank, n], v),
    rank,
  };
  const c = check.tensor('c', 'f32', [m, n]);
  matmul(check.ctx, {
    label: 'self_test',
    form,
    x: check.tensor('x', operand, form === 'tn' ? [k, m] : [m, k], x),
    w: matrix,
    c,
    n,
    k,
    lora: rank > 0 ? lora : undefined,
    bias: product.bias ? check.tensor('bias', 'f32', [n], bias) : undefined,
    count: 'batch.rows',
  });
  await check.run(form === 'tn' ? k : live);
  const expected = new Float64Array(live * n);
  for (let row = 0; row < live; row++) {
    for (let column = 0; column < n; column++) {
      expected[row * n + column] = bias[column] ?? 0;
      for (let i = 0; i < k; i++) {
        const a = form === 'tn' ? x[i * m + row] : x[row * k + i];
        expected[row * n + column] += a * (form === 'nt' ? w[column * k + i] : w[i * n + column]);
      }
      for (let i = 0; i < rank; i++)
        expected[row * n + column] += u[row * rank + i] * (form === 'nt' ? v[column * rank + i] : v[i * n + column]);
    }
  }
  return differs(await check.read(c), expected);
}

function plainWeights(
  check: Check,
  [rows, columns]: readonly [number, number],
): { matrix: Matrix; values: Float64Array } {
  const values = eighths(rows * columns, 2);
  return { matrix: check.tensor('w', check.ctx.operand, [rows, columns], values), values };
}

/** Weights of arbitrary codes, in groups of 64 with scales of 1, 1/2 and 1/4, so that those of affine4 are exact in f16. */
function packedWeights(
  check: Check,
  format: 'nf4' | 'affine4',
  [n, k]: readonly [number, number],
): { matrix: Matrix; values: Float64Array } {
  const group = 64;
  const codes = draws(n * k, 2, 16);
  const words = new Uint32Array(codes.length / 8);
  codes.forEach((code, i) => {
    words[i >> 3] |= code << (4 * (i & 7));
  });
  const size = (i: number) => 2 ** -(i % 3);
  const groups = Array.from({ length: codes.length / group }, (_, i) => size(i));
  const scales = format === 'nf4' ? groups : groups.flatMap((scale) => [scale / 8, -scale]);
  const matrix = layOutPacked({ format, n, k, group, ordered: true }, 'w', (label, dtype, shape) =>
    check.tensor(label, dtype, shape, dtype === 'u32' ? words : scales),
  );
  const values = codes.map(
    (code, i) => size(Math.floor(i / group)) * (format === 'nf4' ? NF4_LEVELS[code] : code / 8 - 1),
  );
  return { matrix, values };
}

/** Likewise of the gradient of one of an adapter's matrices, which adds to what is there. */
export async function gradientError(
  check: Check,
  layout: 'a' | 'b',
  { rows, columns, rank }: { rows: number; columns: number; rank: number },
): Promise<number> {
  const { operand } = check.ctx;
  const [skinny, wide] = [eighths(rows * rank, 10), eighths(rows * columns, 11)];
  const expected = eighths(rank * columns, 12);
  const shape = layout === 'a' ? [rank, columns] : [columns, rank];
  const sums = check.tensor('gradient', 'f32', shape, expected);
  loraGradient(check.ctx, {
    label: 'self_test',
    layout,
    skinny: check.tensor('skinny', operand, [rows, rank], skinny),
    wide: check.tensor('wide', operand, [rows, columns], wide),
    gradient: sums,
    rank,
    columns,
    alpha: 1,
  });
  // The last row is not live.
  const live = rows - 1;
  await check.run(live);
  for (let row = 0; row < live; row++) {
    for (let r = 0; r < rank; r++) {
      for (let column = 0; column < columns; column++)
        expected[layout === 'a' ? r * columns + column : column * rank + r] +=
          skinny[row * rank + r] * wide[row * columns + column];
    }
  }
  return differs(await check.read(sums), expected);
}

/** Likewise of attention over one chain of tokens, forward and backward. */
export async function attentionErrors(check: Check, rows: number, dim: number): Promise<Record<string, number>> {
  const { operand } = check.ctx;
  const block = attentionBlock(check.ctx, dim);
  const shape = { heads: 1, kvHeads: 1, headDim: dim, window: null };
  const list = (values: number[]) => check.tensor('list', 'u32', [values.length], values);
  const blocks = Math.ceil(rows / block);
  const pairs = Array.from({ length: blocks }, (_, q) => Array.from({ length: q + 1 }, (_, k) => [q, k])).flat();
  const lists = (of: 0 | 1) => {
    const entries = pairs.slice().sort((a, b) => a[of] - b[of] || a[1 - of] - b[1 - of]);
    const starts = Array.from({ length: blocks + 1 }, (_, i) => entries.filter((pair) => pair[of] < i).length);
    return list([...starts.map((start) => blocks + 1 + start), ...entries.map((pair) => (pair[1 - of] << 1) | 1)]);
  };
  const chain = Array.from({ length: rows }, (_, i) => i);
  const tree = {
    block,
    positions: list(chain),
    subtreeEnd: list(chain.map(() => rows)),
    keys: lists(0),
    queries: lists(1),
  };
  const [q, k, v, dout] = [3, 4, 5, 6].map((seed) => eighths(rows * dim, seed));
  const input = (values: Float64Array) => check.tensor('input', operand, [rows, dim], values);
  const [tq, tk, tv] = [q, k, v].map(input);
  const [o, dq, dk, dv] = ['o', 'dq', 'dk', 'dv'].map((label) => check.tensor(label, operand, [rows, dim]));
  const lse = check.tensor('lse', 'f32', [rows, 1]);
  attention(check.ctx, shape, tree, { q: tq, k: tk, v: tv, o, lse });
  attentionBackward(check.ctx, shape, tree, { q: tq, k: tk, v: tv, o, lse, dout: input(dout), dq, dk, dv });
  await check.run(rows);

  const expected = Object.fromEntries(['o', 'dq', 'dk', 'dv'].map((name) => [name, new Float64Array(rows * dim)]));
  const dot = (a: Float64Array, i: number, b: Float64Array, j: number) => {
    let sum = 0;
    for (let d = 0; d < dim; d++) sum += a[i * dim + d] * b[j * dim + d];
    return sum;
  };
  const add = (to: Float64Array, i: number, scale: number, from: Float64Array, j: number) => {
    for (let d = 0; d < dim; d++) to[i * dim + d] += scale * from[j * dim + d];
  };
  for (let i = 0; i < rows; i++) {
    const weights = chain.slice(0, i + 1).map((j) => Math.exp(dot(q, i, k, j) / Math.sqrt(dim)));
    const total = weights.reduce((a, b) => a + b);
    weights.forEach((weight, j) => {
      add(expected.o, i, weight / total, v, j);
    });
    const delta = dot(dout, i, expected.o, i);
    weights.forEach((weight, j) => {
      const ds = ((weight / total) * (dot(dout, i, v, j) - delta)) / Math.sqrt(dim);
      add(expected.dq, i, ds, k, j);
      add(expected.dk, j, ds, q, i);
      add(expected.dv, j, weight / total, dout, i);
    });
  }
  const errors: Record<string, number> = {};
  for (const tensor of [o, dq, dk, dv])
    errors[tensor.label] = differs(await check.read(tensor), expected[tensor.label]);
  return errors;
}

/** Largest difference over the largest number expected; NaN where there is one. */
function differs(actual: ArrayLike<number>, expected: Float64Array): number {
  let worst = 0;
  let largest = 0;
  expected.forEach((value, i) => {
    worst = Math.max(worst, Math.abs(actual[i] - value));
    largest = Math.max(largest, Math.abs(value));
  });
  return worst / largest;
}

/** Whole numbers from 0 to below `below`. */
function draws(count: number, seed: number, below: number): Float64Array {
  let state = seed;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 16) % below;
  });
}

/** Multiples of 1/8 from −7/8 to 7/8. */
function eighths(count: number, seed: number): Float64Array {
  return draws(count, seed, 15).map((value) => value / 8 - 7 / 8);
}

/** The f16 bits of a multiple of 1/8 below 1. */
function eighthToHalf(value: number): number {
  if (value === 0) return 0;
  const size = Math.abs(value);
  const exponent = Math.floor(Math.log2(size));
  return (value < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | Math.round((size / 2 ** exponent - 1) * 1024);
}

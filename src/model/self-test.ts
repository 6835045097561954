import { float16ToFloat32 } from '../formats/half.js';
import { BatchUniform } from '../gpu/batch.js';
import { type Device, type MatrixUnits, nameMatrix } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernels.js';
import { BufferPool, Recorder } from '../gpu/program.js';
import { createTensor, type DType, type Tensor, upload } from '../gpu/tensor.js';
import { attention, attentionBackward, attentionBlock } from '../ops/attention.js';
import type { OpContext } from '../ops/context.js';
import { matmul } from '../ops/matmul.js';
import { opContext, type Tier } from './language-model.js';

/** A way to run this device: a tier, and in the tensor tier which of its matrix units. */
export interface Candidate {
  readonly tier: Tier;
  readonly matrix?: MatrixUnits;
}

/** Result of checking a candidate's kernels on this device. */
export interface TierCheck extends Candidate {
  /** As `nameCandidate` has it. */
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
}

/**
 * Operands are small multiples of 1/8, exact in f16, and so are products' sums in f32: any real fault is far above the
 * first. Attention's probabilities and results are rounded to f16.
 */
const tolerance = { matmul: 1e-5, attention: 5e-3 };

/** "f16", "tensor on matrices of 16x16x16 of f16". */
export function nameCandidate({ tier, matrix }: Candidate): string {
  return matrix ? `tensor on matrices of ${nameMatrix(matrix)}` : tier;
}

/** What the device offers, best first. */
export function candidates(device: Device): Candidate[] {
  const found: Candidate[] = [];
  if (device.features.f16) {
    for (const matrix of device.matrixUnits) found.push({ tier: 'tensor', matrix });
    found.push({ tier: 'f16' });
  }
  return [...found, { tier: 'f32' }];
}

/** Tiers that the device offers, best first. */
export function offeredTiers(device: Device): Tier[] {
  return [...new Set(candidates(device).map(({ tier }) => tier))];
}

/** One product of the self-test: rows, columns, length of the sum, rank of the adapter folded in. */
interface Product {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly rank: number;
}

// More than one tile each way, none whole.
const small: Product = { m: 24, n: 72, k: 40, rank: 0 };
const few: Product = { ...small, m: 3 };
/** Tokens and head_dim of attention. */
const attentions: readonly (readonly [number, number])[] = [[21, 64]];
/** Several blocks, of the head_dim of 7-8B models. */
const thoroughAttention = [130, 128] as const;
/** Fills the tiles that GPUs have by default, several steps of k, and an adapter's. */
const whole: Product = { m: 250, n: 264, k: 160, rank: 16 };

/**
 * Computes small products in every form, and attention forward and backward, as a candidate does, and compares them
 * with the host's: drivers with broken subgroup matrices, subgroups or f16 exist. With `thorough`, by default on GPUs, also
 * a product and attention of the size that fills a tile, which CPU drivers take long to compile.
 */
export async function checkCandidate(
  device: Device,
  kernels: KernelCache,
  candidate: Candidate,
  thorough = !device.features.cpu,
): Promise<TierCheck> {
  const name = nameCandidate(candidate);
  const { matrix } = candidate;
  const check = new Check(device, kernels, candidate);
  try {
    // Each row: what, how far off, and what is allowed.
    const parts: [string, number, number][] = [];
    for (const form of matrix ? (['nt', 'nn', 'tn'] as const) : (['nt', 'nn'] as const)) {
      parts.push([`matmul '${form}'`, await matmulError(check, form, small), tolerance.matmul]);
      if (thorough && form !== 'tn')
        parts.push([`whole tile of matmul '${form}'`, await matmulError(check, form, whole), tolerance.matmul]);
    }
    parts.push(['matmul of few rows', await matmulError(check, 'nt', few), tolerance.matmul]);
    for (const [rows, dim] of thorough ? [...attentions, thoroughAttention] : attentions) {
      const errors = await attentionErrors(check, rows, dim);
      for (const [what, error] of Object.entries(errors))
        parts.push([`attention ${what} at head_dim ${dim}`, error, tolerance.attention]);
    }
    const wrong = parts.find(([, error, limit]) => !(error < limit));
    if (wrong) return { ...candidate, name, ok: false, detail: `${wrong[0]} is off by ${wrong[1].toExponential(1)}` };
    return { ...candidate, name, ok: true, detail: 'matmul and attention equal the CPU’s' };
  } catch (error) {
    return { ...candidate, name, ok: false, detail: (error as Error).message.split('\n')[0] };
  } finally {
    check.destroy();
  }
}

/** One program on small tensors, and what it allocated. */
class Check {
  readonly ctx: OpContext;
  readonly #device: Device;
  readonly #owned: Tensor[] = [];
  #recorder: Recorder;
  readonly #kernels: KernelCache;

  constructor(device: Device, kernels: KernelCache, { tier, matrix }: Candidate) {
    this.#device = device;
    this.#kernels = kernels;
    this.#recorder = new Recorder(kernels);
    const check = this;
    this.ctx = {
      ...opContext(device, this.#recorder, tier),
      matrix,
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
async function matmulError(check: Check, form: 'nt' | 'nn' | 'tn', { m, n, k, rank }: Product): Promise<number> {
  // The last row is not live.
  const live = form === 'tn' ? m : m - 1;
  const { operand } = check.ctx;
  const x = eighths(m * k, 1);
  const w = eighths(n * k, 2);
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
    w: check.tensor('w', operand, form === 'nt' ? [n, k] : [k, n], w),
    c,
    n,
    k,
    lora: rank > 0 ? lora : undefined,
    count: 'batch.rows',
  });
  await check.run(form === 'tn' ? k : live);
  const expected = new Float64Array(live * n);
  for (let row = 0; row < live; row++) {
    for (let column = 0; column < n; column++) {
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

/** Likewise of attention over one chain of tokens, forward and backward. */
async function attentionErrors(check: Check, rows: number, dim: number): Promise<Record<string, number>> {
  const { operand } = check.ctx;
  const block = attentionBlock(check.ctx, dim);
  const shape = { heads: 1, kvHeads: 1, headDim: dim, window: null };
  const list = (values: number[]) => check.tensor('list', 'u32', [values.length], values);
  const blocks = Math.ceil(rows / block);
  const pairs = Array.from({ length: blocks }, (_, q) => Array.from({ length: q + 1 }, (_, k) => [q, k])).flat();
  const lists = (of: 0 | 1) => {
    const entries = pairs.slice().sort((a, b) => a[of] - b[of] || a[1 - of] - b[1 - of]);
    const starts = Array.from({ length: blocks + 1 }, (_, i) => entries.filter((pair) => pair[of] < i).length);
    return [list(starts), list(entries.map((pair) => (pair[1 - of] << 1) | 1))];
  };
  const [keyStart, keyBlocks] = lists(0);
  const [queryStart, queryBlocks] = lists(1);
  const chain = Array.from({ length: rows }, (_, i) => i);
  const tree = {
    block,
    positions: list(chain),
    subtreeEnd: list(chain.map(() => rows)),
    keyStart,
    keyBlocks,
    queryStart,
    queryBlocks,
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

/** Multiples of 1/8 from −7/8 to 7/8. */
function eighths(count: number, seed: number): Float64Array {
  let state = seed;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return ((state >>> 16) % 15) / 8 - 7 / 8;
  });
}

/** The f16 bits of a multiple of 1/8 below 1. */
function eighthToHalf(value: number): number {
  if (value === 0) return 0;
  const size = Math.abs(value);
  const exponent = Math.floor(Math.log2(size));
  return (value < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | Math.round((size / 2 ** exponent - 1) * 1024);
}

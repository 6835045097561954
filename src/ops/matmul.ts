import { bytesOf, type DType, Tensor } from '../gpu/tensor.js';
import type { OpContext, RowCount } from './context.js';
import { dequantize, type Matrix, matrixBytes, type PackedMatrix, packedTensors } from './dequantize.js';
import {
  defaultTensorTile,
  directTile,
  fewRows,
  type MatmulForm,
  type MatmulProblem,
  rowsTile,
  sharedTile,
  type Tile,
  tensorTile,
} from './matmul-tile.js';
import { sumSplits } from './sum-splits.js';

export interface MatmulArgs {
  /** Shown by the profile. */
  readonly label: string;
  /**
   * 'nt': c = x·wᵀ with w [n, k] (forward); 'nn': c = x·w with w [k, n] (the gradient of x); 'tn', 'tt': likewise with
   * x [k, m], on matrix units alone (gradients of weights, k being the rows of a batch).
   */
  readonly form: MatmulForm;
  readonly x: Tensor;
  /** Of x's type, or packed. */
  readonly w: Matrix;
  /** [m, n]; with splits [splits, m, n]. */
  readonly c: Tensor;
  readonly n: number;
  readonly k: number;
  /**
   * The adapter's share, folded in as extra steps of k: columns [column, column + rank) of u [rows, …] times v
   * ([n, rank] in 'nt', [rank, n] in 'nn').
   */
  readonly lora?: { u: Tensor; v: Tensor; rank: number; column?: number };
  readonly bias?: Tensor;
  /** f32, of c's shape. */
  readonly residual?: Tensor;
  readonly accumulate?: boolean;
  readonly alpha?: number;
  /** How many rows of x are live; 'tt' takes all. */
  readonly count: RowCount;
  /** Rows this dispatch may cover; rows of c unless given. */
  readonly m?: number;
  /** Live rows count from here; row 0 of the dispatch is row xRow of x and cRow of c. */
  readonly firstRow?: number;
  readonly xRow?: number;
  readonly cRow?: number;
  /**
   * Column of a wider x or c, its stride x's or c's own, that is column 0; multiples of 8. Bias, residual and, in 'nt',
   * v are as wide as that c.
   */
  readonly xColumn?: number;
  readonly cColumn?: number;
  /** In 'tn': likewise of w, whose stride is its own. */
  readonly wColumn?: number;
  /** On matrix units: workgroups share the sum over k; c[z] receives the z-th part. */
  readonly splits?: number;
}

/**
 * c[m, n] = alpha·(Σ x·w + Σ u·v) + bias[n] + residual[m, n]; accumulates in f32. n, rank, and k or m where they lie
 * along a row, are multiples of 4. A packed w is unpacked as it is read where few rows share it, else before, as a whole or
 * in as few parts as the device can bind.
 */
export function matmul(ctx: OpContext, args: MatmulArgs): void {
  const { form, x, w, c, n, k, lora } = args;
  const m = args.m ?? c.shape[c.shape.length - 2];
  const rows = ctx.tileRows ?? m;
  const dtype = x.dtype as 'f16' | 'f32';
  const xStride = args.xColumn === undefined ? k : x.shape[1];
  const rank = lora?.rank ?? 0;
  const tile = chooseTile(ctx, args.label, { form, dtype, m: rows, n, k, rank, xStride, packed: packingOf(w) });
  if (!(w instanceof Tensor) && !tile.packed) {
    unpackedMatmul(ctx, args, w);
    return;
  }
  const parts = args.splits === undefined ? partsOf(args, tile, rows) : 1;
  if (parts === 1) {
    record(ctx, { ...args, m }, tile);
    return;
  }
  const sums = ctx.recorder.tensor('matmul_sums', 'f32', [parts, m, n]);
  record(ctx, { ...args, m, c: sums, cRow: 0, cColumn: undefined, splits: parts, accumulate: false }, tile);
  const { accumulate, count, firstRow, cRow: yRow, cColumn: yColumn } = args;
  sumSplits(ctx, { label: `${args.label}.sum`, sums, y: c, accumulate, count, firstRow, yRow, yColumn });
}

/** A part of w's rows is a part of c's columns in 'nt', and of the sum in 'nn', where c is rounded once a part. */
function unpackedMatmul(ctx: OpContext, args: MatmulArgs, w: PackedMatrix): void {
  const { label, form, x } = args;
  const { maxBinding = Number.POSITIVE_INFINITY } = ctx;
  const most = Math.floor(maxBinding / (w.k * bytesOf[x.dtype]) / 8) * 8;
  if (most === 0) throw new Error(`matmul ${label}: 8 rows of ${w.k} numbers are more than the device binds at once`);
  const step = Math.ceil(w.n / Math.ceil(w.n / most) / 8) * 8;
  // What was measured of the packed matrix was measured with this unpacking.
  const tuned: OpContext['tuned'] = (problem) =>
    ctx.tuned?.({ ...problem, packed: packingOf(w) }) ?? ctx.tuned?.(problem);
  const plainly = { ...ctx, tuned };
  for (let first = 0; first < w.n; first += step) {
    const count = Math.min(step, w.n - first);
    const plain = ctx.recorder.tensor('dequantized', x.dtype, [count, w.k]);
    dequantize(ctx, w, plain, first);
    if (count === w.n) matmul(plainly, { ...args, w: plain });
    else if (form === 'nt') matmul(plainly, { ...args, w: plain, n: count, cColumn: (args.cColumn ?? 0) + first });
    else {
      const once = first === 0 ? {} : { lora: undefined, bias: undefined, residual: undefined, accumulate: true };
      matmul(plainly, { ...args, ...once, w: plain, k: count, xColumn: (args.xColumn ?? 0) + first });
    }
  }
}

function packingOf(w: Matrix): MatmulProblem['packed'] {
  return w instanceof Tensor ? null : { format: w.format, ordered: w.columnGroup === null };
}

function record(ctx: OpContext, args: MatmulArgs & { readonly m: number }, tile: Tile): void {
  const { x, w, c, m, n, k, lora, bias, residual, splits = 1 } = args;
  const rank = lora?.rank ?? 0;
  if (lora && args.cColumn && args.form !== 'nt') throw new Error(`matmul ${args.label}: part of an adapter's columns`);
  const packed = w instanceof Tensor ? null : w;
  if (args.wColumn !== undefined && (args.form !== 'tn' || packed))
    throw new Error(`matmul ${args.label}: columns of w are for form 'tn'`);
  const tensors: Record<string, Tensor> = { x, c };
  Object.assign(tensors, w instanceof Tensor ? { w } : packedTensors(w));
  if (lora) Object.assign(tensors, { u: lora.u, v: lora.v });
  if (bias) tensors.bias = bias;
  if (residual) tensors.residual = residual;
  ctx.recorder.dispatch({
    kernel: tile.kernel,
    pass: 'forward',
    defines: {
      XT: 0,
      TURN: 0,
      ...tile.defines,
      WT: Number(args.form[1] === 't'),
      FORMAT: packed?.format ?? 'plain',
      COLUMNS: Number(Boolean(packed?.columnGroup)),
      X: unitOf(tile, x.dtype),
      W: unitOf(tile, x.dtype),
      C: c.dtype,
      LORA: Number(lora !== undefined),
      BIAS: Number(bias !== undefined),
      RESIDUAL: Number(residual !== undefined),
      ACCUMULATE: Number(args.accumulate ?? false),
      SPLIT: Number(splits > 1),
      COUNT: args.count,
    },
    label: args.label,
    tensors,
    params: {
      m,
      n,
      k,
      r: rank,
      firstRow: args.firstRow ?? 0,
      xRow: args.xRow ?? 0,
      cRow: args.cRow ?? 0,
      cStride: args.cColumn === undefined ? n : c.shape[1],
      cColumn: args.cColumn ?? 0,
      xStride: args.xColumn === undefined ? k : x.shape[1],
      xColumn: args.xColumn ?? 0,
      alpha: args.alpha ?? 1,
      uStride: lora?.u.shape[1] ?? 0,
      uColumn: lora?.column ?? 0,
      wStride: args.wColumn === undefined ? n : (w as Tensor).shape[1],
      wColumn: args.wColumn ?? 0,
      split: splitOf(k, splits),
      group: packed?.group ?? 0,
      groups: packed ? packed.k / packed.group : 0,
    },
    workgroups: [Math.ceil(n / tile.columns), Math.ceil(m / tile.rows), splits],
    flops: 2 * m * n * (k + rank),
    bytes: m * k * bytesOf[x.dtype] + matrixBytes(w) + splits * m * n * bytesOf[c.dtype],
  });
}

/** Numbers of k in each of so many parts; the last may have fewer. */
function splitOf(k: number, splits: number): number {
  return Math.ceil(k / splits / 64) * 64;
}

/** Workgroups that keep a GPU busy, and the least of k that is worth one. */
const [enoughWorkgroups, leastOfK] = [256, 256];

/**
 * In how many parts a long sum with few tiles of results is best computed: the products with the adapter's narrow
 * matrices, and all of decoding. 1 where the kernel or the call cannot split, or where the parts would be more to write
 * and read than the operands.
 */
function partsOf(args: MatmulArgs, tile: Tile, rows: number): number {
  const { cColumn, n, k, form } = args;
  const inside = cColumn !== undefined && (args.lora || args.bias || args.residual);
  const apart = !inside && !(args.residual && args.cRow);
  if (tile.kernel !== 'matmul-tensor' || form[0] === 't' || tile.defines.STAGES === 0 || !apart) return 1;
  const tiles = Math.ceil(rows / tile.rows) * Math.ceil(n / tile.columns);
  const worth = ((rows + n) * k) / (4 * rows * n); // halves of operands against two times a float of each part
  const parts = Math.floor(Math.min(enoughWorkgroups / tiles, k / leastOfK, worth));
  return parts > 1 ? Math.ceil(k / splitOf(k, parts)) : 1;
}

/** What the kernel reads x and w as, by four: kernels with units of 16 bytes unpack halves themselves. */
function unitOf(tile: Tile, dtype: DType): string {
  if (tile.kernel === 'matmul-tensor') return 'u32';
  return tile.kernel === 'matmul-rows' && dtype === 'f16' ? 'u32' : dtype;
}

function chooseTile(ctx: OpContext, label: string, problem: MatmulProblem): Tile {
  const { form, m, n, k, rank } = problem;
  const tuned = ctx.tuned?.(problem);
  const few = ctx.subgroups && !ctx.cpu ? rowsTile(problem) : null;
  if (few && (tuned ? tuned === 'rows' : m <= fewRows)) return few;
  if (ctx.matrix) {
    const tile =
      (tuned && typeof tuned === 'object' && tensorTile(ctx.matrix, problem, tuned)) ||
      (tuned !== 'registers' && tensorTile(ctx.matrix, problem, defaultTensorTile(ctx.matrix, ctx.cpu, problem)));
    if (tile) return tile;
  }
  if (form[0] === 't' || n % 4 || k % 4 || rank % 4)
    throw new Error(
      `matmul ${label} of ${m}x${n}x${k} (m, n, k), form '${form}', rank ${rank}: no kernel takes this shape on this device`,
    );
  return ctx.cpu ? directTile(m, n) : sharedTile(m, n);
}

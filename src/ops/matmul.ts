import type { MatrixUnits } from '../gpu/device.js';
import type { Tensor } from '../gpu/tensor.js';
import type { OpContext, RowCount } from './context.js';

export interface MatmulArgs {
  /** Shown by the profile. */
  readonly label: string;
  /** 'nt': c = x·wᵀ with w [n, k] (forward); 'nn': c = x·w with w [k, n] (the gradient of x). */
  readonly form: 'nt' | 'nn';
  readonly x: Tensor;
  readonly w: Tensor;
  readonly c: Tensor;
  readonly n: number;
  readonly k: number;
  /** The adapter's share, folded in as extra steps of k: u [rows, rank] times v ([n, rank] in 'nt', [rank, n] in 'nn'). */
  readonly lora?: { u: Tensor; v: Tensor; rank: number };
  readonly bias?: Tensor;
  /** f32, of c's shape. */
  readonly residual?: Tensor;
  readonly accumulate?: boolean;
  readonly alpha?: number;
  readonly count: RowCount;
  /** Rows this dispatch may cover; rows of c unless given. */
  readonly m?: number;
  /** Live rows count from here; row 0 of the dispatch is row xRow of x and cRow of c. */
  readonly firstRow?: number;
  readonly xRow?: number;
  readonly cRow?: number;
}

/** c[m, n] = alpha·(Σ x·w + Σ u·v) + bias[n] + residual[m, n]; accumulates in f32. k, n and rank are multiples of 4. */
export function matmul(ctx: OpContext, args: MatmulArgs): void {
  const { form, x, w, c, n, k, lora, bias, residual } = args;
  const m = args.m ?? c.shape[0];
  const rank = lora?.rank ?? 0;
  if (n % 4 || k % 4 || rank % 4)
    throw new Error(`matmul ${args.label}: n ${n}, k ${k} and rank ${rank} must be multiples of 4`);
  const fitsMatrices = x.dtype === 'f16' && w.dtype === 'f16' && n % 8 === 0 && k % 8 === 0 && rank % 8 === 0;
  const tile =
    ctx.matrix && fitsMatrices ? tensorTile(ctx.matrix, m, n) : ctx.cpu ? directTile(m, n) : sharedTile(m, n);
  const tensors: Record<string, Tensor> = { x, w, c };
  if (lora) Object.assign(tensors, { u: lora.u, v: lora.v });
  if (bias) tensors.bias = bias;
  if (residual) tensors.residual = residual;
  ctx.recorder.dispatch({
    kernel: tile.kernel,
    pass: 'forward',
    defines: {
      ...tile.defines,
      FORM: form,
      X: tile.packed ? 'u32' : x.dtype,
      W: tile.packed ? 'u32' : w.dtype,
      C: c.dtype,
      LORA: Number(lora !== undefined),
      BIAS: Number(bias !== undefined),
      RESIDUAL: Number(residual !== undefined),
      ACCUMULATE: Number(args.accumulate ?? false),
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
      alpha: args.alpha ?? 1,
    },
    workgroups: [Math.ceil(n / tile.columns), Math.ceil(m / tile.rows)],
    flops: 2 * m * n * (k + rank),
    bytes:
      m * k * (x.dtype === 'f16' ? 2 : 4) + n * k * (w.dtype === 'f16' ? 2 : 4) + m * n * (c.dtype === 'f16' ? 2 : 4),
  });
}

interface Tile {
  readonly kernel: string;
  readonly defines: Record<string, number>;
  readonly rows: number;
  readonly columns: number;
  /** Operands are bound as vec4<u32>: 8 halves each. */
  readonly packed?: boolean;
}

/** Rows × columns of a workgroup without shared memory; bench/LOG.md has the sweep. */
function directTile(m: number, n: number): Tile {
  const TM = m >= 16 ? 16 : m >= 4 ? 8 : 2;
  const WG = n >= 128 ? 32 : 8;
  return { kernel: 'matmul-direct', defines: { TM, TN: 1, WG }, rows: TM, columns: WG * 4 };
}

function sharedTile(m: number, n: number): Tile {
  const BM = m <= 16 ? 16 : m <= 32 ? 32 : 64;
  const BN = n >= 1024 && m > 64 ? 128 : 64;
  return { kernel: 'matmul', defines: { BM, BN }, rows: BM, columns: BN };
}

/** Matrix units: 2 × 2 subgroups, each of up to 4 × 4 matrices and 64 × 64 results. */
function tensorTile(matrix: MatrixUnits, m: number, n: number): Tile {
  const wide = matrix.m >= 16 ? 4 : 2;
  const GM = m > matrix.m ? 2 : 1;
  const GN = 2;
  const TM = Math.max(1, Math.min(wide, Math.ceil(m / (GM * matrix.m))));
  const TN = Math.max(1, Math.min((wide * 16) / Math.max(16, matrix.n), Math.ceil(n / (GN * matrix.n))));
  const BM = GM * TM * matrix.m;
  const BN = GN * TN * matrix.n;
  const defines = {
    GM,
    GN,
    TM,
    TN,
    BM,
    BN,
    BK: 2 * matrix.k,
    PAD: 1,
    MM: matrix.m,
    MN: matrix.n,
    MK: matrix.k,
    SG: matrix.subgroup,
    PIN: Number(matrix.pin),
  };
  return { kernel: 'matmul-tensor', defines, rows: BM, columns: BN, packed: true };
}

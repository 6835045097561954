import type { GpuFamily, MatrixUnits } from '../gpu/device.js';
import type { Defines } from '../gpu/shader.js';
import type { PackedLayout } from './dequantize.js';

/** How a product lies in memory: n, t for x [m, k] or [k, m], then n, t for w [k, n] or [n, k]. */
export type MatmulForm = 'nn' | 'nt' | 'tn' | 'tt';

/** What decides about a tile. m is the number of rows that a dispatch may cover, k the sum's length. */
export interface MatmulProblem {
  readonly form: MatmulForm;
  readonly dtype: 'f16' | 'f32';
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly rank: number;
  /** Numbers from one row of x to the next, where that is wider than the sum. */
  readonly xStride?: number;
  /** How w is packed; null where it is not. */
  readonly packed: Pick<PackedLayout, 'format' | 'ordered'> | null;
}

/** A way to compute a product: kernel, its defines, and the rows × columns of a workgroup. */
export interface Tile {
  readonly kernel: string;
  readonly defines: Defines;
  readonly rows: number;
  readonly columns: number;
  /** Reads the problem's packed w as it is; else w is unpacked before. */
  readonly packed: boolean;
}

/** Settings of kernels/matmul-tensor.wgsl; what they mean stands there. */
export interface TensorTile {
  /** Subgroups down and across. */
  readonly GM: number;
  readonly GN: number;
  /** Matrices of a subgroup down and across. */
  readonly TM: number;
  readonly TN: number;
  readonly BK: number;
  readonly PAD: number;
  readonly STAGES: 0 | 1 | 2;
  readonly GROUP: number;
  /** A packed w: 1 unpacked as it is staged, by each row of tiles anew; 0 before. */
  readonly UNPACK: 0 | 1;
  /** w [k, n] of halves: 1 staged as its transpose. */
  readonly TURN: 0 | 1;
}

/** How the tensor tier computes a product: matrix units with these settings, the register form, or that of few rows. */
export type MatmulSettings = TensorTile | 'registers' | 'rows';

/** Rows × columns of a workgroup without shared memory; bench/LOG.md has the sweep. */
export function directTile(m: number, n: number): Tile {
  const TM = m >= 16 ? 16 : m >= 4 ? 8 : 2;
  const WG = n >= 128 ? 32 : 8;
  return { kernel: 'matmul-direct', defines: { TM, TN: 1, WG }, rows: TM, columns: WG * 4, packed: false };
}

/** Most rows that the form for decoding takes, and to which it is taken where nothing was measured. */
const mostRows = 16;
export const fewRows = 8;
/** Four to each of the workgroups that a dispatch may have in a dimension. */
const mostColumns = 4 * 65_535;

/** x·wᵀ of a few rows, each of w's read once; null where the problem is another. */
export function rowsTile({ form, dtype, m, n, k, rank, xStride = k, packed }: MatmulProblem): Tile | null {
  const WIDE = dtype === 'f16' ? 8 : 4;
  if (form !== 'nt' || m > mostRows || n > mostColumns || n % 4 || k % WIDE || rank % WIDE || xStride % WIDE)
    return null;
  const ROWS = 2 ** Math.ceil(Math.log2(m));
  const unpacks = packed !== null && dtype === 'f16';
  return { kernel: 'matmul-rows', defines: { ROWS, WIDE, WG: 64 }, rows: mostRows, columns: 4, packed: unpacks };
}

/** Registers and workgroup memory, without matrix units. */
export function sharedTile(m: number, n: number): Tile {
  const BM = m <= 16 ? 16 : m <= 32 ? 32 : 64;
  const BN = n >= 1024 && m > 64 ? 128 : 64;
  return { kernel: 'matmul', defines: { BM, BN }, rows: BM, columns: BN, packed: false };
}

/** Matrix units with these settings; null where they do not fit the problem or the device. */
export function tensorTile(matrix: MatrixUnits, problem: MatmulProblem, settings: TensorTile): Tile | null {
  const { form, dtype, m, n, k, rank, xStride = k, packed } = problem;
  const { GM, GN, TM, TN, BK, PAD, STAGES, UNPACK, TURN, GROUP } = settings;
  if (UNPACK && (!packed?.ordered || dtype === 'f32' || STAGES === 0)) return null;
  const XT = form[0] === 't';
  const WT = form[1] === 't';
  const XW = dtype === 'f16' ? 8 : 4;
  const E = matrix.operand;
  const aligned = (size: number) => size % XW === 0;
  if (!aligned(n) || !aligned(XT ? m : k) || !aligned(rank) || (XT && WT && !aligned(k))) return null;
  if (!XT && !aligned(xStride)) return null;
  if (E === 'f16' && dtype === 'f32') return null;
  if (TURN && (form !== 'nn' || E !== 'f16' || UNPACK || STAGES === 0)) return null;
  const BM = GM * TM * matrix.m;
  const BN = GN * TN * matrix.n;
  const threads = GM * GN * matrix.subgroup;
  if (BK % matrix.k || BK % XW || BM % XW || BN % XW || threads > matrix.maxInvocations) return null;
  if (STAGES === 0) {
    const whole = k % matrix.k === 0 && rank % matrix.k === 0 && m >= BM && n >= BN;
    if (XT || !whole || E !== dtype) return null;
  }
  const split = E === 'f32' && XW === 8 ? 2 : 1;
  const row = (size: number) => (size / XW) * split + PAD;
  const xRows = XT ? BK : BM;
  const wRows = WT || TURN ? BN : BK;
  const xUnits = (xRows * (XT ? BM : BK)) / XW;
  const wUnits = (BN * BK) / (TURN ? 32 : XW);
  const tile = STAGES * (xRows * row(XT ? BM : BK) + wRows * row(WT || TURN ? BK : BN));
  const levels = UNPACK && packed?.format === 'nf4' ? 64 : 0;
  const units = Math.floor((matrix.workgroupBytes - levels) / 16);
  if (tile > units) return null;
  // As many matrices at a time leave through workgroup memory as fit where the tiles were, in rows of a quad a lane at most.
  const passing = (count: number) => (GM * GN * matrix.m * count * matrix.n) / 4;
  const passable = (count: number) =>
    TN % count === 0 && passing(count) <= tile && matrix.subgroup % ((count * matrix.n) / 4) === 0;
  let EJ = TN;
  while (EJ > 1 && !passable(EJ)) EJ--;
  if (passing(EJ) > units) return null;
  const defines = {
    GM,
    GN,
    TM,
    TN,
    BK,
    PAD,
    STAGES,
    GROUP,
    TURN,
    BM,
    BN,
    EJ,
    E,
    XT: Number(XT),
    XW,
    XE: Math.ceil(xUnits / threads),
    WE: Math.ceil(wUnits / threads),
    XFULL: Number(xUnits % threads === 0),
    WFULL: Number(wUnits % threads === 0),
    KTAIL: Number(XT || k % BK !== 0),
    RTAIL: Number(rank % BK !== 0),
    MM: matrix.m,
    MN: matrix.n,
    MK: matrix.k,
    SG: matrix.subgroup,
    PIN: Number(matrix.pin),
  };
  return { kernel: 'matmul-tensor', defines, rows: BM, columns: BN, packed: UNPACK === 1 };
}

/**
 * Where nothing was tuned, by the GPU's maker: subgroups, matrices of each, and numbers of k a step. NVIDIA's and Apple's
 * are the common tiles of such kernels; AMD's and Intel's those that llama.cpp's Vulkan backend was tuned to
 * (ggml-org/llama.cpp pull requests 18749 and 18178). Not measured with this kernel; Intel's registers hold no more
 * (bench/LOG.md, 18).
 */
const defaults: Readonly<Record<GpuFamily, Pick<TensorTile, 'GM' | 'GN' | 'TM' | 'TN' | 'BK' | 'TURN'>>> = {
  nvidia: { GM: 2, GN: 2, TM: 4, TN: 4, BK: 32, TURN: 0 },
  amd: { GM: 2, GN: 2, TM: 4, TN: 4, BK: 16, TURN: 0 },
  intel: { GM: 8, GN: 4, TM: 2, TN: 2, BK: 32, TURN: 1 },
  apple: { GM: 2, GN: 2, TM: 4, TN: 4, BK: 16, TURN: 0 },
  other: { GM: 2, GN: 2, TM: 2, TN: 2, BK: 16, TURN: 0 },
};

/** Settings where nothing was tuned. CPU drivers: few big matrices straight from the tensors, no barriers. */
export function defaultTensorTile(
  matrix: MatrixUnits,
  cpu: boolean,
  { form, dtype, m, n, k, rank, packed }: MatmulProblem,
): TensorTile {
  const down = Math.ceil(m / matrix.m);
  const across = Math.ceil(n / matrix.n);
  if (cpu) {
    const direct =
      form[0] === 'n' && down >= 4 && across >= 2 && k % matrix.k === 0 && rank % matrix.k === 0 && m >= 32;
    // Wide ones are the fastest and take 4 s to compile, four times as long.
    const TN = m >= 128 && n >= 128 ? 8 : 2;
    if (direct) return { GM: 1, GN: 1, TM: 4, TN, BK: matrix.k, PAD: 0, STAGES: 0, GROUP: 1, UNPACK: 0, TURN: 0 };
    return {
      GM: 1,
      GN: 1,
      TM: Math.min(2, down),
      TN: Math.min(2, across),
      BK: 2 * matrix.k,
      PAD: 0,
      STAGES: 1,
      GROUP: 1,
      UNPACK: 0,
      TURN: 0,
    };
  }
  const most = defaults[matrix.family];
  const GM = 2 ** Math.floor(Math.log2(Math.min(most.GM, down)));
  const GN = 2 ** Math.floor(Math.log2(Math.min(most.GN, across)));
  const TM = Math.min(most.TM, Math.ceil(down / GM));
  const TN = Math.min(most.TN, Math.ceil(across / GN));
  // Unpacked once in all where a row of tiles or two would do it anew: the codes are a quarter of the halves' bytes.
  const UNPACK = packed?.ordered && dtype === 'f16' && m <= 2 * GM * TM * matrix.m ? 1 : 0;
  const TURN = most.TURN && form === 'nn' && dtype === 'f16' && matrix.operand === 'f16' && !UNPACK ? 1 : 0;
  return { GM, GN, TM, TN, BK: most.BK, PAD: 1, STAGES: 1, GROUP: m >= 1024 ? 8 : 1, UNPACK, TURN };
}

import type { MatrixUnits } from '../gpu/device.js';
import type { Defines } from '../gpu/shader.js';
import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext } from './context.js';

export interface AttentionShape {
  readonly heads: number;
  readonly kvHeads: number;
  /** A multiple of 4, at most 256. */
  readonly headDim: number;
  /** Positions a query looks back, itself included; null: all. */
  readonly window: number | null;
}

/** The trie as attention sees it (src/batch): who sees whom, and which blocks are worth looking at. */
export interface AttentionTree {
  /** Rows in a block of the lists: `attentionBlock` of the context that attention is recorded in. */
  readonly block: number;
  readonly positions: Tensor;
  readonly subtreeEnd: Tensor;
  /** Lists of blocks, as `BlockLists` of src/batch has them: for each query block its key blocks, … */
  readonly keys: Tensor;
  /** … and for each key block its query blocks. */
  readonly queries: Tensor;
}

/** o = softmax(q·kᵀ/√headDim)·v over the trie's visible keys. q, o: [rows, heads·headDim]; k, v: [rows, kvHeads·headDim]; lse f32 [rows, heads]. */
export function attention(
  ctx: OpContext,
  shape: AttentionShape,
  tree: AttentionTree,
  args: { q: Tensor; k: Tensor; v: Tensor; o: Tensor; lse: Tensor },
): void {
  const rows = args.q.shape[0];
  const form = chooseForm(ctx, shape, tree);
  ctx.recorder.dispatch({
    ...common('forward', form, shape, args.q, 'attention'),
    tensors: { ...args, ...seen(tree, tree.keys) },
    workgroups: [Math.ceil(rows / form.block), shape.heads],
    flops: 4 * rows * rows * shape.heads * shape.headDim * 0.5,
    bytes: args.q.bytes * 2 + args.k.bytes * 2,
  });
}

/** Gradients of q, k and v from that of o, after FlashAttention-2 (Dao 2023): no atomics, probabilities recomputed. */
export function attentionBackward(
  ctx: OpContext,
  shape: AttentionShape,
  tree: AttentionTree,
  args: {
    q: Tensor;
    k: Tensor;
    v: Tensor;
    o: Tensor;
    lse: Tensor;
    dout: Tensor;
    dq: Tensor;
    dk: Tensor;
    dv: Tensor;
  },
): void {
  const { q, k, v, o, lse, dout, dq, dk, dv } = args;
  const rows = q.shape[0];
  const form = chooseForm(ctx, shape, tree);
  const blocks = Math.ceil(rows / form.block);
  const stats = ctx.recorder.tensor('attention.stats', 'f32', [rows, shape.heads, 2]);
  ctx.recorder.dispatch({
    ...common('prepare', registers(shape), shape, q, 'attention.backward'),
    tensors: { o, dout, lse, stats },
    workgroups: grid(Math.ceil((rows * shape.heads) / 64)),
    flops: 2 * q.elements,
    bytes: 2 * q.bytes,
  });
  const inputs = { q, k, v, dout, stats };
  const half = 0.5 * rows * rows * shape.heads * shape.headDim;
  ctx.recorder.dispatch({
    ...common('keys', form, shape, q, 'attention.backward'),
    tensors: { ...inputs, ...seen(tree, tree.queries), dk, dv },
    workgroups: [blocks, shape.kvHeads],
    flops: 8 * half,
    bytes: 2 * q.bytes + 4 * k.bytes,
  });
  ctx.recorder.dispatch({
    ...common('queries', form, shape, q, 'attention.backward'),
    tensors: { ...inputs, ...seen(tree, tree.keys), dq },
    workgroups: [blocks, shape.heads],
    flops: 6 * half,
    bytes: 3 * q.bytes + 2 * k.bytes,
  });
}

function common(pass: string, form: Form, shape: AttentionShape, q: Tensor, label: string) {
  return {
    kernel: form.kernel,
    pass,
    label,
    defines: { TYPE: q.dtype, INPUT: q.dtype, prepare: 0, ...form.defines(pass) },
    params: {
      heads: shape.heads,
      kvHeads: shape.kvHeads,
      headDim: shape.headDim,
      window: shape.window ?? 0,
      scale: 1 / Math.sqrt(shape.headDim),
    },
  };
}

/** A way to compute attention. */
interface Form {
  readonly kernel: string;
  /** Rows of a workgroup, and of a block of the lists. */
  readonly block: number;
  readonly defines: (pass: string) => Defines;
}

/** Rows in a block of the lists that attention will want for heads of this size. */
export function attentionBlock(ctx: Omit<OpContext, 'recorder'>, headDim: number): number {
  return formOf(ctx, headDim).block;
}

function chooseForm(ctx: OpContext, { headDim }: AttentionShape, tree: AttentionTree): Form {
  const form = formOf(ctx, headDim);
  if (form.block !== tree.block)
    throw new Error(`attention: ${form.kernel} walks blocks of ${form.block} rows, the lists have ${tree.block}`);
  return form;
}

function formOf(ctx: Omit<OpContext, 'recorder'>, headDim: number): Form {
  if (headDim % 4 || headDim > 256) throw new Error(`attention: head_dim ${headDim} is not a multiple of 4 up to 256`);
  const tensor = ctx.matrix && !ctx.cpu && ctx.operand === 'f16' ? tensorForm(ctx, ctx.matrix, headDim) : null;
  if (tensor) return tensor;
  if (ctx.cpu && headDim <= 64) {
    return { kernel: 'attention-direct', block: 16, defines: () => ({ QUADS: headDim / 4, ROWS: 2 }) };
  }
  return registers({ headDim });
}

function registers({ headDim }: Pick<AttentionShape, 'headDim'>): Form {
  return { kernel: 'attention', block: 16, defines: () => ({ PARTS: Math.ceil(headDim / 16) }) };
}

/** Settings of kernels/attention-tensor.wgsl: a block's rows, walked rows at a time, and whether own rows stay in matrices. */
export interface AttentionSettings {
  readonly BLOCK: number;
  readonly ROWS: number;
  readonly HELD: 0 | 1;
}

/** Where nothing was tuned. Own rows, and as many walked ones in two halves, take 16 KiB at head_dim 128. */
function defaults({ family, operand }: MatrixUnits): AttentionSettings[] {
  if (operand === 'f32') return [{ BLOCK: 32, ROWS: 16, HELD: 1 }];
  const held: AttentionSettings = { BLOCK: 64, ROWS: 32, HELD: 1 };
  // A lane of Intel's has 128 registers, half of the others': own rows in them would displace sums.
  return family === 'intel' ? [{ BLOCK: 32, ROWS: 32, HELD: 0 }, held] : [held];
}

/** Matrix units, after their shape; null where the heads do not divide into matrices or the device is too small. */
function tensorForm(
  { tunedAttention }: Omit<OpContext, 'recorder'>,
  matrix: MatrixUnits,
  headDim: number,
): Form | null {
  const tuned = tunedAttention?.(headDim);
  return (tuned && tensorFormOf(matrix, headDim, tuned)) ?? defaultForm(matrix, headDim)?.form ?? null;
}

function defaultForm(matrix: MatrixUnits, headDim: number) {
  for (const settings of defaults(matrix)) {
    const form = tensorFormOf(matrix, headDim, settings);
    if (form) return { settings, form };
  }
  return null;
}

/** What matrix units do attention with where nothing was tuned; null where they do not. */
export function defaultAttention(matrix: MatrixUnits, headDim: number): AttentionSettings | null {
  return defaultForm(matrix, headDim)?.settings ?? null;
}

/** Whether these units can do attention so. */
export function fitsAttention(matrix: MatrixUnits, headDim: number, settings: AttentionSettings): boolean {
  return tensorFormOf(matrix, headDim, settings) !== null;
}

function tensorFormOf(matrix: MatrixUnits, headDim: number, { BLOCK, ROWS, HELD }: AttentionSettings): Form | null {
  const { operand: E, m: MM, n: MN, k: MK, subgroup: SG, pin, workgroupBytes, maxInvocations } = matrix;
  const wide = E === 'f16' ? 8 : 4;
  const PAD = 1;
  const STRIPS = BLOCK / MM;
  const units = (BLOCK * ROWS) / wide;
  const fits = (across: number) =>
    STRIPS * across * SG <= maxInvocations &&
    units % (STRIPS * across * SG) === 0 &&
    headDim % (across * MN) === 0 &&
    ROWS % (across * MN) === 0;
  if (headDim > 128 || headDim % 8 || headDim % MK) return null;
  if (BLOCK % ROWS || ROWS % MK || BLOCK % MM || !fits(1)) return null;
  const staged = (HELD ? Math.max(BLOCK, 2 * ROWS) : 2 * ROWS + 2 * BLOCK) * (headDim / wide + PAD);
  const weights = 2 * BLOCK * (ROWS / wide + PAD);
  const statistics = Math.max(8 * ROWS, 4 * BLOCK + 16);
  if (16 * (staged + Math.max(weights, BLOCK * (ROWS / 4 + PAD))) + statistics > workgroupBytes) return null;
  const defines = (pass: string) => {
    // Subgroups share the columns where the sums, of which keys have two, would fill a lane's registers.
    const sums = ((pass === 'keys' ? 2 : 1) * headDim * MM) / SG;
    let ACROSS = 1;
    while (sums / ACROSS > (HELD ? 64 : 32) && fits(2 * ACROSS)) ACROSS *= 2;
    const subgroups = STRIPS * ACROSS;
    let EJ = headDim / MN / ACROSS;
    while (EJ > 1 && ((headDim / MN / ACROSS) % EJ || (subgroups * MM * EJ * MN) / 4 > staged)) EJ--;
    // As many sums as fit where a tile of scores lies.
    let SCALED = headDim / MN / ACROSS;
    while ((headDim / MN / ACROSS) % SCALED || ACROSS * MN * SCALED > ROWS + 4 * PAD) SCALED--;
    return {
      INPUT: 'u32',
      D: headDim,
      E,
      MM,
      MN,
      MK,
      SG,
      PIN: Number(pin),
      BLOCK,
      ROWS,
      HELD,
      PAD,
      STRIPS,
      ACROSS,
      EJ,
      SCALED,
      UNITS: units / (subgroups * SG),
      QUADS: wide / 4,
    };
  };
  return { kernel: 'attention-tensor', block: BLOCK, defines };
}

function seen({ positions, subtreeEnd }: AttentionTree, list: Tensor) {
  return { positions, subtreeEnd, list };
}

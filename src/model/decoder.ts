import type { Tensor } from '../gpu/tensor.js';
import { type AttentionShape, type AttentionTree, attention, attentionBackward } from '../ops/attention.js';
import { embedding } from '../ops/embedding.js';
import { rmsNorm, rmsNormBackward } from '../ops/rms-norm.js';
import { rope, ropeBackward } from '../ops/rope.js';
import { swiglu, swigluBackward } from '../ops/swiglu.js';
import { adapt, type DecoderContext, type LinearTape, linear, linearBackward, product } from './linear.js';

/**
 * silu(gate)·up is stored times this in f16 tiers, because it is the one activation known to pass 65,504 (to 1,048,064
 * this way). A power of two loses nothing but subnormals under 1e-6.
 */
function mlpScale(operand: 'f16' | 'f32'): number {
  return operand === 'f16' ? 1 / 16 : 1;
}

/** Tensors that say where the rows of a batch stand. */
export interface RowTensors {
  readonly tokens: Tensor;
  readonly positions: Tensor;
  /** [positions, headDim / 2, 2] */
  readonly ropeTable: Tensor;
}

/** How a layer's queries meet keys: over the trie of the batch, or over a KV cache. */
export type Attend = (layer: number, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor) => void;

/** What one layer leaves for its backward pass: not what follows from these without a matmul. */
interface LayerTape {
  /** Residual stream between the layer's halves, f32. */
  readonly middle: Tensor;
  /** q and k before their norms, where there are such. */
  readonly rawQ: Tensor;
  readonly rawK: Tensor;
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly o: Tensor;
  readonly lse: Tensor;
  readonly gate: Tensor;
  readonly up: Tensor;
  /** In the order of the modules, down_proj apart. */
  readonly linear: readonly LinearTape[];
}

export interface DecoderTape {
  /** The residual stream after the last layer, f32 [rows, hidden], and before each. */
  readonly x: Tensor;
  readonly inputs: readonly Tensor[];
  /** Null where the backward pass computes the layer again. */
  readonly layers: readonly ((LayerTape & { readonly down: LinearTape }) | null)[];
}

export function attentionShape(d: DecoderContext, layer: number): AttentionShape {
  const { heads, kvHeads, headDim, windows } = d.config;
  return { heads, kvHeads, headDim, window: windows[layer] };
}

/** Attention over the trie of a batch; `trees` by window. */
export function attendTree(d: DecoderContext, trees: ReadonlyMap<number | null, AttentionTree>): Attend {
  return (layer, q, k, v, o, lse) =>
    attention(d.ops, attentionShape(d, layer), trees.get(d.config.windows[layer])!, { q, k, v, o, lse });
}

/** Embedding and all decoder layers: rows of tokens to the residual stream before the final norm. */
export function decoder(d: DecoderContext, rows: RowTensors, attend: Attend): DecoderTape {
  const { ops, config, capacity } = d;
  let x = ops.recorder.tensor('embedded', 'f32', [capacity, config.hiddenSize]);
  embedding(ops, { tokens: rows.tokens, table: d.weights.embedding, y: x });
  const inputs: Tensor[] = [];
  const layers: DecoderTape['layers'][number][] = [];
  for (let layer = 0; layer < config.layers; layer++) {
    const t = layerTape(d, rows, attend, layer, x);
    const h = gated(d, t);
    const [down] = adapt(d, layer, ['down_proj'], { x: () => h, inputScale: 1 / mlpScale(ops.operand) });
    inputs.push(x);
    layers.push(layer < (d.recompute ?? 0) ? null : { ...t, down });
    x = ops.recorder.tensor(`layers.${layer}.out`, 'f32', [capacity, config.hiddenSize]);
    product(d, down, { x: h, y: x, residual: t.middle });
  }
  return { x, inputs, layers };
}

/** A layer's forward pass up to gate and up. */
function layerTape(d: DecoderContext, rows: RowTensors, attend: Attend, layer: number, x: Tensor): LayerTape {
  const { ops, config, capacity } = d;
  const w = d.weights.layers[layer];
  const make = (name: string, width: number, dtype: 'f16' | 'f32' = ops.operand) =>
    ops.recorder.tensor(`layers.${layer}.${name}`, dtype, [capacity, width]);
  const dims = { q: config.heads * config.headDim, kv: config.kvHeads * config.headDim };
  const n1 = normed(d, x, w.inputNorm);
  const [rawQ, rawK, v] = [make('q', dims.q), make('k', dims.kv), make('v', dims.kv)];
  const tapes = linear(
    d,
    layer,
    [
      ['q_proj', rawQ],
      ['k_proj', rawK],
      ['v_proj', v],
    ],
    { x: n1 },
  );
  const q = headNorm(d, rawQ, w.qNorm, config.heads);
  const k = headNorm(d, rawK, w.kNorm, config.kvHeads);
  rope(ops, config, { q, k, positions: rows.positions, table: rows.ropeTable });
  const o = make('attention', dims.q);
  const lse = make('lse', config.heads, 'f32');
  attend(layer, q, k, v, o, lse);
  const middle = make('middle', config.hiddenSize, 'f32');
  tapes.push(...linear(d, layer, [['o_proj', middle]], { x: o, residual: x }));
  const n2 = normed(d, middle, w.postAttentionNorm);
  const [gate, up] = [make('gate', config.intermediateSize), make('up', config.intermediateSize)];
  tapes.push(
    ...linear(
      d,
      layer,
      [
        ['gate_proj', gate],
        ['up_proj', up],
      ],
      { x: n2 },
    ),
  );
  return { middle, rawQ, rawK, q, k, v, o, lse, gate, up, linear: tapes };
}

/** Shape of the norms of the residual stream. */
function normShape({ config }: DecoderContext) {
  return { dim: config.hiddenSize, perRow: 1, epsilon: config.rmsNormEps, count: 'batch.rows' as const };
}

function normed(d: DecoderContext, x: Tensor, w: Tensor): Tensor {
  const y = d.ops.recorder.tensor('normed', d.ops.operand, x.shape);
  rmsNorm(d.ops, normShape(d), { x, w, y });
  return y;
}

/** mlpScale · silu(gate) · up */
function gated(d: DecoderContext, { gate, up }: Pick<LayerTape, 'gate' | 'up'>): Tensor {
  const h = d.ops.recorder.tensor('h', d.ops.operand, gate.shape);
  swiglu(d.ops, { gate, up, h }, mlpScale(d.ops.operand));
  return h;
}

/** Records `make` when its tensor is first asked for. */
function once(make: () => Tensor): () => Tensor {
  let made: Tensor | null = null;
  return () => {
    made ??= make();
    return made;
  };
}

/** RMSNorm over each head (Qwen3), or x itself. */
function headNorm(d: DecoderContext, x: Tensor, w: Tensor | null, heads: number): Tensor {
  if (!w) return x;
  const y = d.ops.recorder.tensor(`${x.label}_norm`, d.ops.operand, x.shape);
  rmsNorm(d.ops, headNormShape(d, heads), { x, w, y });
  return y;
}

function headNormShape(d: DecoderContext, heads: number) {
  return { dim: d.config.headDim, perRow: heads, epsilon: d.config.rmsNormEps, count: 'batch.rows' as const };
}

/**
 * Backward through all layers down to the first. `dx` (f32) holds the gradient of the tape's `x` and is
 * used up; `dxCopy` is its copy in operand type (dx itself where that is f32).
 */
export function decoderBackward(
  d: DecoderContext,
  rows: RowTensors,
  trees: ReadonlyMap<number | null, AttentionTree>,
  tape: DecoderTape,
  gradient: { dx: Tensor; dxCopy: Tensor },
): void {
  const { ops, config, capacity } = d;
  const { recorder, operand } = ops;
  const { dx, dxCopy } = gradient;
  const norm = normShape(d);
  for (let layer = config.layers - 1; layer >= 0; layer--) {
    const w = d.weights.layers[layer];
    const x = tape.inputs[layer];
    const kept = tape.layers[layer];
    const t = kept ?? layerTape(d, rows, attendTree(d, trees), layer, x);
    const [q, k, v, o, gate, up] = t.linear;
    const h = once(() => gated(d, t));
    const down = kept?.down ?? adapt(d, layer, ['down_proj'], { x: h, inputScale: 1 / mlpScale(operand) })[0];
    const make = (name: string, width: number, dtype: 'f16' | 'f32' = operand) =>
      recorder.tensor(name, dtype, [capacity, width]);
    const dh = make('dh', config.intermediateSize);
    linearBackward(d, [[down, dxCopy]], { x: h, dx: dh });
    swigluBackward(ops, { gate: t.gate, up: t.up, dh }); // from here on they are their gradients
    const dn2 = make('dn2', config.hiddenSize, 'f32');
    const n2 = once(() => normed(d, t.middle, w.postAttentionNorm));
    linearBackward(
      d,
      [
        [gate, t.gate],
        [up, t.up],
      ],
      { x: n2, dx: dn2 },
    );
    rmsNormBackward(ops, norm, { x: t.middle, w: w.postAttentionNorm, dy: dn2, dx, dxCopy, accumulate: true });
    const dout = make('do', t.o.shape[1]);
    linearBackward(d, [[o, dxCopy]], { x: () => t.o, dx: dout });
    const [dq, dk, dv] = [make('dq', t.q.shape[1]), make('dk', t.k.shape[1]), make('dv', t.v.shape[1])];
    const tree = trees.get(config.windows[layer])!;
    attentionBackward(ops, attentionShape(d, layer), tree, {
      q: t.q,
      k: t.k,
      v: t.v,
      o: t.o,
      lse: t.lse,
      dout,
      dq,
      dk,
      dv,
    });
    ropeBackward(ops, config, { q: dq, k: dk, positions: rows.positions, table: rows.ropeTable });
    const rawDq = headNormBackward(d, t.rawQ, w.qNorm, config.heads, dq);
    const rawDk = headNormBackward(d, t.rawK, w.kNorm, config.kvHeads, dk);
    // The embedding is frozen: nothing below the first layer's adapters is trained.
    const dn1 = layer > 0 ? make('dn1', config.hiddenSize, 'f32') : null;
    const n1 = once(() => normed(d, x, w.inputNorm));
    linearBackward(
      d,
      [
        [q, rawDq],
        [k, rawDk],
        [v, dv],
      ],
      { x: n1, dx: dn1 },
    );
    if (dn1) rmsNormBackward(ops, norm, { x, w: w.inputNorm, dy: dn1, dx, dxCopy, accumulate: true });
  }
}

function headNormBackward(d: DecoderContext, x: Tensor, w: Tensor | null, heads: number, dy: Tensor): Tensor {
  if (!w) return dy;
  const dx = d.ops.recorder.tensor(`${dy.label}_norm`, d.ops.operand, x.shape);
  rmsNormBackward(d.ops, headNormShape(d, heads), { x, w, dy, dx, accumulate: false });
  return dx;
}

import type { Tensor } from '../gpu/tensor.js';
import { type AttentionShape, type AttentionTree, attention, attentionBackward } from '../ops/attention.js';
import { embedding } from '../ops/embedding.js';
import { rmsNorm, rmsNormBackward } from '../ops/rms-norm.js';
import { rope, ropeBackward } from '../ops/rope.js';
import { swiglu, swigluBackward } from '../ops/swiglu.js';
import { type DecoderContext, type LinearTape, linear, linearBackward } from './linear.js';

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

/** What one layer leaves for its backward pass. */
interface LayerTape {
  /** Residual stream before the layer and between its halves, f32. */
  readonly x: Tensor;
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
  readonly linear: readonly LinearTape[];
}

export interface DecoderTape {
  /** The residual stream after the last layer, f32 [rows, hidden]. */
  readonly x: Tensor;
  readonly layers: readonly LayerTape[];
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
  const { recorder, operand } = ops;
  const dims = { q: config.heads * config.headDim, kv: config.kvHeads * config.headDim };
  const norm = { dim: config.hiddenSize, perRow: 1, epsilon: config.rmsNormEps, count: 'batch.rows' as const };
  let x = recorder.tensor('embedded', 'f32', [capacity, config.hiddenSize]);
  embedding(ops, { tokens: rows.tokens, table: d.weights.embedding, y: x });
  const layers: LayerTape[] = [];
  for (let layer = 0; layer < config.layers; layer++) {
    const w = d.weights.layers[layer];
    const make = (name: string, width: number, dtype: 'f16' | 'f32' = operand) =>
      recorder.tensor(`layers.${layer}.${name}`, dtype, [capacity, width]);
    const n1 = make('input_layernorm', config.hiddenSize);
    rmsNorm(ops, norm, { x, w: w.inputNorm, y: n1 });
    const [rawQ, rawK, v] = [make('q', dims.q), make('k', dims.kv), make('v', dims.kv)];
    const tapes = [
      linear(d, layer, 'q_proj', { x: n1, y: rawQ }),
      linear(d, layer, 'k_proj', { x: n1, y: rawK }),
      linear(d, layer, 'v_proj', { x: n1, y: v }),
    ];
    const q = headNorm(d, rawQ, w.qNorm, config.heads);
    const k = headNorm(d, rawK, w.kNorm, config.kvHeads);
    const turn = { positions: rows.positions, table: rows.ropeTable };
    rope(ops, { heads: config.heads, headDim: config.headDim }, { x: q, ...turn });
    rope(ops, { heads: config.kvHeads, headDim: config.headDim }, { x: k, ...turn });
    const o = make('attention', dims.q);
    const lse = make('lse', config.heads, 'f32');
    attend(layer, q, k, v, o, lse);
    const middle = make('middle', config.hiddenSize, 'f32');
    tapes.push(linear(d, layer, 'o_proj', { x: o, y: middle, residual: x }));
    const n2 = make('post_attention_layernorm', config.hiddenSize);
    rmsNorm(ops, norm, { x: middle, w: w.postAttentionNorm, y: n2 });
    const [gate, up, h] = [
      make('gate', config.intermediateSize),
      make('up', config.intermediateSize),
      make('h', config.intermediateSize),
    ];
    tapes.push(linear(d, layer, 'gate_proj', { x: n2, y: gate }), linear(d, layer, 'up_proj', { x: n2, y: up }));
    const scale = mlpScale(operand);
    swiglu(ops, { gate, up, h }, scale);
    const next = make('out', config.hiddenSize, 'f32');
    tapes.push(linear(d, layer, 'down_proj', { x: h, y: next, residual: middle, inputScale: 1 / scale }));
    layers.push({ x, middle, rawQ, rawK, q, k, v, o, lse, gate, up, linear: tapes });
    x = next;
  }
  return { x, layers };
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
 * Backward through all layers down to the lowest adapted one. `dx` (f32) holds the gradient of the tape's `x` and is
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
  const norm = { dim: config.hiddenSize, perRow: 1, epsilon: config.rmsNormEps, count: 'batch.rows' as const };
  for (let layer = config.layers - 1; layer >= 0; layer--) {
    const w = d.weights.layers[layer];
    const t = tape.layers[layer];
    const [q, k, v, o, gate, up, down] = t.linear;
    const make = (name: string, width: number, dtype: 'f16' | 'f32' = operand) =>
      recorder.tensor(name, dtype, [capacity, width]);
    const dh = make('dh', config.intermediateSize);
    linearBackward(d, down, { dy: dxCopy, dx: dh });
    const [dgate, dup] = [make('dgate', config.intermediateSize), make('dup', config.intermediateSize)];
    swigluBackward(ops, { gate: t.gate, up: t.up, dh, dgate, dup });
    const dn2 = make('dn2', config.hiddenSize, 'f32');
    linearBackward(d, gate, { dy: dgate, dx: dn2 });
    linearBackward(d, up, { dy: dup, dx: dn2, accumulate: true });
    rmsNormBackward(ops, norm, { x: t.middle, w: w.postAttentionNorm, dy: dn2, dx, dxCopy, accumulate: true });
    const dout = make('do', t.o.shape[1]);
    linearBackward(d, o, { dy: dxCopy, dx: dout });
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
    const turn = { positions: rows.positions, table: rows.ropeTable };
    ropeBackward(ops, { heads: config.heads, headDim: config.headDim }, { x: dq, ...turn });
    ropeBackward(ops, { heads: config.kvHeads, headDim: config.headDim }, { x: dk, ...turn });
    const rawDq = headNormBackward(d, t.rawQ, w.qNorm, config.heads, dq);
    const rawDk = headNormBackward(d, t.rawK, w.kNorm, config.kvHeads, dk);
    // The embedding is frozen: nothing below the first layer's adapters is trained.
    const dn1 = layer > 0 ? make('dn1', config.hiddenSize, 'f32') : null;
    linearBackward(d, q, { dy: rawDq, dx: dn1 });
    linearBackward(d, k, { dy: rawDk, dx: dn1, accumulate: true });
    linearBackward(d, v, { dy: dv, dx: dn1, accumulate: true });
    if (dn1) rmsNormBackward(ops, norm, { x: t.x, w: w.inputNorm, dy: dn1, dx, dxCopy, accumulate: true });
  }
}

function headNormBackward(d: DecoderContext, x: Tensor, w: Tensor | null, heads: number, dy: Tensor): Tensor {
  if (!w) return dy;
  const dx = d.ops.recorder.tensor(`${dy.label}_norm`, d.ops.operand, x.shape);
  rmsNormBackward(d.ops, headNormShape(d, heads), { x, w, dy, dx, accumulate: false });
  return dx;
}

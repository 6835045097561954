import type { ModelConfig } from '../../models/config.js';
import type { TokenTrie } from '../../src/batch/types.js';
import { type AttentionResult, attention, attentionBackward, type Tree } from './attention.js';
import { embed } from './embedding.js';
import { linearCrossEntropy, linearCrossEntropyBackward } from './linear-cross-entropy.js';
import { type Linear, linear, linearBackward, matmulNT } from './matmul.js';
import { rmsNorm, rmsNormBackward } from './rms-norm.js';
import { type RopeTable, rope, ropeBackward, ropeTable } from './rope.js';
import { swiglu, swigluBackward } from './swiglu.js';

/** Frozen weights under Hugging Face names; `lm_head.weight` and `model.embed_tokens.weight` are both there. */
export interface ReferenceModel {
  readonly config: ModelConfig;
  readonly tensors: ReadonlyMap<string, Float64Array>;
}

/** LoRA tensors under PEFT names: `base_model.model.<module>.lora_A.weight` [r, in], `…lora_B.weight` [out, r]. */
export interface ReferenceAdapter {
  readonly r: number;
  /** alpha / r, or alpha / √r with rsLoRA. */
  readonly scale: number;
  readonly tensors: ReadonlyMap<string, Float64Array>;
}

/** Gradients under the adapter's names. */
export type Gradients = Map<string, Float64Array>;

/** What one layer's backward needs of its forward, n rows each. */
export interface LayerTape {
  /** [n, hidden] residual stream before the attention block. */
  readonly x: Float64Array;
  /** [n, hidden] after input_layernorm. */
  readonly attentionInput: Float64Array;
  /** [n, heads, headDim] and [n, kvHeads, headDim] out of q_proj and k_proj, before q_norm and k_norm. */
  readonly qProjected: Float64Array;
  readonly kProjected: Float64Array;
  /** After norms and RoPE; when decoding, k and v hold every row so far. */
  readonly q: Float64Array;
  readonly k: Float64Array;
  readonly v: Float64Array;
  readonly attended: AttentionResult;
  /** [n, hidden] residual stream between attention and MLP. */
  readonly middle: Float64Array;
  /** [n, hidden] after post_attention_layernorm. */
  readonly mlpInput: Float64Array;
  /** [n, ffn] */
  readonly gate: Float64Array;
  readonly up: Float64Array;
  readonly activated: Float64Array;
}

export interface Tape {
  readonly layers: readonly LayerTape[];
  /** [n, hidden] residual stream after the last layer. */
  readonly x: Float64Array;
  /** [n, hidden] after model.norm: what the head multiplies. */
  readonly hidden: Float64Array;
  readonly table: RopeTable;
}

/**
 * Runs the decoder over the rows of a trie. `past` continues an earlier run over the first rows of the same trie:
 * only the rows after those are computed, and keys and values are taken from it.
 */
export function runDecoder(
  model: ReferenceModel,
  adapter: ReferenceAdapter | null,
  trie: Pick<TokenTrie, 'tokens' | 'positions' | 'subtreeEnd'>,
  past: Tape | null = null,
): Tape {
  const { config, tensors } = model;
  const first = past ? past.layers[0].k.length / (config.kvHeads * config.headDim) : 0;
  const rows = trie.tokens.length - first;
  const lastPosition = trie.positions.reduce((a, b) => Math.max(a, b), 0);
  const table = ropeTable(config.rope, config.headDim, lastPosition + 1);
  let x = embed(tensors.get('model.embed_tokens.weight')!, trie.tokens.subarray(first), config.hiddenSize);
  const layers: LayerTape[] = [];
  for (let index = 0; index < config.layers; index++) {
    const layer = runLayer(model, adapter, index, x, rows, trie, table, past?.layers[index] ?? null);
    layers.push(layer);
    const down = linear(layer.activated, rows, projection(model, adapter, index, 'mlp.down_proj'));
    x = add(layer.middle, down);
  }
  const hidden = rmsNorm(x, tensors.get('model.norm.weight')!, rows, config.hiddenSize, config.rmsNormEps);
  return { layers, x, hidden, table };
}

function runLayer(
  model: ReferenceModel,
  adapter: ReferenceAdapter | null,
  index: number,
  x: Float64Array,
  rows: number,
  tree: Tree,
  table: RopeTable,
  past: LayerTape | null,
): LayerTape {
  const { hiddenSize, heads, kvHeads, headDim, rmsNormEps, qkNorm } = model.config;
  const norm = (name: string) => model.tensors.get(`model.layers.${index}.${name}.weight`)!;
  const project = (input: Float64Array, name: string) => linear(input, rows, projection(model, adapter, index, name));
  const positions = tree.positions.subarray(tree.positions.length - rows);

  const attentionInput = rmsNorm(x, norm('input_layernorm'), rows, hiddenSize, rmsNormEps);
  const qProjected = project(attentionInput, 'self_attn.q_proj');
  const kProjected = project(attentionInput, 'self_attn.k_proj');
  const vNew = project(attentionInput, 'self_attn.v_proj');
  const qNormed = qkNorm
    ? rmsNorm(qProjected, norm('self_attn.q_norm'), rows * heads, headDim, rmsNormEps)
    : qProjected;
  const kNormed = qkNorm
    ? rmsNorm(kProjected, norm('self_attn.k_norm'), rows * kvHeads, headDim, rmsNormEps)
    : kProjected;
  const q = rope(qNormed, positions, heads, headDim, table);
  const kNew = rope(kNormed, positions, kvHeads, headDim, table);
  const k = past ? concatenate(past.k, kNew) : kNew;
  const v = past ? concatenate(past.v, vNew) : vNew;
  const attended = attention(q, k, v, tree, attentionShape(model.config, index), tree.positions.length - rows);
  const middle = add(x, project(attended.o, 'self_attn.o_proj'));

  const mlpInput = rmsNorm(middle, norm('post_attention_layernorm'), rows, hiddenSize, rmsNormEps);
  const gate = project(mlpInput, 'mlp.gate_proj');
  const up = project(mlpInput, 'mlp.up_proj');
  const activated = swiglu(gate, up);
  return { x, attentionInput, qProjected, kProjected, q, k, v, attended, middle, mlpInput, gate, up, activated };
}

/** Logits of the asked rows of a trie (all by default) → [rows, vocab]. */
export function forward(
  model: ReferenceModel,
  adapter: ReferenceAdapter | null,
  trie: Pick<TokenTrie, 'tokens' | 'positions' | 'subtreeEnd'>,
  rows: ArrayLike<number> = trie.tokens.map((_, row) => row),
): Float64Array {
  const { hiddenSize, vocabSize } = model.config;
  const { hidden } = runDecoder(model, adapter, trie);
  return matmulNT(embed(hidden, rows, hiddenSize), headOf(model), rows.length, vocabSize, hiddenSize);
}

export interface LossAndGradients {
  /** scale · Σ weight · (−log p). */
  readonly loss: number;
  /** [edges] log p of each target. */
  readonly logprobs: Float64Array;
  readonly gradients: Gradients;
}

/** Loss of a trie's edges and its gradient for every lora_A and lora_B; `scale` is 1 / Σ weight by default. */
export function lossAndGradients(
  model: ReferenceModel,
  adapter: ReferenceAdapter,
  trie: TokenTrie,
  scale = 1 / trie.edgeWeight.reduce((a, b) => a + b, 0),
): LossAndGradients {
  const { config } = model;
  const tape = runDecoder(model, adapter, trie);
  const edges = { row: trie.edgeRow, target: trie.edgeTarget, weight: trie.edgeWeight };
  const { loss, logprobs } = linearCrossEntropy(tape.hidden, headOf(model), config.hiddenSize, edges, scale);
  const dHidden = linearCrossEntropyBackward(tape.hidden, headOf(model), config.hiddenSize, edges, scale);
  return { loss, logprobs, gradients: decoderBackward(model, adapter, trie, tape, dHidden) };
}

/** Gradients of every lora_A and lora_B from that of `tape.hidden`. */
export function decoderBackward(
  model: ReferenceModel,
  adapter: ReferenceAdapter,
  trie: Tree,
  tape: Tape,
  dHidden: Float64Array,
): Gradients {
  const { config, tensors } = model;
  const gradients: Gradients = new Map();
  let dx = rmsNormBackward(
    dHidden,
    tape.x,
    tensors.get('model.norm.weight')!,
    trie.positions.length,
    config.hiddenSize,
    config.rmsNormEps,
  );
  for (let index = config.layers - 1; index >= 0; index--) {
    dx = layerBackward(model, adapter, index, dx, tape.layers[index], trie, tape.table, gradients);
  }
  return gradients;
}

function layerBackward(
  model: ReferenceModel,
  adapter: ReferenceAdapter,
  index: number,
  dOut: Float64Array,
  tape: LayerTape,
  tree: Tree,
  table: RopeTable,
  gradients: Gradients,
): Float64Array {
  const { hiddenSize, heads, kvHeads, headDim, rmsNormEps, qkNorm } = model.config;
  const rows = tree.positions.length;
  const norm = (name: string) => model.tensors.get(`model.layers.${index}.${name}.weight`)!;
  const back = (dy: Float64Array, input: Float64Array, name: string) => {
    const { dx, dA, dB } = linearBackward(dy, input, rows, projection(model, adapter, index, name));
    if (dA) gradients.set(loraName(index, name, 'A'), dA);
    if (dB) gradients.set(loraName(index, name, 'B'), dB);
    return dx;
  };

  const dActivated = back(dOut, tape.activated, 'mlp.down_proj');
  const { dGate, dUp } = swigluBackward(dActivated, tape.gate, tape.up);
  const dMlpInput = add(back(dGate, tape.mlpInput, 'mlp.gate_proj'), back(dUp, tape.mlpInput, 'mlp.up_proj'));
  const dMiddle = add(
    dOut,
    rmsNormBackward(dMlpInput, tape.middle, norm('post_attention_layernorm'), rows, hiddenSize, rmsNormEps),
  );

  const dO = back(dMiddle, tape.attended.o, 'self_attn.o_proj');
  const shape = attentionShape(model.config, index);
  const { dq, dk, dv } = attentionBackward(dO, tape.q, tape.k, tape.v, tape.attended, tree, shape);
  const dqNormed = ropeBackward(dq, tree.positions, heads, headDim, table);
  const dkNormed = ropeBackward(dk, tree.positions, kvHeads, headDim, table);
  const dqProjected = qkNorm
    ? rmsNormBackward(dqNormed, tape.qProjected, norm('self_attn.q_norm'), rows * heads, headDim, rmsNormEps)
    : dqNormed;
  const dkProjected = qkNorm
    ? rmsNormBackward(dkNormed, tape.kProjected, norm('self_attn.k_norm'), rows * kvHeads, headDim, rmsNormEps)
    : dkNormed;
  const dAttentionInput = add(
    add(
      back(dqProjected, tape.attentionInput, 'self_attn.q_proj'),
      back(dkProjected, tape.attentionInput, 'self_attn.k_proj'),
    ),
    back(dv, tape.attentionInput, 'self_attn.v_proj'),
  );
  return add(dMiddle, rmsNormBackward(dAttentionInput, tape.x, norm('input_layernorm'), rows, hiddenSize, rmsNormEps));
}

/** PEFT's name of a LoRA tensor, e.g. of `self_attn.q_proj` in layer 0. */
export function loraName(layer: number, module: string, which: 'A' | 'B'): string {
  return `base_model.model.model.layers.${layer}.${module}.lora_${which}.weight`;
}

function projection(model: ReferenceModel, adapter: ReferenceAdapter | null, layer: number, module: string): Linear {
  const { hiddenSize, intermediateSize, heads, kvHeads, headDim } = model.config;
  const [inFeatures, outFeatures] = {
    'self_attn.q_proj': [hiddenSize, heads * headDim],
    'self_attn.k_proj': [hiddenSize, kvHeads * headDim],
    'self_attn.v_proj': [hiddenSize, kvHeads * headDim],
    'self_attn.o_proj': [heads * headDim, hiddenSize],
    'mlp.gate_proj': [hiddenSize, intermediateSize],
    'mlp.up_proj': [hiddenSize, intermediateSize],
    'mlp.down_proj': [intermediateSize, hiddenSize],
  }[module]!;
  const a = adapter?.tensors.get(loraName(layer, module, 'A'));
  const b = adapter?.tensors.get(loraName(layer, module, 'B'));
  return {
    inFeatures,
    outFeatures,
    weight: model.tensors.get(`model.layers.${layer}.${module}.weight`)!,
    bias: model.tensors.get(`model.layers.${layer}.${module}.bias`) ?? null,
    lora: adapter && a && b ? { r: adapter.r, a, b, scale: adapter.scale } : null,
  };
}

export function headOf(model: ReferenceModel): Float64Array {
  return model.tensors.get('lm_head.weight')!;
}

function attentionShape({ heads, kvHeads, headDim, windows }: ModelConfig, layer: number) {
  return { heads, kvHeads, headDim, window: windows[layer] };
}

function add(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((value, i) => value + b[i]);
}

function concatenate(a: Float64Array, b: Float64Array): Float64Array {
  const out = new Float64Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}

import { type Adapter, adapterRank, adapterScale, type LoraPair } from '../src/formats/adapter.js';
import {
  GGUF_FILE_TYPES,
  GGUF_QUANTIZATION_VERSION,
  type GgufTensor,
  type GgufType,
  type GgufValue,
  ggufTypeOf,
} from '../src/formats/gguf.js';
import type { ModelConfig } from './config.js';
import { LINEAR_MODULES, type LinearModule, linearShape, modulePath } from './tensors.js';

/** llama.cpp's names: `general.architecture`, and whether rows of q_proj and k_proj are in its own order. */
const ARCHITECTURES: Readonly<Record<string, { readonly name: string; readonly pairedRows: boolean }>> = {
  llama: { name: 'llama', pairedRows: true },
  mistral: { name: 'llama', pairedRows: true },
  qwen2: { name: 'qwen2', pairedRows: false },
  qwen3: { name: 'qwen3', pairedRows: false },
};

const MODULES: Readonly<Record<LinearModule, string>> = {
  q_proj: 'attn_q',
  k_proj: 'attn_k',
  v_proj: 'attn_v',
  o_proj: 'attn_output',
  gate_proj: 'ffn_gate',
  up_proj: 'ffn_up',
  down_proj: 'ffn_down',
};

export function ggufArchitecture(config: ModelConfig): string {
  return ARCHITECTURES[config.architecture].name;
}

export function ggufModuleName(layer: number, module: LinearModule): string {
  return `blk.${layer}.${MODULES[module]}`;
}

/**
 * The rows of a module's weight as llama.cpp has them. Its llama architecture rotates neighbours (2i, 2i + 1) where
 * Hugging Face rotates halves (i, i + headDim / 2), so rows of q_proj and k_proj are reordered within each head: row
 * 2i + p of a head is its row p · headDim / 2 + i. Weights are [out, columns]; an adapter's B, too.
 */
export function ggufRows(
  config: ModelConfig,
  module: LinearModule,
  values: Float32Array,
  columns: number,
): Float32Array {
  const rotated = module === 'q_proj' || module === 'k_proj';
  if (!rotated || !ARCHITECTURES[config.architecture].pairedRows) return values;
  const { headDim } = config;
  const reordered = new Float32Array(values.length);
  for (let row = 0; row < values.length / columns; row++) {
    const within = row % headDim;
    const from = row - within + (within % 2) * (headDim / 2) + Math.floor(within / 2);
    reordered.set(values.subarray(from * columns, (from + 1) * columns), row * columns);
  }
  return reordered;
}

/**
 * An adapter as llama.cpp loads it: A and B of every module, the rows of B in its order. It takes alpha / rank for the
 * scale of a module, with the module's own rank; where that is another scale than PEFT's, B makes up for it.
 */
export function ggufAdapter(
  config: ModelConfig,
  adapter: Adapter,
  type: GgufType,
  names: { readonly adapter: string; readonly base: string | null },
): { metadata: Record<string, GgufValue>; tensors: GgufTensor[] } {
  const alpha = Math.fround(adapterScale(adapter.config) * adapter.config.r);
  const text = (value: string): GgufValue => ({ type: 'string', value });
  const base: Record<string, GgufValue> = names.base
    ? { 'general.base_model.count': { type: 'uint32', value: 1 }, 'general.base_model.0.name': text(names.base) }
    : {};
  const metadata: Record<string, GgufValue> = {
    'general.architecture': text(ggufArchitecture(config)),
    'general.type': text('adapter'),
    'adapter.type': text('lora'),
    'general.name': text(names.adapter),
    ...base,
    'general.file_type': { type: 'uint32', value: GGUF_FILE_TYPES[type] },
    'adapter.lora.alpha': { type: 'float32', value: alpha },
    'general.quantization_version': { type: 'uint32', value: GGUF_QUANTIZATION_VERSION },
  };
  const tensors: GgufTensor[] = [];
  for (let layer = 0; layer < config.layers; layer++) {
    for (const module of LINEAR_MODULES) {
      const path = modulePath(layer, module);
      const pair = adapter.tensors.get(path);
      if (!pair) continue;
      const rank = adapterRank(adapter.config, path);
      const shape = linearShape(config, module);
      const factor = (adapterScale(adapter.config, path) * rank) / (adapterScale(adapter.config) * adapter.config.r);
      const tensor = (matrix: 'a' | 'b', sizes: readonly number[], values: () => Float32Array): GgufTensor => ({
        name: `${ggufModuleName(layer, module)}.weight.lora_${matrix}`,
        shape: sizes,
        type: ggufTypeOf(type, sizes),
        values,
      });
      tensors.push(
        tensor('a', [rank, shape.in], () => pair.A),
        tensor('b', [shape.out, rank], () => ggufRows(config, module, scaled(pair, factor), rank)),
      );
    }
  }
  return { metadata, tensors };
}

function scaled({ B }: LoraPair, factor: number): Float32Array {
  return factor === 1 ? B : B.map((value) => value * factor);
}

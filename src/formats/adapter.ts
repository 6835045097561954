import type { TensorData } from './safetensors.js';

/** What of PEFT's LoraConfig lexalign knows. */
export interface AdapterConfig {
  readonly r: number;
  /** `lora_alpha`. */
  readonly alpha: number;
  /** `lora_dropout`, from 0 to below 1. */
  readonly dropout: number;
  /** Names of the adapted linear layers (`q_proj`, …), each in every decoder layer. */
  readonly targetModules: readonly string[];
  readonly useRslora: boolean;
}

/** y = x·Wᵀ + scale·(x·Aᵀ)·Bᵀ. */
export interface LoraPair {
  /** [r, in] */
  readonly A: Float32Array;
  /** [out, r] */
  readonly B: Float32Array;
}

export interface Adapter {
  readonly config: AdapterConfig;
  /** By module path: `model.layers.0.self_attn.q_proj`. */
  readonly tensors: ReadonlyMap<string, LoraPair>;
}

/** The factor on B·A: alpha / r, with rsLoRA alpha / √r (https://arxiv.org/abs/2312.03732). */
export function adapterScale(config: AdapterConfig): number {
  return config.alpha / (config.useRslora ? Math.sqrt(config.r) : config.r);
}

/** The name PEFT stores A or B of a module under. */
export function peftTensorName(modulePath: string, matrix: 'A' | 'B'): string {
  return `base_model.model.${modulePath}.lora_${matrix}.weight`;
}

/** The tensors of adapter_model.safetensors, F32. */
export function peftTensors(adapter: Adapter): TensorData[] {
  const { r } = adapter.config;
  return [...adapter.tensors].flatMap(([path, { A, B }]) => [
    { name: peftTensorName(path, 'A'), dtype: 'F32', shape: [r, A.length / r], data: bytesOf(A) },
    { name: peftTensorName(path, 'B'), dtype: 'F32', shape: [B.length / r, r], data: bytesOf(B) },
  ]);
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** The text of adapter_config.json as PEFT writes and loads it. */
export function peftConfigJson(config: AdapterConfig, baseModelName: string | null): string {
  const json = {
    alpha_pattern: {},
    auto_mapping: null,
    base_model_name_or_path: baseModelName,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    layers_pattern: null,
    layers_to_transform: null,
    lora_alpha: config.alpha,
    lora_dropout: config.dropout,
    modules_to_save: null,
    peft_type: 'LORA',
    r: config.r,
    rank_pattern: {},
    revision: null,
    target_modules: [...config.targetModules].sort(),
    task_type: 'CAUSAL_LM',
    use_dora: false,
    use_rslora: config.useRslora,
  };
  return `${JSON.stringify(json, null, 2)}\n`;
}

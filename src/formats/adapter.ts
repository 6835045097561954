import { type FloatDtype, fromFloat32, type TensorData } from './safetensors.js';

/** What of PEFT's LoraConfig lexalign knows. */
export interface AdapterConfig {
  /** Rank of the modules that `rankPattern` does not name. */
  readonly r: number;
  /** `lora_alpha` of the modules that `alphaPattern` does not name. */
  readonly alpha: number;
  /** `lora_dropout`, from 0 to below 1. */
  readonly dropout: number;
  /** Names of the adapted linear layers (`q_proj`, …), each in every decoder layer. */
  readonly targetModules: readonly string[];
  readonly useRslora: boolean;
  /** Other ranks, by module path: PEFT's `rank_pattern`, resolved. */
  readonly rankPattern?: Readonly<Record<string, number>>;
  /** Other alphas, by module path: PEFT's `alpha_pattern`, resolved. */
  readonly alphaPattern?: Readonly<Record<string, number>>;
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

/** The rank of a module. */
export function adapterRank(config: AdapterConfig, modulePath: string): number {
  return config.rankPattern?.[modulePath] ?? config.r;
}

/**
 * The factor on a module's B·A: alpha / r, with rsLoRA alpha / √r (https://arxiv.org/abs/2312.03732). Without a path,
 * that of modules which no pattern names.
 */
export function adapterScale(config: AdapterConfig, modulePath = ''): number {
  const r = adapterRank(config, modulePath);
  return (config.alphaPattern?.[modulePath] ?? config.alpha) / (config.useRslora ? Math.sqrt(r) : r);
}

/** The name PEFT stores A or B of a module under. */
export function peftTensorName(modulePath: string, matrix: 'A' | 'B'): string {
  return `base_model.model.${modulePath}.lora_${matrix}.weight`;
}

/** The tensors of adapter_model.safetensors. */
export function peftTensors(adapter: Adapter, dtype: FloatDtype = 'F32'): TensorData[] {
  return [...adapter.tensors].flatMap(([path, { A, B }]) => {
    const r = adapterRank(adapter.config, path);
    const tensor = (matrix: 'A' | 'B', shape: readonly number[], values: Float32Array): TensorData => {
      const name = peftTensorName(path, matrix);
      return { name, dtype, shape, data: fromFloat32(dtype, values, name) };
    };
    return [tensor('A', [r, A.length / r], A), tensor('B', [B.length / r, r], B)];
  });
}

/** The text of adapter_config.json as PEFT 0.21 writes and loads it: every field, those unused here at their defaults. */
export function peftConfigJson(config: AdapterConfig, baseModelName: string | null): string {
  const json = {
    alora_invocation_tokens: null,
    alpha_pattern: config.alphaPattern ?? {},
    arrow_config: null,
    auto_mapping: null,
    base_model_name_or_path: baseModelName,
    bias: 'none',
    corda_config: null,
    ensure_weight_tying: false,
    eva_config: null,
    exclude_modules: null,
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    kasa_config: null,
    layer_replication: null,
    layers_pattern: null,
    layers_to_transform: null,
    loftq_config: {},
    lora_alpha: config.alpha,
    lora_bias: false,
    lora_dropout: config.dropout,
    lora_ga_config: null,
    megatron_config: null,
    megatron_core: 'megatron.core',
    modules_to_save: null,
    monteclora_config: null,
    peft_type: 'LORA',
    peft_version: '0.21.2',
    qalora_group_size: 16,
    r: config.r,
    rank_pattern: config.rankPattern ?? {},
    revision: null,
    target_modules: [...config.targetModules].sort(),
    target_parameters: null,
    task_type: 'CAUSAL_LM',
    trainable_token_indices: null,
    use_bdlora: null,
    use_dora: false,
    use_qalora: false,
    use_rslora: config.useRslora,
    velora_config: null,
  };
  return `${JSON.stringify(json, null, 2)}\n`;
}

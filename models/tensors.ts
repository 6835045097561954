import type { ModelConfig } from './config.js';

export const EMBEDDING = 'model.embed_tokens.weight';
export const FINAL_NORM = 'model.norm.weight';
export const HEAD = 'lm_head.weight';

/** The linear layers of a decoder layer: those LoRA can adapt. */
export const LINEAR_MODULES = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'] as const;
export type LinearModule = (typeof LINEAR_MODULES)[number];

/** The same, together where they multiply the same activations. */
export const MODULES_BY_INPUT = [
  ['q_proj', 'k_proj', 'v_proj'],
  ['o_proj'],
  ['gate_proj', 'up_proj'],
  ['down_proj'],
] as const satisfies readonly (readonly LinearModule[])[];

const NORM_MODULES = ['input_layernorm', 'post_attention_layernorm', 'q_norm', 'k_norm'] as const;
export type NormModule = (typeof NORM_MODULES)[number];

export interface TensorSpec {
  readonly name: string;
  readonly shape: readonly number[];
  readonly role: 'embedding' | 'head' | 'norm' | 'linear' | 'bias';
}

/** Name of a module as PEFT and Hugging Face have it: `model.layers.0.self_attn.q_proj`. */
export function modulePath(layer: number, module: LinearModule | NormModule): string {
  const layerPath = `model.layers.${layer}`;
  if (module === 'input_layernorm' || module === 'post_attention_layernorm') return `${layerPath}.${module}`;
  const isMlp = module === 'gate_proj' || module === 'up_proj' || module === 'down_proj';
  return `${layerPath}.${isMlp ? 'mlp' : 'self_attn'}.${module}`;
}

export function layerTensorName(
  layer: number,
  module: LinearModule | NormModule,
  kind: 'weight' | 'bias' = 'weight',
): string {
  return `${modulePath(layer, module)}.${kind}`;
}

/** Sizes of a linear layer; its weight is stored [out, in]. */
export function linearShape(config: ModelConfig, module: LinearModule): { out: number; in: number } {
  const { hiddenSize, intermediateSize, headDim } = config;
  switch (module) {
    case 'q_proj':
      return { out: config.heads * headDim, in: hiddenSize };
    case 'k_proj':
    case 'v_proj':
      return { out: config.kvHeads * headDim, in: hiddenSize };
    case 'o_proj':
      return { out: hiddenSize, in: config.heads * headDim };
    case 'gate_proj':
    case 'up_proj':
      return { out: intermediateSize, in: hiddenSize };
    case 'down_proj':
      return { out: hiddenSize, in: intermediateSize };
  }
}

export function hasBias(config: ModelConfig, module: LinearModule): boolean {
  switch (module) {
    case 'q_proj':
    case 'k_proj':
    case 'v_proj':
      return config.qkvBias;
    case 'o_proj':
      return config.outputBias;
    default:
      return config.mlpBias;
  }
}

/** Every linear layer by its module path: what an adapter may hang on. */
export function linearShapes(config: ModelConfig): Map<string, { out: number; in: number }> {
  const shapes = new Map<string, { out: number; in: number }>();
  for (let layer = 0; layer < config.layers; layer++)
    for (const module of LINEAR_MODULES) shapes.set(modulePath(layer, module), linearShape(config, module));
  return shapes;
}

/** Every tensor that a checkpoint must hold; a tied model's head is its embedding and not listed. */
export function tensorSpecs(config: ModelConfig): TensorSpec[] {
  const { hiddenSize, vocabSize, headDim } = config;
  const specs: TensorSpec[] = [{ name: EMBEDDING, shape: [vocabSize, hiddenSize], role: 'embedding' }];
  for (let layer = 0; layer < config.layers; layer++) {
    for (const module of NORM_MODULES) {
      const perHead = module === 'q_norm' || module === 'k_norm';
      if (perHead && !config.qkNorm) continue;
      specs.push({ name: layerTensorName(layer, module), shape: [perHead ? headDim : hiddenSize], role: 'norm' });
    }
    for (const module of LINEAR_MODULES) {
      const shape = linearShape(config, module);
      specs.push({ name: layerTensorName(layer, module), shape: [shape.out, shape.in], role: 'linear' });
      if (hasBias(config, module))
        specs.push({ name: layerTensorName(layer, module, 'bias'), shape: [shape.out], role: 'bias' });
    }
  }
  specs.push({ name: FINAL_NORM, shape: [hiddenSize], role: 'norm' });
  if (!config.tiedEmbeddings) specs.push({ name: HEAD, shape: [vocabSize, hiddenSize], role: 'head' });
  return specs;
}

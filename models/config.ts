/** What a decoder needs to know of an architecture; every model file turns a config.json into one of these. */
export interface ModelConfig {
  /** `model_type` of config.json: llama, qwen2, qwen3, mistral. */
  readonly architecture: string;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabSize: number;
  readonly maxPositions: number;
  readonly rmsNormEps: number;
  readonly rope: RopeConfig;
  readonly tiedEmbeddings: boolean;
  /** Biases on q_proj, k_proj and v_proj. */
  readonly qkvBias: boolean;
  /** Bias on o_proj. */
  readonly outputBias: boolean;
  /** Biases on gate_proj, up_proj and down_proj. */
  readonly mlpBias: boolean;
  /** RMSNorm over each head of q and k before RoPE (Qwen3: q_norm, k_norm). */
  readonly qkNorm: boolean;
  /** Attention window in positions for each layer; null attends to everything before. */
  readonly windows: readonly (number | null)[];
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
}

export interface RopeConfig {
  readonly theta: number;
  /** `rope_scaling` of type llama3; null for none. */
  readonly llama3: {
    readonly factor: number;
    readonly lowFreqFactor: number;
    readonly highFreqFactor: number;
    readonly originalMaxPositions: number;
  } | null;
}

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ModelConfig } from '../models/config.js';
import type { Example } from '../src/batch/types.js';
import type { ReferenceAdapter, ReferenceModel } from './reference/decoder.js';
import type { TrainOptions } from './reference/training.js';

const root = fileURLToPath(new URL('..', import.meta.url));

export const floatCases = ['llama', 'llama-llama3-rope', 'qwen2', 'qwen3', 'mistral'] as const;
/** Models that are stored quantised; the reference model is what they dequantise to. */
export const quantisedCases = ['nf4-double', 'nf4-plain', 'gptq-v1-actorder', 'gptq-v2-asym', 'awq', 'mlx'] as const;
export const goldenCases = [...floatCases, ...quantisedCases];
export type GoldenCase = (typeof goldenCases)[number];

/** Everything a folder of test/fixtures/golden holds; the README there says what each figure is. */
export interface Golden {
  /** Absolute path of the case's folder, with model/ and adapter/ for code that reads its own files. */
  readonly directory: string;
  readonly model: ReferenceModel;
  readonly adapter: ReferenceAdapter;
  readonly batch: Example[];
  readonly batches: Example[][];
  readonly logits: { readonly ids: number[]; readonly base: GoldenLogits; readonly adapted: GoldenLogits };
  readonly loss: number;
  readonly supervisedTokens: number;
  readonly gradNorm: number;
  /** Under the adapter's tensor names. */
  readonly gradients: Map<string, Float64Array>;
  readonly options: TrainOptions;
  readonly train: {
    readonly losses: number[];
    readonly learningRates: number[];
    readonly gradNorms: number[];
    /** Losses of `batches` after the last step. */
    readonly lossesAfter: number[];
    /** The adapter's tensors after the last step. */
    readonly tensors: Map<string, Float64Array>;
  };
}

export interface GoldenLogits {
  /** [positions, vocab] */
  readonly shape: [number, number];
  /** Of the last position: [token, logit], best first. */
  readonly top10: [number, number][];
  readonly mean: number;
  /** Population standard deviation. */
  readonly std: number;
  /** First 8 logits of every position. */
  readonly first8: number[][];
}

export function loadGolden(name: GoldenCase): Golden {
  const directory = join(root, 'test/fixtures/golden', name);
  const read = (file: string) => readJson(join(directory, file));
  const grad = read('expected/grad.json');
  const train = read('expected/train.json');
  return {
    directory,
    model: loadModel(existsSync(join(directory, 'truth')) ? join(directory, 'truth') : join(directory, 'model')),
    adapter: loadAdapter(join(directory, 'adapter')),
    batch: readSequences(read('batch.json')),
    batches: (read('batches.json').batches as Json[]).map(readSequences),
    logits: read('expected/logits.json') as unknown as Golden['logits'],
    loss: grad.loss as number,
    supervisedTokens: grad.supervised_tokens as number,
    gradNorm: grad.grad_norm as number,
    gradients: readSafetensors(join(directory, 'expected/grads.safetensors')),
    options: parseTrainOptions(train.options as string),
    train: {
      losses: train.losses as number[],
      learningRates: train.learning_rates as number[],
      gradNorms: train.grad_norms as number[],
      lossesAfter: train.losses_after as number[],
      tensors: readSafetensors(join(directory, 'expected/trained/adapter_model.safetensors')),
    },
  };
}

/** Absolute path of `../shared/<path>`, or null, with the reason printed, where it is absent: then skip the test. */
export function findShared(path: string): string | null {
  const absolute = join(root, '../shared', path);
  if (existsSync(absolute)) return absolute;
  console.log(`skipped: ../shared/${path} is not here`);
  return null;
}

/** A Hugging Face directory with weights in F32, F16 or BF16, as float64; its `config.json` is read by hand here. */
export function loadModel(directory: string): ReferenceModel {
  const files = readdirSync(directory).filter((file) => file.endsWith('.safetensors'));
  const tensors = new Map(files.flatMap((file) => [...readSafetensors(join(directory, file))]));
  const config = readConfig(readJson(join(directory, 'config.json')));
  const embeddings = tensors.get('model.embed_tokens.weight');
  const head = tensors.get('lm_head.weight');
  if (config.tiedEmbeddings) {
    tensors.set('model.embed_tokens.weight', (embeddings ?? head)!);
    tensors.set('lm_head.weight', (embeddings ?? head)!);
  }
  return { config, tensors };
}

/** A PEFT directory. */
function loadAdapter(directory: string): ReferenceAdapter {
  const config = readJson(join(directory, 'adapter_config.json'));
  const r = config.r as number;
  const scale = (config.lora_alpha as number) / (config.use_rslora ? Math.sqrt(r) : r);
  return { r, scale, tensors: readSafetensors(join(directory, 'adapter_model.safetensors')) };
}

/** Every tensor of a file of F32, F16 or BF16 as float64, whole and without checks: fixtures only. */
export function readSafetensors(path: string): Map<string, Float64Array> {
  const bytes = readFileSync(path);
  const headerEnd = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, headerEnd)) as Record<string, SafetensorsEntry>;
  const tensors = new Map<string, Float64Array>();
  for (const [name, { dtype, data_offsets }] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const [begin, end] = data_offsets;
    tensors.set(name, decode(dtype, bytes.subarray(headerEnd + begin, headerEnd + end)));
  }
  return tensors;
}

interface SafetensorsEntry {
  readonly dtype: string;
  readonly data_offsets: [number, number];
}

function decode(dtype: string, bytes: Buffer): Float64Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (dtype === 'F32') return Float64Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  if (dtype === 'F16')
    return Float64Array.from({ length: bytes.length / 2 }, (_, i) => half(view.getUint16(2 * i, true)));
  if (dtype !== 'BF16') throw new Error(`no decoder for ${dtype}`);
  const widened = Uint32Array.from({ length: bytes.length / 2 }, (_, i) => view.getUint16(2 * i, true) << 16);
  return Float64Array.from(new Float32Array(widened.buffer));
}

function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

type Json = Record<string, unknown>;

export function readJson(path: string): Json {
  return JSON.parse(readFileSync(path, 'utf8')) as Json;
}

function readSequences(batch: Json): Example[] {
  const sequences = batch.sequences as { ids: number[]; labels: number[] }[];
  return sequences.map(({ ids, labels }) => ({
    ids: Int32Array.from(ids),
    labels: Int32Array.from(labels),
    weight: 1,
  }));
}

function readConfig(json: Json): ModelConfig {
  const number = (key: string, otherwise?: number) => (json[key] ?? otherwise) as number;
  const architecture = json.model_type as string;
  const scaling = json.rope_scaling as Json | null;
  const heads = number('num_attention_heads');
  const layers = number('num_hidden_layers');
  const slidingFrom = json.use_sliding_window ? number('max_window_layers') : layers;
  const firstWindow = architecture === 'mistral' ? 0 : slidingFrom;
  const eos = json.eos_token_id as number | number[] | null;
  return {
    architecture,
    hiddenSize: number('hidden_size'),
    intermediateSize: number('intermediate_size'),
    layers,
    heads,
    kvHeads: number('num_key_value_heads', heads),
    headDim: number('head_dim', number('hidden_size') / heads),
    vocabSize: number('vocab_size'),
    maxPositions: number('max_position_embeddings'),
    rmsNormEps: number('rms_norm_eps'),
    rope: {
      theta: number('rope_theta', 10000),
      llama3: scaling
        ? {
            factor: scaling.factor as number,
            lowFreqFactor: scaling.low_freq_factor as number,
            highFreqFactor: scaling.high_freq_factor as number,
            originalMaxPositions: scaling.original_max_position_embeddings as number,
          }
        : null,
    },
    tiedEmbeddings: json.tie_word_embeddings === true,
    qkvBias: architecture === 'qwen2' || json.attention_bias === true,
    outputBias: architecture !== 'qwen2' && json.attention_bias === true,
    mlpBias: json.mlp_bias === true,
    qkNorm: architecture === 'qwen3',
    windows: Array.from({ length: layers }, (_, layer) =>
      layer >= firstWindow ? ((json.sliding_window as number | null) ?? null) : null,
    ),
    bosTokenId: (json.bos_token_id as number | null) ?? null,
    eosTokenIds: eos === null ? [] : [eos].flat(),
  };
}

/** The options string of train.json, e.g. `--lr 0.002 --steps 5 --schedule cosine --betas 0.9,0.95`. */
function parseTrainOptions(text: string): TrainOptions {
  const given = new Map([...text.matchAll(/--(\S+) (\S+)/g)].map(([, key, value]) => [key, value]));
  const number = (key: string, otherwise: number) => Number(given.get(key) ?? otherwise);
  const [beta1, beta2] = (given.get('betas') ?? '0.9,0.999').split(',').map(Number);
  const known = 'lr steps schedule warmup weight-decay betas eps max-grad-norm loraplus-ratio'.split(' ');
  for (const key of given.keys()) if (!known.includes(key)) throw new Error(`unknown option --${key} in train.json`);
  return {
    steps: number('steps', 0),
    learningRate: number('lr', 0),
    schedule: (given.get('schedule') ?? 'constant') as TrainOptions['schedule'],
    warmupSteps: number('warmup', 0),
    weightDecay: number('weight-decay', 0),
    beta1,
    beta2,
    epsilon: number('eps', 1e-8),
    maxGradNorm: number('max-grad-norm', 0),
    loraplusRatio: number('loraplus-ratio', 1),
  };
}

import { type PackedBatch, packBatch, rowBucket } from '../batch/pack.js';
import type { TokenTrie } from '../batch/types.js';
import { type Program, Recorder } from '../gpu/program.js';
import { createTensor, type Tensor, upload } from '../gpu/tensor.js';
import type { OpContext } from '../ops/context.js';
import { gatherRows, gatherRowsBackward } from '../ops/gather-rows.js';
import { linearCrossEntropy } from '../ops/linear-cross-entropy.js';
import { policyGradient, type SampleTensors } from '../ops/policy-gradient.js';
import { rmsNorm, rmsNormBackward } from '../ops/rms-norm.js';
import { valueHead, valueHeadBackward } from '../ops/value-head.js';
import type { AdapterLayout, AdapterWeights } from './adapter.js';
import { type BatchLayout, BatchTensors } from './batch-tensors.js';
import { checkBindable } from './bindable-rows.js';
import { attendTree, decoder, decoderBackward } from './decoder.js';
import type { LanguageModel } from './language-model.js';
import type { DecoderContext } from './linear.js';

/**
 * What a program computes and takes the gradient of. Cross-entropy and policy give log p of every edge; the gradient of
 * the one is that of Σ weight·(−log p), of the other that of PPO's clipped loss summed over samples. Value gives
 * the critic's value at every logit row, and the gradient of the clipped value loss summed over samples.
 */
export type Objective =
  | { readonly kind: 'cross-entropy' }
  | { readonly kind: 'policy'; readonly cliprange: number }
  | { readonly kind: 'value'; readonly head: ValueHeadLayout; readonly cliprange: number };

/** The tensors of a value head that a program needs. */
export interface ValueHeadLayout {
  readonly parameters: Tensor;
  readonly gradients: Tensor;
}

export interface LossOptions {
  readonly adapter: AdapterWeights | null;
  /** Also add the gradients of the adapter's matrices, and of the value head, to their gradient buffers. */
  readonly backward: boolean;
  /** Layers from the first whose activations the backward pass computes again instead of keeping them; by default 0. */
  readonly recompute?: number;
  /** Cross-entropy by default. */
  readonly objective?: Objective;
  /** log p is that of softmax(logits / temperature); 1 by default. */
  readonly temperature?: number;
}

/** What was sampled: start[i] .. start[i + 1] are the samples of edge i (policy) or of logit row i (value). */
export interface Samples {
  readonly start: Uint32Array;
  /** [samples, 2]: old log-probability and advantage, or old value and return. */
  readonly numbers: Float32Array;
}

/** What a run tells the device beside the batch itself. */
export interface LossValues {
  /** Factor on the gradient of every unit of edge weight; the optimiser takes it out again. */
  readonly gradScale: number;
  readonly dropout: number;
  readonly seed: number;
}

/** Bytes of logits that may exist at once; rows of cross-entropy go in chunks under it. */
const logitBytes = 128 << 20;

/** What a run with samples gives. */
export interface SampledResult {
  /** [edges] log p, or [logit rows] value. */
  readonly result: Float32Array;
  /** [logit rows]; null for values. */
  readonly entropy: Float32Array | null;
}

/** Tensors of a program beside its batch. */
interface ProgramTensors {
  /** f32 [edges] or [logit rows] */
  readonly result: Tensor;
  /** Of the objectives policy and value, with a gradient. */
  readonly samples: SampleTensors | null;
  /** f32 [logit rows], of the objective policy, with a gradient. */
  readonly entropy: Tensor | null;
}

/** Rows, edges and samples that a program has room for. */
interface Capacity {
  readonly rows: number;
  readonly edges: number;
  readonly samples: number;
}

/** A program that computes an objective over a packed trie and, when asked, gradients; for one capacity. */
export class LossProgram {
  readonly program: Program;
  readonly #model: LanguageModel;
  readonly #batch: BatchTensors;
  readonly #tensors: ProgramTensors;
  readonly #perRow: boolean;

  private constructor(
    model: LanguageModel,
    batch: BatchTensors,
    tensors: ProgramTensors,
    program: Program,
    perRow: boolean,
  ) {
    this.#model = model;
    this.#batch = batch;
    this.#tensors = tensors;
    this.program = program;
    this.#perRow = perRow;
  }

  /** Records, allocates and compiles. */
  static async create(model: LanguageModel, options: LossOptions, capacity: Capacity): Promise<LossProgram> {
    const { device } = model;
    const batch = new BatchTensors(device, capacity.rows, capacity.edges, model.attention);
    const { kind } = options.objective ?? { kind: 'cross-entropy' };
    const perRow = kind === 'value';
    const sampled = kind !== 'cross-entropy' && options.backward;
    const count = perRow ? capacity.rows : capacity.edges;
    const tensors = {
      result: createTensor(device, 'result', 'f32', [count]),
      samples: sampled
        ? {
            start: createTensor(device, 'sample_start', 'u32', [count + 1]),
            samples: createTensor(device, 'samples', 'f32', [capacity.samples, 2]),
          }
        : null,
      entropy: sampled && !perRow ? createTensor(device, 'entropy', 'f32', [capacity.rows]) : null,
    };
    const recorder = recordLoss(model, options, batch.layout, tensors, capacity.rows);
    const program = await recorder.realise(device, model.pool, model.batch.buffer);
    return new LossProgram(model, batch, tensors, program, perRow);
  }

  /**
   * Submits one batch; the promise gives log p of each edge, or the value of each logit row. Later runs may be submitted
   * before it settles.
   */
  run(batch: PackedBatch, values: LossValues): Promise<Float32Array> {
    this.#submit(batch, values);
    this.program.run();
    return this.#result(batch);
  }

  /** As `run` for policy and value with a gradient; for policy also the entropy of the softmax at each logit row. */
  async runSampled(batch: PackedBatch, values: LossValues, samples: Samples): Promise<SampledResult> {
    const { device } = this.#model;
    upload(device, this.#tensors.samples!.start, samples.start);
    upload(device, this.#tensors.samples!.samples, samples.numbers);
    this.#submit(batch, values);
    this.program.run();
    const { entropy } = this.#tensors;
    const reads = [this.#result(batch), entropy && this.#read(entropy, batch.logitRows.length)] as const;
    return { result: await reads[0], entropy: await reads[1] };
  }

  /** As `run`, with nanoseconds for each dispatch of the program. */
  async time(batch: PackedBatch, values: LossValues): Promise<number[]> {
    this.#submit(batch, values);
    return this.program.time();
  }

  #submit(batch: PackedBatch, values: LossValues): void {
    this.#batch.upload(batch);
    this.#model.batch.write({ ...values, rows: batch.rows, logitRows: batch.logitRows.length });
  }

  #result(batch: PackedBatch): Promise<Float32Array> {
    return this.#read(this.#tensors.result, this.#perRow ? batch.logitRows.length : batch.edgeTarget.length);
  }

  async #read(tensor: Tensor, count: number): Promise<Float32Array> {
    return new Float32Array(await this.#model.device.read(tensor.buffer!, 0, 4 * count));
  }

  destroy(): void {
    const { result, samples, entropy } = this.#tensors;
    this.#batch.destroy();
    for (const tensor of [result, samples?.start, samples?.samples, entropy])
      if (tensor) this.#model.device.destroyBuffer(tensor.buffer!);
    this.program.destroy();
  }
}

/** What recording asks of a model; a stand-in without memory will do for planning. */
export type LossModel = Pick<LanguageModel, 'kernels' | 'config' | 'weights' | 'ropeTable' | 'ops' | 'maxBinding'>;

/** Records forward pass, objective and, when asked, the backward pass. */
export function recordLoss(
  model: LossModel,
  options: Omit<LossOptions, 'adapter'> & { adapter: AdapterLayout | null },
  batch: BatchLayout,
  tensors: ProgramTensors,
  capacity: number,
): Recorder {
  const recorder = new Recorder(model.kernels);
  const ops = model.ops(recorder);
  const { config, weights } = model;
  const { adapter, backward, recompute, objective = { kind: 'cross-entropy' } } = options;
  const d: DecoderContext = { ops, config, weights, adapter, capacity, training: backward, recompute };
  const rows = { tokens: batch.tokens, positions: batch.positions, ropeTable: model.ropeTable };
  const tape = decoder(d, rows, attendTree(d, batch.trees));
  // The last row of a sequence predicts nothing, so only rows with an edge go through the head.
  const gathered = recorder.tensor('gathered', 'f32', [capacity, config.hiddenSize]);
  gatherRows(ops, { index: batch.logitRows, x: tape.x, y: gathered });
  const norm = { dim: config.hiddenSize, perRow: 1, epsilon: config.rmsNormEps, count: 'batch.logitRows' as const };
  const hidden = recorder.tensor('norm', objective.kind === 'value' ? 'f32' : ops.operand, gathered.shape);
  rmsNorm(ops, norm, { x: gathered, w: weights.finalNorm, y: hidden });
  const dhidden = backward ? recorder.tensor('dnorm', 'f32', gathered.shape) : null;
  if (objective.kind === 'value') recordValues(ops, objective, hidden, dhidden, tensors);
  else recordLogprobs(model, ops, options, hidden, dhidden, batch, tensors);
  if (dhidden) {
    const dgathered = recorder.tensor('dgathered', 'f32', gathered.shape);
    rmsNormBackward(ops, norm, { x: gathered, w: weights.finalNorm, dy: dhidden, dx: dgathered, accumulate: false });
    const dx = recorder.tensor('dx', 'f32', [capacity, config.hiddenSize]);
    const dxCopy = ops.operand === 'f16' ? recorder.tensor('dx_copy', 'f16', [capacity, config.hiddenSize]) : dx;
    gatherRowsBackward(ops, { inverse: batch.rowToLogit, dy: dgathered, dx, dxCopy });
    decoderBackward(d, rows, batch.trees, tape, { dx, dxCopy });
  }
  return recorder;
}

/**
 * The policy's weights come from the fresh log-probabilities on the device, between the two halves of the fused
 * cross-entropy: one forward pass serves both, and nothing waits for the host.
 */
function recordLogprobs(
  model: LossModel,
  ops: OpContext,
  { objective, temperature }: Pick<LossOptions, 'objective' | 'temperature'>,
  hidden: Tensor,
  dhidden: Tensor | null,
  { edges }: BatchLayout,
  { result: edgeLogprob, samples, entropy }: ProgramTensors,
): void {
  const { head } = model.weights;
  const widths = head.parts.map((part) => part.rows);
  const most = Math.min(logitBytes / sum(widths), model.maxBinding / Math.max(...widths)) / 4;
  const chunkRows = Math.max(16, Math.floor(most / 16) * 16);
  const weigh =
    samples && objective?.kind === 'policy'
      ? (firstRow: number, rows: number) =>
          policyGradient(ops, { edges, edgeLogprob, samples, cliprange: objective.cliprange, firstRow, rows })
      : undefined;
  linearCrossEntropy(ops, {
    hidden,
    head,
    edges,
    edgeLogprob,
    dhidden,
    chunkRows,
    temperature,
    weigh,
    entropy: entropy ?? undefined,
  });
}

function recordValues(
  ops: OpContext,
  { head, cliprange }: Objective & { kind: 'value' },
  hidden: Tensor,
  dhidden: Tensor | null,
  { result: values, samples }: ProgramTensors,
): void {
  valueHead(ops, { parameters: head.parameters, hidden, values });
  if (dhidden && samples) valueHeadBackward(ops, { ...head, hidden, values, samples, dhidden, cliprange });
}

function powerOfTwo(count: number): number {
  return 2 ** Math.ceil(Math.log2(count));
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}

/** Loss programs by capacity, made when first needed. */
export class LossPrograms {
  readonly #model: LanguageModel;
  readonly #options: LossOptions;
  readonly #programs = new Map<string, LossProgram>();

  constructor(model: LanguageModel, options: LossOptions) {
    this.#model = model;
    this.#options = options;
  }

  /**
   * Pads a trie to the next capacity and gives the program for it; `samples` are as many as will come with it. Throws
   * InputError where the device cannot bind activations of so many rows.
   */
  async prepare(trie: TokenTrie, samples = 0): Promise<{ batch: PackedBatch; program: LossProgram }> {
    const rows = rowBucket(trie.tokens.length);
    checkBindable(rows, this.#model.config, this.#model.operand, this.#model.maxBinding);
    const edges = powerOfTwo(Math.max(rows, trie.edgeTarget.length));
    const capacity = { rows, edges, samples: powerOfTwo(Math.max(edges, samples)) };
    const key = Object.values(capacity).join(' ');
    let program = this.#programs.get(key);
    if (!program) {
      program = await LossProgram.create(this.#model, this.#options, capacity);
      this.#programs.set(key, program);
    }
    const batch = packBatch(trie, { capacity: rows, ...this.#model.attention });
    return { batch, program };
  }

  destroy(): void {
    for (const program of this.#programs.values()) program.destroy();
    this.#programs.clear();
  }
}

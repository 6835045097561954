import { type PackedBatch, packBatch, rowBucket } from '../batch/pack.js';
import type { TokenTrie } from '../batch/types.js';
import { type Program, Recorder } from '../gpu/program.js';
import { createTensor, type Tensor } from '../gpu/tensor.js';
import { gatherRows, gatherRowsBackward } from '../ops/gather-rows.js';
import { linearCrossEntropy } from '../ops/linear-cross-entropy.js';
import { rmsNorm, rmsNormBackward } from '../ops/rms-norm.js';
import type { AdapterLayout, AdapterWeights } from './adapter.js';
import { type BatchLayout, BatchTensors } from './batch-tensors.js';
import { attendTree, decoder, decoderBackward } from './decoder.js';
import type { LanguageModel } from './language-model.js';
import type { DecoderContext } from './linear.js';

export interface LossOptions {
  readonly adapter: AdapterWeights | null;
  /** Also add the gradients of the adapter's matrices to its gradient buffers. */
  readonly backward: boolean;
  /** Layers from the first whose activations the backward pass computes again instead of keeping them; by default 0. */
  readonly recompute?: number;
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

/** A program that computes log-probabilities of a batch's edges and, when asked, gradients; for one capacity of rows and edges. */
export class LossProgram {
  readonly capacity: number;
  readonly edgeCapacity: number;
  readonly program: Program;
  readonly #model: LanguageModel;
  readonly #tensors: BatchTensors;
  readonly #edgeLogprob: Tensor;

  private constructor(
    model: LanguageModel,
    tensors: BatchTensors,
    edgeLogprob: Tensor,
    program: Program,
    capacity: number,
    edgeCapacity: number,
  ) {
    this.#model = model;
    this.#tensors = tensors;
    this.#edgeLogprob = edgeLogprob;
    this.program = program;
    this.capacity = capacity;
    this.edgeCapacity = edgeCapacity;
  }

  /** Records, allocates and compiles. */
  static async create(
    model: LanguageModel,
    options: LossOptions,
    capacity: number,
    edgeCapacity: number,
  ): Promise<LossProgram> {
    const tensors = new BatchTensors(model.device, capacity, edgeCapacity, model.attention);
    const edgeLogprob = createTensor(model.device, 'edge_logprob', 'f32', [edgeCapacity]);
    const recorder = recordLoss(model, options, tensors, edgeLogprob, capacity);
    const program = await recorder.realise(model.device, model.pool, model.batch.buffer);
    return new LossProgram(model, tensors, edgeLogprob, program, capacity, edgeCapacity);
  }

  /** Submits one batch; the promise gives log p(target) of each edge. Later runs may be submitted before it settles. */
  run(batch: PackedBatch, values: LossValues): Promise<Float32Array> {
    this.#submit(batch, values);
    this.program.run();
    return this.#logprobs(batch);
  }

  /** As `run`, with nanoseconds for each dispatch of the program. */
  async time(batch: PackedBatch, values: LossValues): Promise<{ nanoseconds: number[]; logprobs: Float32Array }> {
    this.#submit(batch, values);
    const nanoseconds = await this.program.time();
    return { nanoseconds, logprobs: await this.#logprobs(batch) };
  }

  #submit(batch: PackedBatch, values: LossValues): void {
    this.#tensors.upload(batch);
    this.#model.batch.write({ ...values, rows: batch.rows, logitRows: batch.logitRows.length });
  }

  async #logprobs(batch: PackedBatch): Promise<Float32Array> {
    return new Float32Array(await this.#model.device.read(this.#edgeLogprob.buffer!, 0, batch.edgeTarget.length * 4));
  }

  destroy(): void {
    this.#tensors.destroy();
    this.#model.device.destroyBuffer(this.#edgeLogprob.buffer!);
    this.program.destroy();
  }
}

/** What recording asks of a model; a stand-in without memory will do for planning. */
export type LossModel = Pick<LanguageModel, 'kernels' | 'config' | 'weights' | 'ropeTable' | 'ops' | 'maxBinding'>;

/** Records forward pass, cross-entropy and, when asked, the backward pass. */
export function recordLoss(
  model: LossModel,
  options: Omit<LossOptions, 'adapter'> & { adapter: AdapterLayout | null },
  tensors: BatchLayout,
  edgeLogprob: Tensor,
  capacity: number,
): Recorder {
  const recorder = new Recorder(model.kernels);
  const ops = model.ops(recorder);
  const { config, weights } = model;
  const { adapter, backward, recompute } = options;
  const d: DecoderContext = { ops, config, weights, adapter, capacity, training: backward, recompute };
  const rows = { tokens: tensors.tokens, positions: tensors.positions, ropeTable: model.ropeTable };
  const tape = decoder(d, rows, attendTree(d, tensors.trees));
  // The last row of a sequence predicts nothing, so only rows with an edge go through the head.
  const gathered = recorder.tensor('gathered', 'f32', [capacity, config.hiddenSize]);
  gatherRows(ops, { index: tensors.logitRows, x: tape.x, y: gathered });
  const norm = { dim: config.hiddenSize, perRow: 1, epsilon: config.rmsNormEps, count: 'batch.logitRows' as const };
  const hidden = recorder.tensor('norm', ops.operand, [capacity, config.hiddenSize]);
  rmsNorm(ops, norm, { x: gathered, w: weights.finalNorm, y: hidden });
  const dhidden = backward ? recorder.tensor('dnorm', 'f32', [capacity, config.hiddenSize]) : null;
  const widths = weights.head.parts.map((part) => part.rows);
  const most = Math.min(logitBytes / sum(widths), model.maxBinding / Math.max(...widths)) / 4;
  const chunkRows = Math.max(16, Math.floor(most / 16) * 16);
  linearCrossEntropy(ops, { hidden, head: weights.head, edges: tensors.edges, edgeLogprob, dhidden, chunkRows });
  if (dhidden) {
    const dgathered = recorder.tensor('dgathered', 'f32', [capacity, config.hiddenSize]);
    rmsNormBackward(ops, norm, { x: gathered, w: weights.finalNorm, dy: dhidden, dx: dgathered, accumulate: false });
    const dx = recorder.tensor('dx', 'f32', [capacity, config.hiddenSize]);
    const dxCopy = ops.operand === 'f16' ? recorder.tensor('dx_copy', 'f16', [capacity, config.hiddenSize]) : dx;
    gatherRowsBackward(ops, { inverse: tensors.rowToLogit, dy: dgathered, dx, dxCopy });
    decoderBackward(d, rows, tensors.trees, tape, { dx, dxCopy });
  }
  return recorder;
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

  /** Pads a trie to the next capacity and gives the program for it. */
  async prepare(trie: TokenTrie): Promise<{ batch: PackedBatch; program: LossProgram }> {
    const capacity = rowBucket(trie.tokens.length);
    const edgeCapacity = 2 ** Math.ceil(Math.log2(Math.max(capacity, trie.edgeTarget.length)));
    const key = `${capacity} ${edgeCapacity}`;
    let program = this.#programs.get(key);
    if (!program) {
      program = await LossProgram.create(this.#model, this.#options, capacity, edgeCapacity);
      this.#programs.set(key, program);
    }
    const batch = packBatch(trie, { capacity, ...this.#model.attention });
    return { batch, program };
  }

  destroy(): void {
    for (const program of this.#programs.values()) program.destroy();
    this.#programs.clear();
  }
}

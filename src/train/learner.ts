import type { PackedBatch } from '../batch/pack.js';
import type { TokenTrie } from '../batch/types.js';
import type { LanguageModel } from '../model/language-model.js';
import {
  type LossOptions,
  type LossProgram,
  LossPrograms,
  type SampledResult,
  type Samples,
} from '../model/loss-program.js';
import type { AdamWChunk } from '../ops/adamw.js';
import { LossScale, type LossScaleState } from './loss-scale.js';
import { type AdamWOptions, Optimizer } from './optimizer.js';

/** A micro-batch with what was sampled in it, prepared for a learner's program. */
export interface SampledBatch {
  readonly batch: PackedBatch;
  readonly program: LossProgram;
  readonly samples: Samples;
  /** Largest size of a row's gradient, in units of the loss. */
  readonly heaviest: number;
}

/** What a checkpoint keeps of a learner, beside its parameters and moments. */
export interface LearnerState {
  readonly updates: number;
  readonly lossScale: LossScaleState;
}

/** Policy or critic while they are trained: programs of their objective, optimiser, loss scale. */
export class Learner {
  readonly #optimizer: Optimizer;
  readonly #programs: LossPrograms;
  readonly #lossScale: LossScale;

  private constructor(optimizer: Optimizer, programs: LossPrograms, lossScale: LossScale) {
    this.#optimizer = optimizer;
    this.#programs = programs;
    this.#lossScale = lossScale;
  }

  /** Starts with moments of zero. */
  static async create(
    model: LanguageModel,
    chunks: readonly AdamWChunk[],
    options: AdamWOptions,
    loss: LossOptions,
    state?: LearnerState,
  ): Promise<Learner> {
    const optimizer = await Optimizer.create(model, chunks, options);
    optimizer.updates = state?.updates ?? 0;
    return new Learner(optimizer, new LossPrograms(model, loss), new LossScale(model.operand, state?.lossScale));
  }

  get state(): LearnerState {
    return { updates: this.#optimizer.updates, lossScale: this.#lossScale.state };
  }

  prepare(trie: TokenTrie, samples: number): Promise<{ batch: PackedBatch; program: LossProgram }> {
    return this.#programs.prepare(trie, samples);
  }

  /**
   * One update from micro-batches whose loss is a mean over `tokens`. Before it `look` sees what the programs gave for
   * each, and may refuse the update by false. A non-finite gradient is tried once more at half the loss scale; if that
   * fails too, or where what the programs gave is not finite itself, nothing is learnt: `finite` is false.
   */
  async update(
    batches: readonly SampledBatch[],
    learningRate: number,
    tokens: number,
    look: (results: readonly SampledResult[]) => boolean,
  ): Promise<{ norm: number; finite: boolean; refused: boolean }> {
    let update = { norm: Number.NaN, finite: false };
    for (let attempt = 0; attempt < 2 && !update.finite; attempt++) {
      if (attempt > 0) this.#lossScale.halve();
      const gradScale = this.#lossScale.scaleFor(Math.max(...batches.map(({ heaviest }) => heaviest)));
      this.#optimizer.zeroGradients();
      const running = batches.map(({ batch, program, samples }) =>
        program.runSampled(batch, { gradScale, dropout: 0, seed: 0 }, samples),
      );
      const results = await Promise.all(running);
      if (attempt === 0 && !look(results)) return { ...update, finite: true, refused: true };
      if (!results.every(({ result }) => result.every(Number.isFinite))) return { ...update, refused: false };
      update = await this.#optimizer.step(learningRate, gradScale * tokens);
    }
    if (update.finite) this.#lossScale.good();
    else this.#lossScale.halve();
    return { ...update, refused: false };
  }

  destroy(): void {
    this.#programs.destroy();
    this.#optimizer.destroy();
  }
}

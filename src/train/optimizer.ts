import { type Program, Recorder } from '../gpu/program.js';
import { clear, createTensor, type Tensor } from '../gpu/tensor.js';
import type { LanguageModel } from '../model/language-model.js';
import { type AdamWChunk, adamw } from '../ops/adamw.js';
import { gradNorm } from '../ops/grad-norm.js';

export interface AdamWOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
  /** Gradients are clipped to this global norm; 0 is off. */
  readonly maxGradNorm: number;
  /** lora_B learns at this multiple of the learning rate (LoRA+, https://arxiv.org/abs/2402.12354). */
  readonly loraPlusRatio: number;
}

/** Clipping and AdamW over chunks of parameters, an adapter's or a critic's, as one recorded program. */
export class Optimizer {
  readonly #model: LanguageModel;
  readonly #chunks: readonly AdamWChunk[];
  readonly #options: AdamWOptions;
  readonly #norm: Tensor;
  readonly #step: Program;
  /** Updates made so far; a resumed run, whose moments come from a checkpoint, sets it. */
  updates = 0;

  private constructor(
    model: LanguageModel,
    chunks: readonly AdamWChunk[],
    options: AdamWOptions,
    norm: Tensor,
    step: Program,
  ) {
    this.#model = model;
    this.#chunks = chunks;
    this.#options = options;
    this.#norm = norm;
    this.#step = step;
  }

  /** Starts with moments of zero. */
  static async create(model: LanguageModel, chunks: readonly AdamWChunk[], options: AdamWOptions): Promise<Optimizer> {
    const recorder = new Recorder(model.kernels);
    const ops = model.ops(recorder);
    const norm = createTensor(model.device, 'grad_norm', 'f32', [2]);
    gradNorm(ops, { gradients: chunks.map((chunk) => chunk.gradients), norm });
    for (const chunk of chunks) adamw(ops, chunk, norm);
    const program = await recorder.realise(model.device, model.pool, model.batch.buffer);
    clear(
      model.device,
      chunks.flatMap(({ first, second }) => [first, second]),
    );
    return new Optimizer(model, chunks, options, norm, program);
  }

  zeroGradients(): void {
    clear(
      this.#model.device,
      this.#chunks.map(({ gradients }) => gradients),
    );
  }

  /**
   * One update from the gradients, which are `gradScale` times too large. Gives their norm before clipping; `finite`
   * false means that nothing was changed.
   */
  async step(learningRate: number, gradScale: number): Promise<{ norm: number; finite: boolean }> {
    const { beta1, beta2, epsilon, weightDecay, maxGradNorm, loraPlusRatio } = this.#options;
    const t = this.updates + 1;
    this.#model.batch.write({
      unscale: 1 / gradScale,
      rateA: learningRate,
      rateB: learningRate * loraPlusRatio,
      beta1,
      beta2,
      epsilon,
      decay: weightDecay,
      correction1: 1 - beta1 ** t,
      correction2: 1 - beta2 ** t,
      maxNorm: maxGradNorm,
    });
    this.#step.run();
    const [norm, bad] = new Float32Array(await this.#model.device.read(this.#norm.buffer!, 0, 8));
    if (bad === 0) this.updates = t;
    return { norm, finite: bad === 0 };
  }

  destroy(): void {
    this.#step.destroy();
    this.#model.device.destroyBuffer(this.#norm.buffer!);
  }
}

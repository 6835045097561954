/** What a checkpoint keeps of a loss scale. */
export interface LossScaleState {
  readonly scale: number;
  readonly goodSteps: number;
}

/**
 * Dynamic loss scaling. The scale is what the heaviest row of a step carries into the backward pass, whatever the
 * batch's size and weights, so that f16 gradients neither vanish in large batches nor overflow where one row stands
 * for many people's answers. It halves when a gradient is not finite and doubles after `growthInterval` good steps.
 */
export class LossScale {
  static readonly growthInterval = 500;
  readonly #dynamic: boolean;
  #scale: number;
  #goodSteps = 0;

  constructor(operand: 'f16' | 'f32', state?: LossScaleState) {
    this.#dynamic = operand === 'f16';
    this.#scale = state?.scale ?? (this.#dynamic ? 1024 : 1);
    this.#goodSteps = state?.goodSteps ?? 0;
  }

  get state(): LossScaleState {
    return { scale: this.#scale, goodSteps: this.#goodSteps };
  }

  /** Factor on the gradient of every unit of weight, in a step whose heaviest row has this total edge weight: a power of two. */
  scaleFor(heaviestRow: number): number {
    if (!this.#dynamic) return 1;
    return this.#scale / 2 ** Math.ceil(Math.log2(Math.max(heaviestRow, 1e-30)));
  }

  /** After a gradient that was not finite. */
  halve(): void {
    if (this.#dynamic) this.#scale /= 2;
    this.#goodSteps = 0;
  }

  good(): void {
    if (this.#dynamic && ++this.#goodSteps >= LossScale.growthInterval) {
      this.#scale = Math.min(this.#scale * 2, 2 ** 15);
      this.#goodSteps = 0;
    }
  }
}

/** What a checkpoint keeps of a loss scale. */
export interface LossScaleState {
  readonly scale: number;
  readonly goodSteps: number;
}

/**
 * Dynamic loss scaling. The scale is per unit of supervised weight: an edge of weight w carries w·scale·(p − 1) into
 * the backward pass whatever the batch's size, so that f16 gradients neither vanish in large batches nor overflow in
 * small ones. It halves when a gradient is not finite and doubles after `growthInterval` good steps.
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

  /** The scale for a step whose heaviest row has this total edge weight: the logit gradient itself must fit f16. */
  scaleFor(heaviestRow: number): number {
    if (!this.#dynamic) return 1;
    return Math.min(this.#scale, 2 ** Math.floor(Math.log2(32768 / Math.max(heaviestRow, 1e-30))));
  }

  /** After a gradient that was not finite under scale `used`, which `scaleFor` may have held below the state's. */
  halve(used: number): void {
    if (this.#dynamic) this.#scale = used / 2;
    this.#goodSteps = 0;
  }

  good(): void {
    if (this.#dynamic && ++this.#goodSteps >= LossScale.growthInterval) {
      this.#scale = Math.min(this.#scale * 2, 2 ** 15);
      this.#goodSteps = 0;
    }
  }
}

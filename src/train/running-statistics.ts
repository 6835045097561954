/** What a checkpoint keeps of running statistics. */
export interface RunningState {
  readonly count: number;
  readonly mean: number;
  /** Sum of squared distances from the mean. */
  readonly squares: number;
}

/** Mean and variance over everything seen so far, batch by batch (Chan, Golub and LeVeque 1979). */
export class RunningStatistics {
  #state: RunningState;

  constructor(state: RunningState = { count: 0, mean: 0, squares: 0 }) {
    this.#state = state;
  }

  get state(): RunningState {
    return this.#state;
  }

  /** Population standard deviation. */
  get deviation(): number {
    return Math.sqrt(this.#state.squares / Math.max(1, this.#state.count));
  }

  add(values: readonly number[]): void {
    if (values.length === 0) return;
    const { count, mean, squares } = this.#state;
    const ownMean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const ownSquares = values.reduce((sum, value) => sum + (value - ownMean) ** 2, 0);
    const total = count + values.length;
    const distance = ownMean - mean;
    this.#state = {
      count: total,
      mean: mean + (distance * values.length) / total,
      squares: squares + ownSquares + (distance ** 2 * count * values.length) / total,
    };
  }

  /** (value − mean) / deviation. */
  normalise(value: number): number {
    return (value - this.#state.mean) / (this.deviation + 1e-8);
  }
}

/** The checkpoint that is there for a run that is killed: each takes the place of the one before. */
export const latestCheckpoint = 'latest';

/** Of the checkpoint after so many steps. */
export function checkpointName(step: number): string {
  return `step-${String(step).padStart(6, '0')}`;
}

/** When a run writes checkpoints, of an interrupt and of its best evaluation apart. */
export interface CheckpointOptions {
  /** One every so many steps and at the last, each kept; 0: none. */
  readonly saveSteps: number;
  /** One, in place of the one before, where the last of any kind is so many minutes old; 0: none. */
  readonly saveMinutes: number;
}

/** Tells after each step which checkpoint is due; which are, and how often, changes nothing of what is learnt. */
export class CheckpointSchedule {
  readonly #options: CheckpointOptions;
  readonly #total: number;
  #written = performance.now();

  /** Of a run of `total` steps. */
  constructor(options: CheckpointOptions, total: number) {
    this.#options = options;
    this.#total = total;
  }

  /** The name of the checkpoint that is due after `step`, if one is. */
  due(step: number): string | null {
    const { saveSteps, saveMinutes } = this.#options;
    if (saveSteps > 0 && (step % saveSteps === 0 || step === this.#total)) return checkpointName(step);
    const isOld = saveMinutes > 0 && performance.now() - this.#written >= 60_000 * saveMinutes;
    return isOld && step < this.#total ? latestCheckpoint : null;
  }

  /** A checkpoint has been written now. */
  written(): void {
    this.#written = performance.now();
  }
}

import type { MemoryLimit, PlanTarget } from './memory.js';
import type { Mend } from './plan-mends.js';
import type { OpenDevice } from './session.js';

/** A run whose options and data have been read. */
export interface PlanSubject {
  /** What runs with the model, in words. */
  readonly describe: string;
  readonly plan: (target: PlanTarget, limit: MemoryLimit) => PlanOutcome;
}

/** What a run comes to on a device. */
export interface PlanOutcome {
  readonly fits: boolean;
  /** Bytes. */
  readonly total: number;
  /** The table. */
  readonly lines: readonly string[];
  /** What --json has of it. */
  readonly record: Record<string, unknown>;
  /** Changes under which it would fit `limit` bytes. */
  readonly mends: (limit: number) => readonly Mend[];
  /** Work and time in words, and what --json has of them; `open` is null where the device is not here or too small. */
  readonly time: (open: OpenDevice | null) => Promise<{ lines: readonly string[]; record: Record<string, unknown> }>;
}

import type { Estimate, SignedRankTest } from './statistics.js';
import { none, pValue } from './table-text.js';

/** A table of a study, for the terminal and the report alike. */
export interface StudyTable {
  readonly title: string;
  /** What a reader must know of its columns. */
  readonly note: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** Mean, and interval where there is one to show. */
export function cells(estimate: Estimate | null | undefined, show: (value: number) => string): [string, string] {
  if (!estimate || estimate.n === 0) return [none, none];
  return [show(estimate.mean), `[${show(estimate.low)}, ${show(estimate.high)}]`];
}

/** The same with p; of means over several seeds, and of nothing, there is none. */
export function gainCells(
  gain: (Estimate & { readonly test: SignedRankTest | null }) | null | undefined,
  show: (value: number) => string,
): [string, string, string] {
  return [...cells(gain, show), gain && gain.n > 0 && gain.test ? pValue(gain.test) : none];
}

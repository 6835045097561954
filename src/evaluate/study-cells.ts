import { pValue } from './report.js';
import type { Estimate, SignedRankTest } from './statistics.js';

/** A table of a study, for the terminal and the report alike. */
export interface StudyTable {
  readonly title: string;
  /** What a reader must know of its columns. */
  readonly note: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** Of a share. */
export const percent = (share: number) => (100 * share).toFixed(1);
/** Of a difference of shares, with its sign. */
export const points = (share: number) => signed(100 * share, 1);
export const three = (value: number) => value.toFixed(3);
export const rate = (value: number) => signed(value, 3);
/** In the place of what is not known. */
export const none = '–';

/** With + above zero, and no sign where nothing is left of it. */
export function signed(value: number, digits: number): string {
  const text = value.toFixed(digits);
  return value > 0 && Number(text) !== 0 ? `+${text}` : text.replace(/^-(0\.?0*)$/, '$1');
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

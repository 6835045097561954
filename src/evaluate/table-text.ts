// Numbers, tests and counts as the tables of the terminal and of reports show them.

import type { Estimate, SignedRankTest } from './statistics.js';

/** A table, for the terminal and reports alike. */
export interface Table {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** In the place of what is not known. */
export const none = '–';

/** Of nothing there is no mean; JSON has null for it. */
export const fixed = (value: number, digits: number) => (Number.isFinite(value) ? value.toFixed(digits) : none);

/** With + above zero, and no sign where nothing is left of it. */
export function signed(value: number, digits: number): string {
  const text = fixed(value, digits);
  return Number(text) > 0 ? `+${text}` : text.replace(/^-(0\.?0*)$/, '$1');
}

/** Of a share of 1, in percent. */
export const percent = (share: number) => (100 * share).toFixed(1);
/** Of a difference of shares, with its sign. */
export const points = (share: number) => signed(100 * share, 1);
/** Of a correlation, a reward, a distance. */
export const three = (value: number) => fixed(value, 3);
/** Of a difference of these, with its sign. */
export const signedThree = (value: number) => signed(value, 3);

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

/** Mean, interval, p where there is a test, and n, under two names. */
export function estimateRow(
  name: string,
  what: string,
  estimate: Estimate & { readonly test?: SignedRankTest },
  show: (value: number) => string,
): string[] {
  const { n, test } = estimate;
  return [name, what, ...cells(estimate, show), test ? pValue(test) : '', String(n)];
}

/** What a gain or change is of: the last model against the first. */
export function lastOverFirst(runs: readonly { readonly name: string }[]): string {
  return `${runs[runs.length - 1].name} over ${runs[0].name}`;
}

/** What a reader must know of every p. */
export const testNote =
  'p is of Wilcoxon’s signed-rank test, not corrected for the number of tests; the n in its brackets is that of the differences that are not zero, where the test leaves zeros out.';

/** The p of a test, for a table, and the test's own n where it left out differences of zero. */
export function pValue(test: SignedRankTest): string {
  return `${pAlone(test)}${test.zeros > 0 ? ` (n ${test.n})` : ''}`;
}

/** Without that n. */
export function pAlone({ p }: SignedRankTest): string {
  return p < 0.001 ? '<0.001' : p.toFixed(3);
}

/** What an import counted, in words: "1,200 rows, 300 cues". */
export function describeCounts(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .map(([name, n]) => `${n.toLocaleString('en-US')} ${name}`)
    .join(', ');
}

/** What an import left out and why, in words. */
export function describeDropped(dropped: Readonly<Record<string, number>>): string {
  return describeCounts(Object.fromEntries(Object.entries(dropped).filter(([, n]) => n > 0))) || 'nothing';
}

/** A table's lines; its first column says nothing again that it says in the line above. */
export function alignTable({ head, rows }: Table): string[] {
  const once = rows.map((row, i) => (row[0] === rows[i - 1]?.[0] ? ['', ...row.slice(1)] : row));
  return alignColumns([head, ...once], 2);
}

/** Lines of equally wide columns, the first `left` of them flush left, the others right. */
export function alignColumns(rows: readonly (readonly string[])[], left: number): string[] {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row) =>
    row.map((cell, i) => (i < left ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  '),
  );
}

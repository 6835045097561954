// Cells and small blocks that the sections of a report share.

import type { Cell, ReportBlock } from './report-document.js';
import type { Base } from './result.js';
import type { Estimate } from './statistics.js';
import { none } from './table-text.js';

export const interval = ({ low, high, n }: Estimate, show: (value: number) => string) =>
  n > 0 ? `${show(low)} to ${show(high)}` : none;

/** What a gain or change is of: the last model against the first. */
export function lastOverFirst(runs: readonly { readonly name: string }[]): string {
  return `${runs[runs.length - 1].name} over ${runs[0].name}`;
}

/** Which weights answered; results of before `quantize` was recorded lack it. */
export function describeBase({ model, quantize = 'none' }: Pick<Base, 'model'> & Partial<Base>): string {
  return quantize === 'none' ? model : `${model} in ${quantize}`;
}

export function table(head: readonly string[], rows: readonly (readonly Cell[])[]): ReportBlock {
  return { kind: 'table', head, rows };
}

// Cells and small blocks that the sections of a report share.

import type { Cell, ReportBlock } from './report-document.js';
import type { Base } from './result.js';

/** Which weights answered; results of before `quantize` was recorded lack it. */
export function describeBase({ model, quantize = 'none' }: Pick<Base, 'model'> & Partial<Base>): string {
  return quantize === 'none' ? model : `${model} in ${quantize}`;
}

export function table(head: readonly string[], rows: readonly (readonly Cell[])[]): ReportBlock {
  return { kind: 'table', head, rows };
}

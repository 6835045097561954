/** A report as data: what it says, before it is HTML or Markdown. */
export interface ReportDocument {
  readonly title: string;
  /** ISO 8601. */
  readonly created: string;
  readonly sections: readonly ReportSection[];
}

export interface ReportSection {
  readonly title: string;
  readonly blocks: readonly ReportBlock[];
}

export type ReportBlock =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'code'; readonly text: string }
  | { readonly kind: 'table'; readonly head: readonly string[]; readonly rows: readonly (readonly Cell[])[] }
  | { readonly kind: 'chart'; readonly chart: Chart };

/** A cell of a table: text, or words of which some stand out. */
export type Cell = string | readonly { readonly text: string; readonly strong: boolean }[];

/** Lines over numbers, or grouped bars over names. */
export interface Chart {
  readonly type: 'line' | 'bar';
  readonly title: string;
  readonly x: { readonly title: string; readonly values: readonly (number | string)[] };
  readonly y: { readonly title: string; readonly min?: number; readonly max?: number };
  readonly series: readonly ChartSeries[];
}

export interface ChartSeries {
  readonly name: string;
  /** What people answer, not a model. */
  readonly people?: boolean;
  /** Of a model: which of the looks it has, of six colours, then the same in two other strokes; by default its place. */
  readonly look?: number;
  /** One a value of x; null for a gap. */
  readonly values: readonly (number | null)[];
  /** Bounds of an interval around a line. */
  readonly low?: readonly number[];
  readonly high?: readonly number[];
}

/** The report as Markdown; a chart becomes the table of its numbers. */
export function toMarkdown({ title, created, sections }: ReportDocument): string {
  const parts = [`# ${plain(title)}`, `Made ${created} by lexalign.`];
  for (const section of sections) {
    parts.push(`## ${plain(section.title)}`);
    for (const block of section.blocks) {
      if (block.kind === 'text') parts.push(plain(block.text));
      else if (block.kind === 'code') parts.push(fence(block.text));
      else if (block.kind === 'table') parts.push(markdownTable(block.head, block.rows));
      else parts.push(`**${plain(block.chart.title)}**`, chartTable(block.chart));
    }
  }
  return `${parts.join('\n\n')}\n`;
}

function chartTable({ x, series }: Chart): string {
  const show = (value: number | null) => (value === null ? '' : String(Number(value.toPrecision(4))));
  const rows = x.values.map((value, i) => [String(value), ...series.map(({ values }) => show(values[i]))]);
  return markdownTable([x.title, ...series.map(({ name }) => name)], rows);
}

function markdownTable(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const cell = (value: Cell) =>
    typeof value === 'string'
      ? plain(value)
      : value.map(({ text, strong }) => (strong ? `**${plain(text)}**` : plain(text))).join(', ');
  const line = (cells: readonly Cell[]) => `| ${cells.map(cell).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

/** Text that means nothing to Markdown. */
function plain(text: string): string {
  return text.replace(/[\\`*_|<>[\]]/g, '\\$&').replace(/\s*\n\s*/g, ' ');
}

function fence(text: string): string {
  const ticks = '`'.repeat(Math.max(3, ...[...text.matchAll(/`+/g)].map(([run]) => run.length + 1)));
  return `${ticks}\n${text}\n${ticks}`;
}

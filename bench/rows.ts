import { quantile } from '../src/evaluate/statistics.js';
import type { Ceilings } from './ceilings.js';
import type { Measured } from './measure.js';

/** One measured line of a bench. */
export interface BenchRow {
  readonly operation: string;
  /** "MxNxK" of a matmul; what the operation's own bench says otherwise. */
  readonly shape: string;
  readonly tier: string;
  readonly variant: string;
  /** Median over repetitions of one run. */
  readonly median_ms: number;
  /** Interquartile range over the median. */
  readonly spread: number;
  readonly gflops: number;
  readonly gbps: number;
  /** Of the device's own measured ceiling: of arithmetic or of bandwidth, whichever is nearer; null where neither was measured. */
  readonly share: number | null;
  /** Name of the peer measured beside it in the same run, null for none. */
  readonly peer: string | null;
  readonly peer_gflops: number | null;
  /** Ours over the peer's. */
  readonly ratio: number | null;
  /** Of rollouts; of a step also what the host needs to submit it, median. */
  readonly tokens_per_second?: number;
  readonly host_ms?: number;
}

export interface BenchReport {
  readonly device: string;
  readonly adapter: Readonly<Record<string, unknown>>;
  readonly ceilings: Ceilings;
  readonly commit: string | null;
  readonly date: string;
  readonly rows: readonly BenchRow[];
  /** Time of one step by operation, as a printed table. */
  readonly profile?: readonly string[];
  /** Figures of a whole step. */
  readonly summary?: Readonly<Record<string, number | string>>;
}

/** A line of what was measured and of the work in it. */
export function benchRow(
  what: Pick<BenchRow, 'operation' | 'shape' | 'tier' | 'variant'>,
  { ms, spread, peerMs }: Measured,
  work: { readonly flops: number; readonly bytes: number },
  peer: string | null,
): BenchRow {
  const gflops = work.flops / ms / 1e6;
  const peerGflops = peerMs === null ? null : work.flops / peerMs / 1e6;
  return {
    ...what,
    median_ms: ms,
    spread,
    gflops,
    gbps: work.bytes / ms / 1e6,
    share: null,
    peer: peerMs === null ? null : peer,
    peer_gflops: peerGflops,
    ratio: peerGflops === null ? null : gflops / peerGflops,
  };
}

/** The row with its share of the device's ceiling: what its work takes at least, over what it took. */
export function withShare(row: BenchRow, { copy_gbps, f32_gflops, matrix_gflops }: Ceilings): BenchRow {
  // Without matrix units arithmetic is in f32, whatever the operands' type.
  const peak = Math.max(f32_gflops, ...(row.tier === 'tensor' ? Object.values(matrix_gflops) : []));
  return { ...row, share: Math.max(row.gflops / peak, row.gbps / copy_gbps) };
}

/** The row beside a peer's time of the same work, in ms by "OPERATION SHAPE" or "OPERATION SHAPE VARIANT". */
export function withPeer(row: BenchRow, peer: string, times: ReadonlyMap<string, number>): BenchRow {
  const what = `${row.operation} ${row.shape}`;
  const ms = times.get(what) ?? times.get(`${what} ${row.variant}`);
  if (ms === undefined) return row;
  const gflops = (row.gflops * row.median_ms) / ms;
  return { ...row, peer, peer_gflops: gflops, ratio: row.median_ms === 0 ? null : ms / row.median_ms };
}

export function median(values: readonly number[]): number {
  return quantile(Float64Array.from(values).sort(), 0.5);
}

/** Interquartile range over the median. */
export function spread(values: readonly number[]): number {
  const ascending = Float64Array.from(values).sort();
  return (quantile(ascending, 0.75) - quantile(ascending, 0.25)) / quantile(ascending, 0.5);
}

/** A Markdown table of the rows. */
export function formatRows(rows: readonly BenchRow[]): string[] {
  const ofTokens = rows.some((r) => r.tokens_per_second !== undefined);
  const cells = rows.map((r) => [
    r.operation,
    r.shape,
    r.tier,
    r.variant,
    r.median_ms.toFixed(3),
    `${(100 * r.spread).toFixed(0)} %`,
    r.gflops.toFixed(2),
    r.gbps.toFixed(2),
    r.share === null ? '' : r.share.toFixed(2),
    r.peer === null ? '' : `${r.peer} ${r.peer_gflops?.toFixed(2)}`,
    r.ratio === null ? '' : r.ratio.toFixed(2),
    ...(ofTokens ? [r.tokens_per_second?.toFixed(r.tokens_per_second < 100 ? 1 : 0) ?? ''] : []),
    ...(ofTokens ? [r.host_ms?.toFixed(2) ?? ''] : []),
  ]);
  const head = [
    'operation',
    'shape',
    'tier',
    'variant',
    'ms',
    'spread',
    'GFLOP/s',
    'GB/s',
    'share',
    'peer GFLOP/s',
    'ratio',
    ...(ofTokens ? ['tokens/s', 'host ms'] : []),
  ];
  const widths = head.map((h, i) => Math.max(h.length, ...cells.map((row) => row[i].length)));
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, i) => (i < 4 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join(' | ')} |`;
  return [
    line(head),
    `|${widths.map((w, i) => (i < 4 ? '-'.repeat(w + 2) : `${'-'.repeat(w + 1)}:`)).join('|')}|`,
    ...cells.map(line),
  ];
}

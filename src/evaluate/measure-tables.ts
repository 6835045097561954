// Tables of the measures, for the terminal and reports alike; that of the survey stands in survey-tables.ts.

import type { AffectSummary } from './affect.js';
import type { RankingGain, RankingSummary } from './ranking-summary.js';
import type { SideEffects, sideEffectChange } from './side-effects.js';
import type { Estimate } from './statistics.js';
import {
  cells,
  estimateRow,
  fixed,
  gainCells,
  lastOverFirst,
  none,
  percent,
  points,
  pValue,
  signed,
  signedThree,
  type Table,
  three,
} from './table-text.js';

type Named<Summary> = readonly (Summary & { readonly name: string })[];

/** Spearman's correlation, and what people's own order scores, which results of before it was told lack. */
export function spearmanRows(
  name: string,
  { spearman, attainable }: { readonly spearman: Estimate | null; readonly attainable: number | null },
  without: string,
): string[][] {
  if (!spearman) return [[name, 'Spearman', without, '', '', '0']];
  const most = typeof attainable === 'number' ? [three(attainable), '', '', String(spearman.n)] : null;
  return [
    estimateRow(name, 'Spearman', spearman, three),
    ...(most ? [[name, 'Spearman of people’s order', ...most]] : []),
  ];
}

/** Form and order of rankings, and the gain of the last model over the first. */
export function rankingTable(runs: Named<RankingSummary>, gain: RankingGain | null): Table {
  const rows = runs.flatMap(({ name, parsed, whole, reward, ...order }) => [
    estimateRow(name, 'read, %', parsed, percent),
    estimateRow(name, 'whole, %', whole, percent),
    ...spearmanRows(name, order, 'no whole ranking'),
    estimateRow(name, 'reward', reward, three),
  ]);
  const of = `gain of ${lastOverFirst(runs)}`;
  if (gain?.spearman) rows.push(estimateRow(of, 'Spearman', gain.spearman, signedThree));
  if (gain) rows.push(estimateRow(of, 'reward', gain.reward, signedThree));
  return { head: ['model', 'measure', 'mean', '95 % interval', 'p', 'cues'], rows };
}

/** Perplexity and instructions followed, and how the last model's differ from the first's. */
export function sideEffectsTable(runs: Named<SideEffects>, change: ReturnType<typeof sideEffectChange> | null): Table {
  const rows = runs.flatMap(({ name, perplexity, followed }) => [
    estimateRow(name, 'perplexity', perplexity, (value) => value.toFixed(2)),
    estimateRow(name, 'instructions followed, %', followed, percent),
  ]);
  const of = `change, ${lastOverFirst(runs)}`;
  if (change) rows.push(estimateRow(of, 'perplexity, times', change.perplexityFactor, three));
  if (change) rows.push(estimateRow(of, 'instructions followed, points', change.followed, points));
  return { head: ['model', 'measure', 'value', '95 % interval', 'p', 'n'], rows };
}

/** Ratings of people's associates and of each run's, and by how much the last came nearer to people than the first. */
export function affectTable(dimensions: readonly AffectSummary[], names: readonly string[]): Table {
  const two = (value: number) => fixed(value, 2);
  const rows = dimensions.flatMap(({ dimension, human, runs }) => [
    [dimension, 'people', percent(human.coverage), ...cells(human.mean, two), '', '', String(human.mean.n)],
    ...runs.map(({ coverage, mean, distance, test }, i) => {
      const p = mean.n > 0 ? pValue(test) : none;
      return [dimension, names[i], percent(coverage), ...cells(mean, two), cells(distance, two)[0], p, String(mean.n)];
    }),
    ...runs.flatMap(({ change }, i) => {
      if (!change) return [];
      const [nearer, interval, p] = gainCells(change.nearer, (value) => signed(value, 2));
      const what = `nearer to people by, ${names[i]} over ${names[0]}`;
      return [[dimension, what, '', nearer, interval, '', p, String(change.nearer.n)]];
    }),
  ]);
  return { head: ['dimension', 'who', 'coverage, %', 'mean', '95 % interval', 'distance', 'p', 'n'], rows };
}

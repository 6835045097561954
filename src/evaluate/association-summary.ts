import { aboveOther, type CueScore } from './association.js';
import { bootstrapGain, bootstrapMean, type Estimate, type Gain, meanOrNull } from './statistics.js';
import { alignColumns, pAlone, percent, points, three } from './table-text.js';

/** What one model makes of a set of cues. P@K in shares of 1. */
export interface AssociationSummary {
  /** Cues scored. */
  readonly n: number;
  readonly precision: readonly { readonly k: number; readonly own: Estimate; readonly other: Estimate }[];
  /** Over the `n` cues with at least three shared words, not all of one count; null where there is none. */
  readonly spearman: Estimate | null;
  /** Mean over the same cues of what the same words would score in people's order; null where there is none. */
  readonly attainable: number | null;
  /** Answers that declined to give words. */
  readonly refused: number;
  /** Answers without any word, refusals aside. */
  readonly empty: number;
  /** Words of all answers that were given again, and not counted. */
  readonly repeated: number;
}

/** Gains of one model over another on the same cues. */
export interface AssociationGain {
  readonly k: number;
  /** P@K against the own list. */
  readonly own: Gain;
  /** P@K against another cue's list. */
  readonly other: Gain;
  readonly aboveOther: Gain;
}

/** Means with bootstrap 95 % intervals over cues; `ks` as given to `scoreAssociations`. */
export function summarizeAssociations(
  scores: readonly CueScore[],
  ks: readonly number[],
  seed = 42,
): AssociationSummary {
  const correlations = scores.flatMap(({ spearman }) => (spearman === null ? [] : [spearman]));
  return {
    n: scores.length,
    precision: ks.map((k, i) => ({
      k,
      own: bootstrapMean(
        scores.map(({ precision }) => precision[i]),
        seed,
      ),
      other: bootstrapMean(
        scores.map(({ otherPrecision }) => otherPrecision[i]),
        seed,
      ),
    })),
    spearman: correlations.length === 0 ? null : bootstrapMean(correlations, seed),
    attainable: meanOrNull(scores.flatMap(({ attainable }) => attainable ?? [])),
    refused: scores.filter(({ refused }) => refused).length,
    empty: scores.filter(({ refused, predictions }) => !refused && predictions.length === 0).length,
    repeated: scores.reduce((sum, { repeated }) => sum + repeated, 0),
  };
}

/** Gains from `base` to `adapter`, the same cues in the same order: a paired bootstrap over cues, and a signed-rank test. */
export function associationGains(
  base: readonly CueScore[],
  adapter: readonly CueScore[],
  ks: readonly number[],
  seed = 42,
): AssociationGain[] {
  const gain = (measure: (score: CueScore) => number) => bootstrapGain(base.map(measure), adapter.map(measure), seed);
  return ks.map((k, i) => ({
    k,
    own: gain(({ precision }) => precision[i]),
    other: gain(({ otherPrecision }) => otherPrecision[i]),
    aboveOther: gain((score) => aboveOther(score, i)),
  }));
}

/** One block of the comparison table. */
export interface Comparison {
  readonly title: string;
  readonly base: AssociationSummary;
  readonly adapter: AssociationSummary;
  readonly gains: readonly AssociationGain[];
}

/** The table of one model: P@K in percent and Spearman's correlation, each with its 95 % interval, for a terminal. */
export function formatSummary({
  precision,
  spearman,
  attainable,
  n,
  refused,
  empty,
  repeated,
}: AssociationSummary): string[] {
  const rows: string[][] = [['', 'mean', '95 % interval', 'n']];
  const add = (name: string, { mean, low, high, n: count }: Estimate, show: (value: number) => string) =>
    rows.push([name, show(mean), `[${show(low)}, ${show(high)}]`, String(count)]);
  for (const { k, own, other } of precision) {
    add(`P@${k} own list, %`, own, percent);
    add(`P@${k} other list, %`, other, percent);
  }
  if (spearman) add('Spearman', spearman, three);
  else rows.push(['Spearman', '-', `no cue of ${n} with three shared words of unequal counts`, '0']);
  if (spearman && attainable !== null)
    rows.push(['Spearman of people’s order', three(attainable), '', String(spearman.n)]);
  const without = [
    refused > 0 ? `${refused} refusals` : '',
    empty > 0 ? `${empty} without any word` : '',
    repeated > 0 ? `${repeated} words given again` : '',
  ].filter(Boolean);
  return [...alignColumns(rows, 1), ...(without.length > 0 ? [`in ${n} answers: ${without.join(', ')}`] : [])];
}

/**
 * The table of two models in percent, called by `names`, and of the gain in points with its 95 % interval and p of
 * Wilcoxon's test, for a terminal; a line a string.
 */
export function formatComparisons(
  comparisons: readonly Comparison[],
  names: readonly [string, string] = ['base', 'adapter'],
): string[] {
  const rows: string[][] = [['', '', ...names, 'gain', '95 % interval', 'p', 'n']];
  for (const { title, base, adapter, gains } of comparisons) {
    gains.forEach((gain, i) => {
      const [before, after] = [base.precision[i], adapter.precision[i]];
      const line = (label: string, name: string, from: number, to: number, { mean, low, high, n, test }: Gain) => {
        const shares = [from, to].map(percent);
        const interval = `[${points(low)}, ${points(high)}]`;
        rows.push([label, name, ...shares, points(mean), interval, pAlone(test), String(n)]);
      };
      line(i === 0 ? title : '', `P@${gain.k} own list`, before.own.mean, after.own.mean, gain.own);
      line('', `P@${gain.k} other list`, before.other.mean, after.other.mean, gain.other);
      const above = [before, after].map(({ own, other }) => own.mean - other.mean);
      line('', `P@${gain.k} own − other`, above[0], above[1], gain.aboveOther);
    });
  }
  return alignColumns(rows, 2);
}

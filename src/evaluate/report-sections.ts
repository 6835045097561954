import { wordKey } from './association.js';
import type { AssociationSummary } from './association-summary.js';
import { describeBase, interval, lastOverFirst, table } from './report-cells.js';
import { histogram } from './report-charts.js';
import type { Cell, Chart, ReportBlock, ReportSection } from './report-document.js';
import type { AffectResult, AssociationResult, RankingResult, SideEffectsResult } from './result.js';
import type { Gain } from './statistics.js';
import type { StudyResult } from './study.js';
import { studyTables } from './study-tables.js';
import {
  describeCounts,
  describeDropped,
  fixed,
  percent,
  points,
  pValue,
  signed,
  signedThree,
  testNote,
  three,
} from './table-text.js';

/** Cues that are shown side by side, and words of each. */
const shown = { cues: 12, words: 8 };

/** P@K as table and curves, Spearman, and answers side by side. */
export function associationSection({
  language,
  norms,
  ks,
  human,
  runs,
  gains,
  ...base
}: AssociationResult): ReportSection {
  const rows = runs.flatMap(({ name, precision, spearman, attainable, refused, empty, repeated, n }) => [
    ...precision.flatMap(({ k, own, other }) => [
      [name, `P@${k}, %`, percent(own.mean), interval(own, percent), percent(other.mean), String(own.n)],
    ]),
    spearman
      ? [name, 'Spearman', three(spearman.mean), interval(spearman, three), '', String(spearman.n)]
      : [name, 'Spearman', 'no cue with three shared words of unequal counts', '', '', '0'],
    ...attainableRow(name, { spearman, attainable }),
    ...(refused + empty + repeated > 0
      ? [
          [
            name,
            'refusals; answers without a word; words given again',
            `${refused}; ${empty}; ${repeated}`,
            '',
            '',
            String(n),
          ],
        ]
      : []),
  ]);
  const change = (gains ?? []).map(({ k, own, aboveOther }) => [
    `P@${k}, points`,
    points(own.mean),
    interval(own, points),
    pValue(own.test),
    points(aboveOther.mean),
    interval(aboveOther, points),
    pValue(aboveOther.test),
    String(own.n),
  ]);
  const curves: Chart = {
    type: 'line',
    title: 'P@K with 95 % intervals',
    x: { title: 'K', values: ks },
    y: { title: 'P@K, %', min: 0 },
    series: runs.map(({ name, precision }) => ({
      name,
      values: precision.map(({ own }) => 100 * own.mean),
      low: precision.map(({ own }) => 100 * own.low),
      high: precision.map(({ own }) => 100 * own.high),
    })),
  };
  const examples = human.slice(0, shown.cues).map(({ cue, words }, i): Cell[] => {
    const known = new Set(words.map(wordKey));
    return [
      cue,
      words.slice(0, shown.words).map((text) => ({ text, strong: false })),
      ...runs.map(({ cues }) =>
        cues[i].predictions.slice(0, shown.words).map((text) => ({ text, strong: known.has(text) })),
      ),
    ];
  });
  return {
    title: `Associations (${language})`,
    blocks: [
      {
        kind: 'text',
        text: `${human.length} cues of ${norms}, asked of ${describeBase(base)}. "Other list" is P@K against another cue's list. Spearman of people’s order: the most that the same words can score, as words of one count share a rank.${change.length > 0 ? ` ${testNote}` : ''}`,
      },
      { kind: 'table', head: ['model', 'measure', 'mean', '95 % interval', 'other list', 'n'], rows },
      ...(change.length > 0
        ? [
            table(
              [
                `gain of ${lastOverFirst(runs)}`,
                'own list',
                '95 % interval',
                'p',
                'own − other',
                '95 % interval',
                'p',
                'n',
              ],
              change,
            ),
          ]
        : []),
      { kind: 'chart', chart: curves },
      { kind: 'text', text: `What people and models answer to the first cues; what stands out is on people's list.` },
      table(['cue', 'people', ...runs.map(({ name }) => name)], examples),
    ],
  };
}

/** What people's own order scores; results of before it was told lack it. */
function attainableRow(
  name: string,
  { spearman, attainable }: Pick<AssociationSummary, 'spearman' | 'attainable'>,
): string[][] {
  if (spearman === null || typeof attainable !== 'number') return [];
  return [[name, 'Spearman of people’s order', three(attainable), '', '', String(spearman.n)]];
}

/** Ratings of associates: means, distances, tests, and how the medians are spread. */
export function affectSection({ language, dimensions, run_names, cues }: AffectResult): ReportSection {
  const two = (value: number) => fixed(value, 2);
  const rows = dimensions.flatMap(({ dimension, human, runs }) => [
    [
      dimension,
      'people',
      percent(human.coverage),
      two(human.mean.mean),
      interval(human.mean, two),
      '',
      '',
      String(human.mean.n),
    ],
    ...runs.map(({ coverage, mean, distance, test }, i) => [
      dimension,
      run_names[i].name,
      percent(coverage),
      two(mean.mean),
      interval(mean, two),
      two(distance.mean),
      mean.n > 0 ? pValue(test) : '–',
      String(mean.n),
    ]),
    ...runs.flatMap(({ change }, i) =>
      change
        ? [
            [
              dimension,
              `nearer to people by, ${run_names[i].name} over ${run_names[0].name}`,
              '',
              signed(change.nearer.mean, 2),
              interval(change.nearer, (v) => signed(v, 2)),
              '',
              change.nearer.n > 0 ? pValue(change.nearer.test) : '–',
              String(change.nearer.n),
            ],
          ]
        : [],
    ),
  ]);
  return {
    title: `Affect and concreteness (${language})`,
    blocks: [
      {
        kind: 'text',
        text: `Median rating of the first associates of each of ${cues.length} cues; p of runs against people. ${testNote}`,
      },
      table(['dimension', 'who', 'coverage, %', 'mean', '95 % interval', 'distance', 'p', 'n'], rows),
      ...dimensions.map(({ dimension, human, runs }): ReportBlock => {
        const series = [
          { name: 'people', people: true, medians: human.medians },
          ...runs.map(({ medians }, i) => ({ name: run_names[i].name, medians })),
        ];
        if (series.every(({ medians }) => medians.every((median) => median === null)))
          return { kind: 'text', text: `Medians of the cues: ${dimension}: no rated words.` };
        return { kind: 'chart', chart: histogram(`Medians of the cues: ${dimension}`, dimension, series) };
      }),
    ],
  };
}

/** Form and order of rankings, and the gain of the last model over the first. */
export function rankingSection({ language, questions, runs, gain, ...base }: RankingResult): ReportSection {
  const rows = runs.flatMap(({ name, parsed, whole, spearman, attainable, reward }) => [
    [name, 'read, %', percent(parsed.mean), interval(parsed, percent), '', String(parsed.n)],
    [name, 'whole, %', percent(whole.mean), interval(whole, percent), '', String(whole.n)],
    spearman
      ? [name, 'Spearman', three(spearman.mean), interval(spearman, three), '', String(spearman.n)]
      : [name, 'Spearman', 'no whole ranking', '', '', '0'],
    ...attainableRow(name, { spearman, attainable }),
    [name, 'reward', three(reward.mean), interval(reward, three), '', String(reward.n)],
  ]);
  if (gain) {
    const row = (what: string, own: Gain) =>
      rows.push([
        `gain of ${lastOverFirst(runs)}`,
        what,
        signedThree(own.mean),
        interval(own, signedThree),
        pValue(own.test),
        String(own.n),
      ]);
    if (gain.spearman) row('Spearman', gain.spearman);
    row('reward', gain.reward);
  }
  return {
    title: `Rankings (${language})`,
    blocks: [
      {
        kind: 'text',
        text: `Questions of ${questions}, asked of ${describeBase(base)}. Read: answers with a ranking; whole: every word once and no other; Spearman: with people's order, over whole rankings alone; of people’s order: the most that these can score, as words of one count share a rank; reward: that, −1 for what is not whole. n: cues.${gain ? ` ${testNote}` : ''}`,
      },
      table(['model', 'measure', 'mean', '95 % interval', 'p', 'n'], rows),
    ],
  };
}

export function sideEffectsSection({ language, runs, change, ...base }: SideEffectsResult): ReportSection {
  const two = (value: number) => value.toFixed(2);
  const rows = runs.flatMap(({ name, perplexity, followed }) => [
    [name, 'perplexity', two(perplexity.mean), interval(perplexity, two), '', String(perplexity.n)],
    [name, 'instructions followed, %', percent(followed.mean), interval(followed, percent), '', String(followed.n)],
  ]);
  if (change) {
    const row = (what: string, own: Gain, show: (value: number) => string) =>
      rows.push([
        `change, ${lastOverFirst(runs)}`,
        what,
        show(own.mean),
        interval(own, show),
        pValue(own.test),
        String(own.n),
      ]);
    row('perplexity, times', change.perplexityFactor, three);
    row('instructions, points', change.followed, points);
  }
  return {
    title: `Side effects (${language})`,
    blocks: [
      {
        kind: 'text',
        text: `General text and simple instructions, ${describeBase(base)}.${change ? ` ${testNote}` : ''}`,
      },
      table(['model', 'measure', 'value', '95 % interval', 'p', 'n'], rows),
    ],
  };
}

/** What a study's data was, and what its import left out. */
export function importsSection({ imports }: StudyResult): ReportSection {
  const rows = imports.flatMap(({ culture, source, files, counts, dropped }) =>
    files.map(({ file, sha256 }, i) => {
      const told = [culture, source, describeCounts(counts), describeDropped(dropped)];
      return [...(i === 0 ? told : told.map(() => '')), file, sha256];
    }),
  );
  return { title: 'Data', blocks: [table(['culture', 'source', 'read', 'left out', 'file', 'SHA-256'], rows)] };
}

/** The tables of a study: every culture's models, models by cultures, and how far these are apart. */
export function studySection(study: StudyResult): ReportSection {
  return {
    title: 'The study',
    blocks: [
      {
        kind: 'text',
        text: `${study.cultures.map(({ name }) => name).join(', ')}; ${describeBase(study)} on ${study.device}. ${testNote}`,
      },
      ...studyTables(study).flatMap(({ title, note, head, rows }): ReportBlock[] => [
        { kind: 'text', text: `${title}. ${note}` },
        table(head, rows),
      ]),
    ],
  };
}

import { wordKey } from './association.js';
import { affectTable, rankingTable, sideEffectsTable, spearmanRows } from './measure-tables.js';
import { histogram, surveyCharts } from './report-charts.js';
import type { Cell, Chart, ReportBlock, ReportSection } from './report-document.js';
import type {
  AffectResult,
  AssociationResult,
  Base,
  RankingResult,
  SideEffectsResult,
  SurveyResult,
} from './result.js';
import type { StudyResult } from './study.js';
import { studyTables } from './study-tables.js';
import {
  answerEffects,
  describeAsking,
  distancesNote,
  earthMoverDistances,
  effectsNote,
  otherDistances,
  surveyLines,
  surveyMovements,
} from './survey-tables.js';
import {
  cells,
  describeCounts,
  describeDropped,
  gainCells,
  lastOverFirst,
  percent,
  points,
  testNote,
} from './table-text.js';

const say = (text: string): ReportBlock => ({ kind: 'text', text });
const tabulate = (table: { head: readonly string[]; rows: readonly (readonly Cell[])[] }): ReportBlock => ({
  kind: 'table',
  ...table,
});

/** Which weights answered; results of before `quantize` was recorded lack it. */
function describeBase({ model, quantize = 'none' }: Pick<Base, 'model'> & Partial<Base>): string {
  return quantize === 'none' ? model : `${model} in ${quantize}`;
}

const failures = 'refusals; answers without a word; words given again';
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
    ...precision.map(({ k, own, other }) => [
      name,
      `P@${k}, %`,
      ...cells(own, percent),
      percent(other.mean),
      String(own.n),
    ]),
    ...spearmanRows(name, { spearman, attainable }, 'no cue with three shared words of unequal counts'),
    ...(refused + empty + repeated > 0
      ? [[name, failures, `${refused}; ${empty}; ${repeated}`, '', '', String(n)]]
      : []),
  ]);
  const change = (gains ?? []).map(({ k, own, aboveOther }) => [
    `P@${k}, points`,
    ...gainCells(own, points),
    ...gainCells(aboveOther, points),
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
      say(
        `${human.length} cues of ${norms}, asked of ${describeBase(base)}. "Other list" is P@K against another cue's list. Spearman of people’s order: the most that the same words can score, as words of one count share a rank.${change.length > 0 ? ` ${testNote}` : ''}`,
      ),
      tabulate({ head: ['model', 'measure', 'mean', '95 % interval', 'other list', 'n'], rows }),
      ...(change.length > 0
        ? [
            tabulate({
              head: [
                `gain of ${lastOverFirst(runs)}`,
                ...['own list', '95 % interval', 'p', 'own − other', '95 % interval', 'p', 'n'],
              ],
              rows: change,
            }),
          ]
        : []),
      { kind: 'chart', chart: curves },
      say(`What people and models answer to the first cues; what stands out is on people's list.`),
      tabulate({ head: ['cue', 'people', ...runs.map(({ name }) => name)], rows: examples }),
    ],
  };
}

/** Ratings of associates: means, distances, tests, and how the medians are spread. */
export function affectSection({ language, dimensions, run_names, cues }: AffectResult): ReportSection {
  const names = run_names.map(({ name }) => name);
  return {
    title: `Affect and concreteness (${language})`,
    blocks: [
      say(
        `Median rating of the first associates of each of ${cues.length} cues; p of runs against people. ${testNote}`,
      ),
      tabulate(affectTable(dimensions, names)),
      ...dimensions.map(({ dimension, human, runs }): ReportBlock => {
        const series = [
          { name: 'people', people: true, medians: human.medians },
          ...runs.map(({ medians }, i) => ({ name: names[i], medians })),
        ];
        if (series.every(({ medians }) => medians.every((median) => median === null)))
          return say(`Medians of the cues: ${dimension}: no rated words.`);
        return { kind: 'chart', chart: histogram(`Medians of the cues: ${dimension}`, dimension, series) };
      }),
    ],
  };
}

/** Form and order of rankings, and the gain of the last model over the first. */
export function rankingSection({ language, questions, runs, gain, ...base }: RankingResult): ReportSection {
  return {
    title: `Rankings (${language})`,
    blocks: [
      say(
        `Questions of ${questions}, asked of ${describeBase(base)}. Read: answers with a ranking; whole: every word once and no other; Spearman: with people's order, over whole rankings alone; of people’s order: the most that these can score, as words of one count share a rank; reward: that, −1 for what is not whole.${gain ? ` ${testNote}` : ''}`,
      ),
      tabulate(rankingTable(runs, gain)),
    ],
  };
}

/** Distances to two countries, the movement, and the answers to the questions of high tension. */
export function surveySection(result: SurveyResult): ReportSection {
  const { language, countries, questions, runs, change } = result;
  const lines = surveyLines(runs);
  return {
    title: `Survey (${language}): ${countries.join(' and ')}`,
    blocks: [
      say(
        `${questions.length} questions asked of ${describeBase(result)}: ${describeAsking(questions, result.prompts.length, result.formats)}. High tension: the questions on which the countries differ most, by Jensen-Shannon distance and earth mover's distance; the paper's code sorts the shares in the latter. Closer by earth mover's distance (EMD: over N − 1; total variation where options have no order).${change ? ` ${testNote}` : ''}`,
      ),
      tabulate(earthMoverDistances(lines, countries)),
      ...(change ? [tabulate(surveyMovements(change, runs))] : []),
      say(distancesNote),
      tabulate(otherDistances(lines, countries)),
      say(effectsNote),
      tabulate(answerEffects(lines)),
      ...surveyCharts(result),
    ],
  };
}

export function sideEffectsSection({ language, runs, change, ...base }: SideEffectsResult): ReportSection {
  return {
    title: `Side effects (${language})`,
    blocks: [
      say(`General text and simple instructions, ${describeBase(base)}.${change ? ` ${testNote}` : ''}`),
      tabulate(sideEffectsTable(runs, change)),
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
  return {
    title: 'Data',
    blocks: [tabulate({ head: ['culture', 'source', 'read', 'left out', 'file', 'SHA-256'], rows })],
  };
}

/** The tables of a study: every culture's models, models by cultures, and how far these are apart. */
export function studySection(study: StudyResult): ReportSection {
  return {
    title: 'The study',
    blocks: [
      say(
        `${study.cultures.map(({ name }) => name).join(', ')}; ${describeBase(study)} on ${study.device}. ${testNote}`,
      ),
      ...studyTables(study).flatMap(({ title, note, ...table }) => [say(`${title}. ${note}`), tabulate(table)]),
    ],
  };
}

import { expect, test } from 'vitest';
import { summarizeAffect } from '../../src/evaluate/affect.js';
import type { CueScore } from '../../src/evaluate/association.js';
import {
  associationGains,
  formatComparisons,
  formatSummary,
  summarizeAssociations,
} from '../../src/evaluate/association-summary.js';
import { surveyCharts } from '../../src/evaluate/report-charts.js';
import { affectSection } from '../../src/evaluate/report-sections.js';
import { averageTries, compareSurveys, type SurveyQuestion } from '../../src/evaluate/survey.js';

const scores = (own: number[], other: number[], spearman: (number | null)[] = []): CueScore[] =>
  own.map((value, i) => ({
    cue: `cue ${i}`,
    predictions: ['word'],
    repeated: 0,
    precision: [value],
    otherPrecision: [other[i]],
    spearman: spearman[i] ?? null,
    attainable: spearman[i] === undefined || spearman[i] === null ? null : 0.7 + spearman[i] / 5,
    refused: false,
  }));

const base = scores([0, 0, 0.2, 0.2], [0, 0, 0, 0.2]);
const adapter = scores([0.4, 0.4, 0.6, 0.6], [0, 0.2, 0, 0.2], [1, null, 0.5, null]);

test('a summary counts cues, and correlations by themselves', () => {
  const summary = summarizeAssociations(adapter, [5]);
  expect(summary.n).toBe(4);
  expect(summary.precision[0].k).toBe(5);
  expect(summary.precision[0].own.mean).toBeCloseTo(0.5, 12);
  expect(summary.precision[0].other.mean).toBeCloseTo(0.1, 12);
  expect(summary.spearman).toMatchObject({ mean: 0.75, n: 2 });
  expect(summarizeAssociations(base, [5]).spearman).toBeNull();
});

test('gains take what another list would give away', () => {
  const [{ own, other, aboveOther }] = associationGains(base, adapter, [5]);
  // All four cues gain: 2 of 16 signs.
  expect(own.test).toMatchObject({ n: 4, p: 2 / 16 });
  expect(own.mean).toBeCloseTo(0.4, 12);
  expect(own.low).toBeCloseTo(0.4, 12);
  expect(aboveOther.mean).toBeCloseTo(0.35, 12);
  expect(aboveOther.low).toBeLessThan(0.35);
  // 0.4, 0.2, 0.4 and 0.4, all gains; of the other list one cue alone has another value.
  expect([aboveOther.test, other.test]).toMatchObject([
    { n: 4, statistic: 0, p: 2 / 16 },
    { n: 1, p: 1 },
  ]);
});

test('the table lines up', () => {
  const lines = formatComparisons([
    {
      title: 'English',
      base: summarizeAssociations(base, [5]),
      adapter: summarizeAssociations(adapter, [5]),
      gains: associationGains(base, adapter, [5]),
    },
  ]);
  expect(lines).toEqual([
    '                          base  adapter   gain   95 % interval      p  n',
    'English  P@5 own list     10.0     50.0  +40.0  [+40.0, +40.0]  0.125  4',
    '         P@5 other list    5.0     10.0   +5.0    [0.0, +15.0]  1.000  4',
    '         P@5 own − other   5.0     40.0  +35.0  [+25.0, +40.0]  0.125  4',
  ]);
});

test('the table of one model gives every measure with its interval and n', () => {
  const lines = formatSummary(summarizeAssociations(adapter, [5]));
  expect(lines.map((line) => line.trim().split(/ {2,}/))).toEqual([
    ['mean', '95 % interval', 'n'],
    ['P@5 own list, %', '50.0', '[40.0, 60.0]', '4'],
    ['P@5 other list, %', '10.0', '[0.0, 20.0]', '4'],
    ['Spearman', '0.750', '[0.500, 1.000]', '2'],
    ['Spearman of people’s order', '0.850', '2'],
  ]);
  expect(new Set(lines.map((line) => line.length)).size).toBe(1);
  expect(formatSummary(summarizeAssociations(base, [5])).at(-1)).toMatch(/Spearman +- +no cue of 4 with three shared/);
});

test('refusals and answers without any word are counted apart', () => {
  const some = [
    { ...adapter[0], refused: true, predictions: [] },
    ...adapter.slice(1, 3).map((own) => ({ ...own, predictions: [] })),
    { ...adapter[3], repeated: 6 },
  ];
  expect(summarizeAssociations(some, [5])).toMatchObject({ refused: 1, empty: 2, repeated: 6 });
  expect(formatSummary(summarizeAssociations(some, [5])).at(-1)).toBe(
    'in 4 answers: 1 refusals, 2 without any word, 6 words given again',
  );
});

test('a dimension that rates no word has a line in the place of a chart', () => {
  const dimensions = new Map([
    ['valence', new Map([['blood', 2]])],
    ['rare', new Map([['oddity', 1]])],
  ]);
  const lists = [['blood'], ['x']];
  const { blocks } = affectSection({
    ...{
      measure: 'affect',
      model: 'm',
      quantize: 'none',
      tier: 'f32',
      language: 'en',
      provenance: { command: '', created: '', files: [] },
    },
    cues: ['red', 'sea'],
    run_names: [{ name: 'base', adapter: null }],
    dimensions: summarizeAffect(lists, [lists], { dimensions, size: 2 }),
  });
  const [, table, valence, rare] = blocks;
  // Of nothing there is neither a mean nor a test, from a file of results too.
  expect(table.kind === 'table' ? table.rows.slice(2) : null).toEqual([
    ['rare', 'people', '0.0', '–', '–', '', '', '0'],
    ['rare', 'base', '0.0', '–', '–', '–', '–', '0'],
  ]);
  expect(valence).toMatchObject({ kind: 'chart', chart: { x: { values: expect.arrayContaining(['2.0 to 3.0']) } } });
  expect(rare).toEqual({ kind: 'text', text: 'Medians of the cues: rare: no rated words.' });
  expect(blocks).toHaveLength(4);
});

/** Titles of the charts of a survey whose every third question is answered in reverse, every fifth by most in the middle. */
function chartsOf(count: number, highTension: number) {
  const questions = Array.from({ length: count }, (_, i): SurveyQuestion => {
    const shares = {
      Here: [0.6, 0.3, 0.1],
      There: i % 3 === 0 ? [0.1, 0.3, 0.6] : i % 5 === 0 ? [0.1, 0.8, 0.1] : [0.6, 0.3, 0.1],
    };
    return {
      ...{ id: `Q${i}`, language: 'en', question: 'Tea?' },
      options: ['Yes', 'Perhaps', 'No'].map((text, at) => ({ code: String(at), text })),
      countries: { Here: { shares: shares.Here, n: 9 }, There: { shares: shares.There, n: 9 } },
    };
  });
  const answers = questions.map(() => averageTries([[[-1, -2, -3]]]));
  const pair = ['Here', 'There'] as const;
  const { subsets, summaries } = compareSurveys(questions, [answers], pair, { highTension, seed: 42 });
  const { emd, sorted } = subsets;
  const blocks = surveyCharts({
    ...{
      measure: 'survey',
      model: 'm',
      quantize: 'none',
      tier: 'f32',
      language: 'en',
      provenance: { command: '', created: '', files: [] },
    },
    ...{ countries: pair, prompts: [], formats: [], questions, high_tension: { emd, sorted }, change: null },
    runs: [{ name: 'base', adapter: null, answers, summaries: summaries[0] }],
  });
  const [first, ...charts] = blocks;
  return {
    ...{ emd, sorted, said: first.kind === 'text' ? first.text : null },
    titles: charts.map((block) => (block.kind === 'chart' ? block.chart.title : null)),
  };
}

test('charts are of the questions that either selection of high tension holds', () => {
  const { emd, sorted, said, titles } = chartsOf(30, 4);
  expect([emd, sorted]).toEqual([
    [0, 3, 6, 9],
    [5, 10, 20, 25],
  ]);
  expect(said).toBe('Answers to the questions of high tension, by either selection.');
  const alone = (i: number) => `Q${i}: Tea? (high tension by the paper's code alone)`;
  expect(titles).toEqual(['Q0: Tea?', 'Q3: Tea?', alone(5), 'Q6: Tea?', 'Q9: Tea?', ...[10, 20, 25].map(alone)]);
});

test('of a small survey all questions have a chart, of a large one the first hundred', () => {
  const small = chartsOf(20, 1);
  expect(small.said).toBe('Answers to all questions.');
  expect(small.titles).toEqual(Array.from({ length: 20 }, (_, i) => `Q${i}: Tea?`));
  const large = chartsOf(150, 120);
  expect(large.titles).toHaveLength(100);
  expect(large.said).toMatch(/, by either selection; the first 100 of 1[2-5]\d\.$/);
});

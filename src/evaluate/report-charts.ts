import { normalize } from './distribution.js';
import type { Chart, ReportBlock } from './report-document.js';
import type { SurveyResult } from './result.js';

/** Shares of values in ten bins between the least and the greatest; of one value at least. */
export function histogram(
  title: string,
  name: string,
  series: readonly { name: string; people?: boolean; medians: readonly (number | null)[] }[],
): Chart {
  const bins = 10;
  const all = series.flatMap(({ medians }) => medians.filter((median) => median !== null));
  const low = Math.min(...all);
  const width = (Math.max(...all) - low) / bins || 1;
  const bin = (value: number) => Math.min(bins - 1, Math.floor((value - low) / width));
  return {
    type: 'bar',
    title,
    x: {
      title: name,
      values: Array.from(
        { length: bins },
        (_, i) => `${(low + i * width).toFixed(1)} to ${(low + (i + 1) * width).toFixed(1)}`,
      ),
    },
    y: { title: 'cues, %', min: 0 },
    series: series.map(({ name: who, people, medians }) => {
      const known = medians.filter((median) => median !== null);
      const counts = new Array<number>(bins).fill(0);
      for (const median of known) counts[bin(median)]++;
      return {
        name: who,
        people,
        values: counts.map((count) => (known.length > 0 ? (100 * count) / known.length : 0)),
      };
    }),
  };
}

/** Of a survey with so few questions all are drawn; of no survey more than `most`, so that the page stays of a size. */
const drawn = { few: 20, most: 100 };

/** A chart for every question that either selection of high tension holds, in the survey's order, and a line that says so. */
export function surveyCharts({ countries, questions, high_tension, runs }: SurveyResult): ReportBlock[] {
  const { emd, sorted } = high_tension;
  const all = questions.length <= drawn.few;
  const places = all ? [...questions.keys()] : [...new Set([...emd, ...sorted])].sort((a, b) => a - b);
  const shown = places.slice(0, drawn.most);
  const which = all ? 'Answers to all questions' : 'Answers to the questions of high tension, by either selection';
  const cut = shown.length < places.length ? `; the first ${shown.length} of ${places.length}` : '';
  return [
    { kind: 'text', text: `${which}${cut}.` },
    ...shown.map((at): ReportBlock => {
      const { id, question, options, countries: shares } = questions[at];
      const alone = !all && !emd.includes(at) ? " (high tension by the paper's code alone)" : '';
      return {
        kind: 'chart',
        chart: {
          type: 'bar',
          title: `${id}: ${question}${alone}`,
          x: { title: '', values: options.map(({ text }) => text) },
          y: { title: '%', min: 0, max: 100 },
          series: [
            ...runs.map(({ name, answers }) => ({ name, values: answers[at].shares.map((share) => 100 * share) })),
            ...countries.map((country) => ({
              name: country,
              people: true,
              values: normalize(shares[country].shares).map((share) => 100 * share),
            })),
          ],
        },
      };
    }),
  ];
}

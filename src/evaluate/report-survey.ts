import { describeBase, interval, lastOverFirst, table } from './report-cells.js';
import { surveyCharts } from './report-charts.js';
import type { ReportSection } from './report-document.js';
import type { SurveyResult } from './result.js';
import type { SurveySubset } from './survey.js';
import {
  answerEffects,
  describeAsking,
  distancesNote,
  effectsNote,
  otherDistances,
  surveyMovements,
} from './survey-tables.js';
import { pValue, signedThree, testNote, three } from './table-text.js';

/** Distances to two countries, the movement, and the answers to the questions of high tension. */
export function surveySection(result: SurveyResult): ReportSection {
  const { language, countries, questions, runs, change } = result;
  const subsets: readonly [SurveySubset, string][] = [
    ['all', 'all questions'],
    ['emd', 'high tension'],
    ['sorted', "high tension by the paper's code"],
  ];
  const rows = subsets.flatMap(([subset, title]) =>
    runs.map(({ name, summaries }) => {
      const { n, countries: own, difference, closer } = summaries[subset];
      return [
        title,
        name,
        ...own.map(({ emd }) => three(emd.mean)),
        signedThree(difference.emd.mean),
        interval(difference.emd, signedThree),
        `${closer.emd.first} : ${closer.emd.second}`,
        String(n),
      ];
    }),
  );
  const lines = subsets.flatMap(([subset, title]) =>
    runs.map(({ name, summaries }) => ({ questions: title, model: name, summary: summaries[subset] })),
  );
  const [others, effects] = [otherDistances(lines, countries), answerEffects(lines)];
  const moved = subsets.flatMap(([subset, title]) =>
    surveyMovements(change?.[subset]).map(({ what, emd, js }) => [
      title,
      what,
      signedThree(emd.mean),
      interval(emd, signedThree),
      pValue(emd.test),
      signedThree(js.mean),
      interval(js, signedThree),
      pValue(js.test),
      String(emd.n),
    ]),
  );
  return {
    title: `Survey (${language}): ${countries.join(' and ')}`,
    blocks: [
      {
        kind: 'text',
        text: `${questions.length} questions asked of ${describeBase(result)}: ${describeAsking(questions, result.prompts.length, result.formats)}. High tension: the questions on which the countries differ most, by Jensen-Shannon distance and earth mover's distance; the paper's code sorts the shares in the latter. Closer by earth mover's distance (EMD: over N − 1; total variation where options have no order).${change ? ` ${testNote}` : ''}`,
      },
      table(
        [
          'questions',
          'model',
          ...countries.map((country) => `EMD to ${country}`),
          'EMD difference',
          '95 % interval',
          `closer ${countries.join(' : ')}`,
          'n',
        ],
        rows,
      ),
      ...(moved.length > 0
        ? [
            table(
              [
                'questions',
                `moved toward, ${lastOverFirst(runs)}`,
                'EMD',
                '95 % interval',
                'p',
                'JS',
                '95 % interval',
                'p',
                'n',
              ],
              moved,
            ),
          ]
        : []),
      { kind: 'text', text: distancesNote },
      table(others.head, others.rows),
      { kind: 'text', text: effectsNote },
      table(effects.head, effects.rows),
      ...surveyCharts(result),
    ],
  };
}

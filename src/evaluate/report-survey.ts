import { describeBase } from './report-cells.js';
import { surveyCharts } from './report-charts.js';
import type { ReportSection } from './report-document.js';
import type { SurveyResult } from './result.js';
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
import { testNote } from './table-text.js';

/** Distances to two countries, the movement, and the answers to the questions of high tension. */
export function surveySection(result: SurveyResult): ReportSection {
  const { language, countries, questions, runs, change } = result;
  const lines = surveyLines(runs);
  return {
    title: `Survey (${language}): ${countries.join(' and ')}`,
    blocks: [
      {
        kind: 'text',
        text: `${questions.length} questions asked of ${describeBase(result)}: ${describeAsking(questions, result.prompts.length, result.formats)}. High tension: the questions on which the countries differ most, by Jensen-Shannon distance and earth mover's distance; the paper's code sorts the shares in the latter. Closer by earth mover's distance (EMD: over N − 1; total variation where options have no order).${change ? ` ${testNote}` : ''}`,
      },
      { kind: 'table', ...earthMoverDistances(lines, countries) },
      ...(change ? [{ kind: 'table' as const, ...surveyMovements(change, runs) }] : []),
      { kind: 'text', text: distancesNote },
      { kind: 'table', ...otherDistances(lines, countries) },
      { kind: 'text', text: effectsNote },
      { kind: 'table', ...answerEffects(lines) },
      ...surveyCharts(result),
    ],
  };
}

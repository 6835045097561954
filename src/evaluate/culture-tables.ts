import type { StudyResult } from './study.js';
import type { StudyTable } from './study-tables.js';
import { cells, gainCells, none, points, signedThree, three } from './table-text.js';

/** A study's results, as far as its tables tell of them. */
export type StudyFigures = Pick<StudyResult, 'ks' | 'cultures' | 'matrix' | 'surveyMatrix' | 'distances'>;

/** What a study tells of several cultures at once. */
export function cultureTables(study: StudyFigures): StudyTable[] {
  return [...matrixTables(study), distanceTable(study), ...surveyDistanceTable(study)];
}

function matrixTables({ ks, cultures, matrix, surveyMatrix }: StudyFigures): StudyTable[] {
  const surveyed = cultures.flatMap(({ countries }, c) => (countries ? [c] : []));
  const asked = (c: number) => surveyMatrix[0].cells[c]?.n ?? 0;
  const columns = 'rows are the base and each culture’s last adapter, columns whose people and whose prompt';
  return [
    {
      title: 'Models by cultures: associations',
      note: `P@${ks[0]} own − other list in points, with its 95 % interval: ${columns}.`,
      head: ['model', ...cultures.flatMap(({ name, cues }) => [`${name} (n = ${cues})`, '95 % interval'])],
      rows: matrix.map(({ model, cells: own }) => [model, ...own.flatMap((estimate) => cells(estimate, points))]),
    },
    ...(surveyed.length > 0
      ? [
          {
            title: 'Models by cultures: survey',
            note: `Ordinal earth mover's distance over N − 1, total variation where options have no order, to the column's own country, less is nearer, with its 95 % interval: ${columns}.`,
            head: ['model', ...surveyed.flatMap((c) => [`${cultures[c].name} (n = ${asked(c)})`, '95 % interval'])],
            rows: surveyMatrix.map(({ model, cells: own }) => [
              model,
              ...surveyed.flatMap((c) => cells(own[c], three)),
            ]),
          },
        ]
      : []),
  ];
}

/** What the cross gap of each two cultures tells: between languages it is not culture alone. */
function gapNote({ cultures, distances }: Pick<StudyFigures, 'cultures' | 'distances'>): string {
  const languageOf = (name: string) => cultures.find((culture) => culture.name === name)?.language;
  const apart = distances.filter(({ cultures: [a, b] }) => languageOf(a) !== languageOf(b));
  const pairs = apart.map(({ cultures: pair }) => pair.join(' and ')).join(', ');
  return [
    ...(apart.length < distances.length
      ? ['Of cultures of one language it is about zero where the adapters have learnt no culture but the task.']
      : []),
    ...(apart.length > 0
      ? [
          `Of two languages (${pairs}) it holds language and task as well: the other’s adapter was trained in another language, so a gap does not show that culture was learnt.`,
        ]
      : []),
  ].join(' ');
}

function distanceTable(study: Pick<StudyFigures, 'cultures' | 'distances'>): StudyTable {
  const { distances } = study;
  return {
    title: 'Whether adapters stay distinct: associations',
    note: `Cross gap: by how many points of P@K own − other a culture’s adapter meets its people better than the other’s does, paired, with p of Wilcoxon’s test over cues where there is one seed. ${gapNote(study)} Lists: divergence of the two adapters’ words for the same cues, 0 to 1; before training it is 0. n: cues.`,
    head: ['cultures', 'asked', 'cross gap', '95 % interval', 'p', 'lists', '95 % interval', 'n'],
    rows: distances.flatMap(({ cultures, crossGap, lists }) =>
      cultures.map((asked, i) => [
        i === 0 ? cultures.join(' and ') : '',
        asked,
        ...gainCells(crossGap[i], points),
        ...cells(lists[i], three),
        String(crossGap[i].n),
      ]),
    ),
  };
}

/** Of cultures with surveys. */
function surveyDistanceTable({ cultures, distances }: Pick<StudyFigures, 'cultures' | 'distances'>): StudyTable[] {
  const asked = distances.filter(({ survey }) => survey.crossGap.some((gap) => gap !== null));
  if (asked.length === 0) return [];
  return [
    {
      title: 'Whether adapters stay distinct: survey',
      note: `Cross gap: by how much a culture’s adapter answers nearer to its people than the other’s does, in earth mover’s distance over N − 1, paired, with p of Wilcoxon’s test over questions where there is one seed. ${gapNote({ cultures, distances: asked })} Apart: Jensen-Shannon distance of the two models’ answers, each asked in its own language: of the base before and of the adapters after; of the people, on those of the questions that both countries answered. n: questions.`,
      head: [
        'cultures',
        'asked',
        'cross gap',
        '95 % interval',
        'p',
        'n',
        'apart before',
        'after',
        '95 % interval',
        'n',
        'people',
        'n',
      ],
      rows: asked.flatMap(({ cultures: pair, survey: { crossGap, before, after, people } }) =>
        pair.map((name, i) => [
          i === 0 ? pair.join(' and ') : '',
          name,
          ...gainCells(crossGap[i], signedThree),
          crossGap[i] ? String(crossGap[i].n) : none,
          ...(i === 0
            ? [
                ...[cells(before, three)[0], ...cells(after, three), String(after?.n ?? 0)],
                ...[cells(people, three)[0], String(people?.n ?? 0)],
              ]
            : new Array<string>(6).fill('')),
        ]),
      ),
    },
  ];
}

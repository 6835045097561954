import { cultureTables, type StudyFigures } from './culture-tables.js';
import { type StudyCultureResult, type StudyStep, titleOf } from './study.js';
import type { SeedsMeasureName } from './study-seeds.js';
import type { CountryPair } from './survey.js';
import { answerEffects, distancesNote, earthMoverDistances, effectsNote, otherDistances } from './survey-tables.js';
import {
  cells,
  gainCells,
  none,
  percent,
  points,
  pValue,
  signed,
  signedThree,
  type Table,
  three,
} from './table-text.js';

/** A table with a title, and what a reader must know of its columns. */
export interface StudyTable extends Table {
  readonly title: string;
  readonly note: string;
}

/** Which questions of a survey a study's tables tell of. */
const surveySubsets = [
  ['all', 'all'],
  ['emd', 'high tension'],
] as const;

/** All tables of a study. */
export function studyTables(study: StudyFigures): StudyTable[] {
  const tables = study.cultures.flatMap((culture) => [
    associationTable(culture, study.ks[0]),
    ...rankingTables(culture),
    ...affectTable(culture),
    ...surveyTables(culture),
    ...sideEffectsTable(culture),
    ...seedsTable(culture, study.ks[0]),
  ]);
  if (study.cultures.length < 2) return tables;
  return [...tables, ...cultureTables(study)];
}

function associationTable({ name, language, cues, variants, steps }: StudyCultureResult, k: number): StudyTable {
  return {
    title: `${name} (${language}): associations of ${cues} held-out cues`,
    note: `P@${k} in percent, of the cue's own list, and less that of another cue's list; gains of this over the base or another model, paired, in points, with p of Wilcoxon’s signed-rank test over cues; of means over seeds there is none. Spearman: over n cues, those with three shared words of unequal counts at least; at most: what the same words score in people’s own order, as ties cap it. Refused: answers that decline; empty: those without a word; repeated: words given again, not counted.`,
    head: [
      'model',
      `P@${k}`,
      'own − other',
      'gain',
      '95 % interval',
      'p',
      'Spearman',
      'at most',
      'n',
      'refused',
      'empty',
      'repeated',
    ],
    rows: [
      ...variants.map(({ association, gains, ...model }) => {
        const [{ own, other }] = association.precision;
        return [
          titleOf(model),
          percent(own.mean),
          points(own.mean - other.mean),
          ...gainCells(gains?.[0].aboveOther, points),
          cells(association.spearman, three)[0],
          association.attainable === null ? none : three(association.attainable),
          String(association.spearman?.n ?? 0),
          ...[association.refused, association.empty, association.repeated].map(String),
        ];
      }),
      ...steps.map((step) => [
        titleOfStep(step),
        none,
        none,
        ...gainCells(step.aboveOther[0], points),
        ...new Array<string>(6).fill(none),
      ]),
    ],
  };
}

/** Of a row of what a training gained over the one before; with several seeds it is a mean over them. */
function titleOfStep({ name, startedFrom, aboveOther }: StudyStep): string {
  return `${name} over ${startedFrom}${aboveOther[0].seeds.length > 1 ? ', all seeds' : ''}`;
}

function rankingTables({ name, language, variants, steps }: StudyCultureResult): StudyTable[] {
  const ranked = variants.flatMap(({ ranking, rankingGain, ...model }) =>
    ranking ? [{ model: titleOf(model), ranking, rankingGain }] : [],
  );
  if (ranked.length === 0) return [];
  return [
    {
      title: `${name} (${language}): rankings, one question a held-out cue (n = ${ranked[0].ranking.parsed.n})`,
      note: 'Read: answers with a ranking; whole: every word once and no other; reward: Spearman’s correlation with people’s order, −1 for what is not whole; its gain, of form and order together, over the base or another model, paired, with p of Wilcoxon’s test over cues; of means over seeds there is none.',
      head: ['model', 'read, %', 'whole, %', 'reward', 'gain', '95 % interval', 'p'],
      rows: [
        ...ranked.map(({ model, ranking, rankingGain }) => [
          model,
          percent(ranking.parsed.mean),
          percent(ranking.whole.mean),
          three(ranking.reward.mean),
          ...gainCells(rankingGain?.reward, signedThree),
        ]),
        ...steps.map((step) => [titleOfStep(step), none, none, none, ...gainCells(step.reward, signedThree)]),
      ],
    },
    {
      title: `${name} (${language}): rankings, their order alone`,
      note: 'Spearman over the n whole rankings alone; at most: what people’s own order scores in these, as ties cap it; gain of Spearman over the base or another model, paired, over the n cues that both rank whole, with p of Wilcoxon’s test over these; of means over seeds there is none.',
      head: ['model', 'Spearman', '95 % interval', 'at most', 'n', 'gain', '95 % interval', 'p', 'n'],
      rows: [
        ...ranked.map(({ model, ranking: { spearman, attainable }, rankingGain }) => [
          model,
          ...cells(spearman, three),
          attainable === null ? none : three(attainable),
          String(spearman?.n ?? 0),
          ...gainCells(rankingGain?.spearman, signedThree),
          rankingGain ? String(rankingGain.spearman?.n ?? 0) : none,
        ]),
        ...steps.map((step) => [
          titleOfStep(step),
          ...[none, none, none, none],
          ...gainCells(step.spearman, signedThree),
          step.spearman ? String(step.spearman.n) : none,
        ]),
      ],
    },
  ];
}

function affectTable({ name, language, variants, affect }: StudyCultureResult): StudyTable[] {
  if (!affect) return [];
  const two = (value: number) => value.toFixed(2);
  return [
    {
      title: `${name} (${language}): ratings of the associates`,
      note: 'Median rating of the first words of a cue, mean over the n cues for which a model and people have a rated word; distance to people: mean |median − theirs|; the first p is against people. Nearer: by how much that distance shrank against the base, paired, over the n cues for which both models and people have one, with its p.',
      head: [
        ...['dimension', 'model', 'coverage, %', 'mean', 'distance', '95 % interval', 'p', 'n'],
        ...['nearer', '95 % interval', 'p', 'n'],
      ],
      rows: affect.flatMap(({ dimension, human, runs }) => [
        [
          dimension,
          'people',
          percent(human.coverage),
          cells(human.mean, two)[0],
          none,
          none,
          none,
          String(human.mean.n),
          ...new Array<string>(4).fill(none),
        ],
        ...runs.map(({ coverage, mean, distance, test, change }, i) => [
          dimension,
          titleOf(variants[i]),
          percent(coverage),
          cells(mean, two)[0],
          ...cells(distance, two),
          mean.n > 0 ? pValue(test) : none,
          String(mean.n),
          ...gainCells(change?.nearer, (value) => signed(value, 2)),
          change ? String(change.nearer.n) : none,
        ]),
      ]),
    },
  ];
}

function surveyTables(culture: StudyCultureResult): StudyTable[] {
  const { name, language, variants, countries } = culture;
  if (!countries) return [];
  const [own, other] = countries;
  const lines = surveySubsets.flatMap(([subset, questions]) =>
    variants.flatMap(({ survey, ...model }) =>
      survey ? [{ questions, model: titleOf(model), summary: survey[subset] }] : [],
    ),
  );
  return [
    {
      title: `${name} (${language}): survey, distance to ${own} and ${other}`,
      note: `Ordinal earth mover's distance over N − 1, total variation where options have no order; closer: questions on which a model is closer to either.`,
      ...earthMoverDistances(lines, countries),
    },
    ...movementTable(culture, countries),
    {
      title: `${name} (${language}): survey, other distances`,
      note: `${distancesNote} Their intervals stand in result.json.`,
      ...otherDistances(lines, countries),
    },
    {
      title: `${name} (${language}): survey, how it is answered`,
      note: effectsNote,
      ...answerEffects(lines),
    },
  ];
}

/** How each model moved in the survey, against the base. */
function movementTable({ name, language, variants }: StudyCultureResult, [own, other]: CountryPair): StudyTable[] {
  const rows = surveySubsets.flatMap(([subset, questions]) =>
    variants.flatMap(({ surveyChange, ...model }) => {
      if (!surveyChange) return [];
      const { toward, specific, n } = surveyChange[subset];
      const gains = [toward[0].emd, toward[1].emd, specific.emd];
      return [[questions, titleOf(model), ...gains.flatMap((gain) => gainCells(gain, signedThree)), String(n)]];
    }),
  );
  if (rows.length === 0) return [];
  const gain = ['95 % interval', 'p'];
  return [
    {
      title: `${name} (${language}): survey, movement`,
      note: `Toward: by how much the earth mover's distance to a country shrank against the base, paired, with p of Wilcoxon’s test over questions. Answers that only grow flatter can come nearer to both countries: own − other is by how much more the model moved toward ${own} than toward ${other}.`,
      head: ['questions', 'model', `toward ${own}`, ...gain, `toward ${other}`, ...gain, 'own − other', ...gain, 'n'],
      rows,
    },
  ];
}

function sideEffectsTable({ name, language, variants }: StudyCultureResult): StudyTable[] {
  const measured = variants.flatMap(({ sideEffects: own, sideEffectChange: change, ...model }) =>
    own ? [{ model: titleOf(model), own, change }] : [],
  );
  if (measured.length === 0) return [];
  return [
    {
      title: `${name} (${language}): side effects`,
      note: `Perplexity on ${measured[0].own.perplexity.n} general texts, and by which factor it grew; ${measured[0].own.followed.n} simple instructions followed, in percent; changes against the base, paired, with p of Wilcoxon’s test over texts and over instructions.`,
      head: ['model', 'perplexity', 'times', '95 % interval', 'p', 'followed, %', 'change', '95 % interval', 'p'],
      rows: measured.map(({ model, own, change }) => [
        model,
        own.perplexity.mean.toFixed(2),
        ...gainCells(change?.perplexityFactor, three),
        percent(own.followed.mean),
        ...gainCells(change?.followed, points),
      ]),
    },
  ];
}

/** Every training over its seeds: mean, interval and spread of each measure. */
function seedsTable({ name, language, seeds }: StudyCultureResult, k: number): StudyTable[] {
  if (!seeds) return [];
  const ofK = new Set<SeedsMeasureName>(['precision', 'above_other', 'gain']);
  const shows: Readonly<Record<SeedsMeasureName, readonly [string, (value: number) => string]>> = {
    precision: [`P@${k}, %`, percent],
    above_other: [`P@${k} own − other`, points],
    gain: ['its gain', points],
    spearman: ['Spearman', three],
    rankings_read: ['rankings read, %', percent],
    rankings_whole: ['rankings whole, %', percent],
    ranking_spearman: ['Spearman of whole rankings', three],
    ranking_spearman_gain: ['its gain where both are whole', signedThree],
    ranking_reward: ['reward of rankings', three],
    ranking_reward_gain: ['its gain', signedThree],
    rating_distance: ['ratings, distance to people', (value) => value.toFixed(2)],
    rating_nearer: ['ratings, nearer to people', (value) => signed(value, 2)],
    survey_distance: ['survey, distance to own country', three],
    survey_toward: ['survey, toward own country', signedThree],
    survey_toward_other: ['survey, toward the other', signedThree],
    survey_specific: ['survey, own less other', signedThree],
    perplexity_factor: ['perplexity, times', three],
    followed_change: ['instructions followed, change', points],
  };
  return [
    {
      title: `${name} (${language}): over seeds ${seeds[0].seeds.join(', ')}`,
      note: 'Mean over seeds, its interval by a hierarchical bootstrap of seeds, then of cues, questions or texts, the same of all seeds; least and greatest mean of a seed. Gains over the base, paired, without p: answers of several seeds to one item are not independent. With few seeds an interval says little of others.',
      head: ['model', 'measure', 'mean', '95 % interval', 'least', 'greatest', 'n'],
      rows: seeds.flatMap(({ name: model, measures }) =>
        measures.flatMap(({ measure, of, estimate }) => {
          if (ofK.has(measure) && of !== String(k)) return [];
          const [title, show] = shows[measure];
          const known = estimate.seeds.filter(Number.isFinite); // of a result that was read, NaN is null
          const spread = estimate.n === 0 ? [none, none] : [Math.min(...known), Math.max(...known)].map(show);
          const detail =
            ofK.has(measure) || of === null || of === 'all' ? '' : ` (${of === 'emd' ? 'high tension' : of})`;
          return [[model, `${title}${detail}`, ...cells(estimate, show), ...spread, String(estimate.n)]];
        }),
      ),
    },
  ];
}

import type { OptionFormat, SurveyPrompt } from '../text/survey-prompts.js';
import { type AffectSummary, type Lexicon, summarizeAffect } from './affect.js';
import { aboveOther, type CueScore, type HumanList, scoreAssociations } from './association.js';
import {
  type AssociationGain,
  type AssociationSummary,
  associationGains,
  summarizeAssociations,
} from './association-summary.js';
import { commonQuestions, crossGap, listDistance, peopleGap, surveyCrossGap, surveyGap } from './culture-distance.js';
import type { HumanRanking, RankingLanguage } from './ranking.js';
import {
  type RankingGain,
  type RankingScore,
  type RankingSummary,
  rankingGain,
  rewardGains,
  scoreRankings,
  spearmanGains,
  summarizeRankings,
} from './ranking-summary.js';
import type { Common } from './result.js';
import { type SideEffects, sideEffectChange, summarizeSideEffects, type TextScore } from './side-effects.js';
import { bootstrapSeeds, type Estimate, type SeedGain, seedGain } from './statistics.js';
import { type SeedsSummary, summarizeSeeds } from './study-seeds.js';
import {
  type CountryPair,
  compareSurveys,
  distancesTo,
  type SurveyAnswer,
  type SurveyChange,
  type SurveyQuestion,
  type SurveySubset,
  type SurveySummary,
} from './survey.js';

/** What one model answered about one culture; null for what it was not asked. */
export interface StudyAnswers {
  /** Names its file. */
  readonly id: string;
  /** As tables call it: the same for all seeds of one training. */
  readonly name: string;
  /** Of its training, in a study of several; else null. */
  readonly seed: number | null;
  /** PEFT directory; null for the base. */
  readonly adapter: string | null;
  /** The culture whose adapter it is; null for the base, with or without a prompt. */
  readonly of: string | null;
  /** Name of the training that it went on from, where it did. */
  readonly startedFrom?: string;
  readonly lists: readonly string[];
  readonly rankings: readonly string[] | null;
  readonly survey: readonly SurveyAnswer[] | null;
  readonly sideEffects: { readonly texts: readonly TextScore[]; readonly followed: readonly boolean[] } | null;
}

/** A culture's survey, and the wordings and formats in which it is asked. */
export interface AskedSurvey {
  readonly questions: readonly SurveyQuestion[];
  /** Its own country, and the one to compare with. */
  readonly pair: CountryPair;
  readonly prompts: readonly SurveyPrompt[];
  readonly formats: readonly OptionFormat[];
}

/** A culture's people, and the models that were asked: first the base, then its own, then those of other cultures. */
export interface StudyCultureAnswers {
  readonly name: string;
  readonly language: string;
  readonly human: readonly HumanList[];
  readonly questions: readonly (HumanRanking & { readonly cue: string; readonly language: RankingLanguage })[];
  readonly lexicon: Lexicon | null;
  readonly surveyed: AskedSurvey | null;
  readonly models: readonly StudyAnswers[];
}

export interface StudySettings {
  readonly ks: readonly number[];
  readonly highTension: number;
  readonly seed: number;
}

/** One line of a culture's table. Gains and changes are paired, over the untouched base; null for that itself. */
export interface StudyVariant extends Pick<StudyAnswers, 'id' | 'name' | 'seed' | 'adapter'> {
  readonly association: AssociationSummary;
  readonly gains: readonly AssociationGain[] | null;
  readonly ranking: RankingSummary | null;
  readonly rankingGain: RankingGain | null;
  readonly survey: Readonly<Record<SurveySubset, SurveySummary>> | null;
  readonly surveyChange: Readonly<Record<SurveySubset, SurveyChange>> | null;
  readonly sideEffects: SideEffects | null;
  readonly sideEffectChange: ReturnType<typeof sideEffectChange> | null;
}

/** What a training gained over the one that it went on from, on the same cues, paired; a mean over seeds where there are several. */
export interface StudyStep {
  readonly name: string;
  readonly startedFrom: string;
  /** P@K own − other list, for each K. */
  readonly aboveOther: readonly SeedGain[];
  /** Of rankings, form and order together; null where they are not asked. */
  readonly reward: SeedGain | null;
  /** Of their order alone, over the `n` cues that both rank whole; null where they are not asked. */
  readonly spearman: SeedGain | null;
}

export interface StudyCultureResult {
  readonly name: string;
  readonly language: string;
  readonly cues: number;
  readonly variants: readonly StudyVariant[];
  readonly steps: readonly StudyStep[];
  /** Runs in the order of `variants`; null without a lexicon. */
  readonly affect: readonly AffectSummary[] | null;
  /** Own country first; null without a survey. */
  readonly countries: CountryPair | null;
  /** Each training over its seeds; null in a study of one. */
  readonly seeds: readonly SeedsSummary[] | null;
}

/** How far two cultures' models are apart. */
export interface CultureDistance {
  readonly cultures: readonly [string, string];
  /** By how much the one's adapter meets its own people better than the other's does, in each culture. */
  readonly crossGap: readonly [SeedGain, SeedGain];
  /** Between the two adapters' lists for the same cues, in each culture. Before training it is 0: one base answered. */
  readonly lists: readonly [Estimate, Estimate];
  /** Between answers to the survey: of the base, of the adapters, of the people; null where there is nothing in common. */
  readonly survey: {
    /** By how much the one's adapter answers nearer to its own people than the other's does, in each culture with a survey. */
    readonly crossGap: readonly [SeedGain | null, SeedGain | null];
    readonly before: Estimate | null;
    readonly after: Estimate | null;
    readonly people: Estimate | null;
  };
}

/** A row for the base and for each culture's last adapter; a cell for each culture that they were asked about. */
export type CultureMatrix<Cell> = readonly { readonly model: string; readonly cells: readonly Cell[] }[];

/** What reading a culture's norms, a lexicon or its survey counted and left out. */
export interface StudyImport {
  readonly culture: string;
  /** As `lexalign data` calls it, or mini-norms; `imported` of what that command wrote. */
  readonly source: string;
  readonly files: readonly { readonly file: string; readonly sha256: string }[];
  readonly counts: Readonly<Record<string, number>>;
  /** Responses, rows, words or questions by why they were left out. */
  readonly dropped: Readonly<Record<string, number>>;
}

/** The `result.json` of `lexalign align`. */
export interface StudyResult extends Common {
  readonly measure: 'study';
  readonly device: string;
  readonly imports: readonly StudyImport[];
  readonly ks: readonly number[];
  readonly cultures: readonly StudyCultureResult[];
  /** P@K own − other list, at the first K, of the base and of each culture's last adapter on each culture's people. */
  readonly matrix: CultureMatrix<Estimate>;
  /** Mean EMD over N − 1 of the same models to each culture's own country, asked its survey; null where it has none. */
  readonly surveyMatrix: CultureMatrix<Estimate | null>;
  readonly distances: readonly CultureDistance[];
}

/** A model's name with its seed, where it is one of several. */
export function titleOf({ name, seed }: Pick<StudyAnswers, 'name' | 'seed'>): string {
  return seed === null ? name : `${name}, seed ${seed}`;
}

/** Scores all answers; what a model was not asked stays out. */
export function summarizeStudy(
  cultures: readonly StudyCultureAnswers[],
  settings: StudySettings,
): Pick<StudyResult, 'ks' | 'cultures' | 'matrix' | 'surveyMatrix' | 'distances'> {
  const { ks, seed } = settings;
  const scores = cultures.map(({ human, models }) =>
    models.map(({ lists }) => scoreAssociations(human, lists, ks, seed)),
  );
  return {
    ks,
    cultures: cultures.map((culture, i) => summarizeCulture(culture, scores[i], settings)),
    matrix: crossed(cultures, (c, places) =>
      bootstrapSeeds(
        places.map((i) => scores[c][i].map((score) => aboveOther(score, 0))),
        seed,
      ),
    ),
    surveyMatrix: crossed(cultures, (c, places) => ownDistance(cultures[c], places, seed)),
    distances: cultures.flatMap((_, i) =>
      cultures.slice(i + 1).map((_other, j) => distanceOf(cultures, scores, [i, i + 1 + j], settings)),
    ),
  };
}

function summarizeCulture(
  culture: StudyCultureAnswers,
  scores: readonly (readonly CueScore[])[],
  { ks, highTension, seed }: StudySettings,
): StudyCultureResult {
  const { name, language, human, questions, lexicon, surveyed } = culture;
  const own = culture.models.filter(({ of }) => of === null || of === name);
  const ranked = own.map(({ rankings }) => rankings && scoreRankings(questions, rankings));
  const surveys = own.map(({ survey }) => survey);
  const compare = (answers: readonly (readonly SurveyAnswer[])[]) =>
    compareSurveys(surveyed?.questions ?? [], answers, surveyed?.pair ?? ['', ''], { highTension, seed });
  const variants = own.map(({ id, name: title, seed: trained, adapter, sideEffects }, i): StudyVariant => {
    const [ranking, first] = [ranked[i], ranked[0]];
    const survey = surveys[i];
    const before = own[0].sideEffects;
    return {
      id,
      name: title,
      seed: trained,
      adapter,
      association: summarizeAssociations(scores[i], ks, seed),
      gains: i === 0 ? null : associationGains(scores[0], scores[i], ks, seed),
      ranking: ranking && summarizeRankings(ranking, seed),
      rankingGain: i > 0 && ranking && first ? rankingGain(first, ranking, seed) : null,
      survey: survey && compare([survey]).summaries[0],
      surveyChange: i > 0 && survey && surveys[0] ? compare([surveys[0], survey]).change : null,
      sideEffects: sideEffects && summarizeSideEffects(sideEffects.texts, sideEffects.followed, seed),
      sideEffectChange: i > 0 && sideEffects && before ? sideEffectChange(before, sideEffects, seed) : null,
    };
  });
  const words = human.map(({ responses }) => responses.map(({ word }) => word));
  const lists = own.map((_, i) => scores[i].map(({ predictions }) => predictions));
  return {
    name,
    language,
    cues: human.length,
    variants,
    steps: summarizeSteps(own, scores, ranked, ks, seed),
    affect: lexicon && summarizeAffect(words, lists, lexicon, seed),
    countries: surveyed?.pair ?? null,
    seeds: summarizeSeeds({ ...culture, models: own }, scores, { ks, highTension, seed }),
  };
}

function summarizeSteps(
  models: readonly StudyAnswers[],
  scores: readonly (readonly CueScore[])[],
  ranked: readonly (readonly RankingScore[] | null)[],
  ks: readonly number[],
  seed: number,
): StudyStep[] {
  const names = new Set(models.flatMap(({ name, startedFrom }) => (startedFrom ? [name] : [])));
  return [...names].map((name) => {
    const pairs = [...models.keys()].flatMap((after) => {
      const { startedFrom, seed: trained } = models[after];
      if (models[after].name !== name) return [];
      return [[models.findIndex((one) => one.name === startedFrom && one.seed === trained), after] as const];
    });
    const rankings = pairs.flatMap(([before, after]) => {
      const [from, to] = [ranked[before], ranked[after]];
      return from && to ? [[from, to] as const] : [];
    });
    const ofRankings = (gainsOf: typeof spearmanGains) =>
      rankings.length === 0
        ? null
        : seedGain(
            rankings.map(([from, to]) => gainsOf(from, to)),
            seed,
          );
    const gains = (k: number) =>
      pairs.map(([before, after]) =>
        scores[after].map((score, i) => aboveOther(score, k) - aboveOther(scores[before][i], k)),
      );
    return {
      name,
      startedFrom: models[pairs[0][0]].name,
      aboveOther: ks.map((_, k) => seedGain(gains(k), seed)),
      reward: ofRankings(rewardGains),
      spearman: ofRankings(spearmanGains),
    };
  });
}

/** Places of a culture's last adapter, one a seed, among the models that were asked about another, or the same. */
function lastOf({ models }: StudyCultureAnswers, culture: string): number[] {
  const last = models.findLast(({ of }) => of === culture)?.name;
  return [...models.keys()].filter((i) => models[i].of === culture && models[i].name === last);
}

/** `cell` is given a culture's place, and places among the models that were asked about it. */
function crossed<Cell>(
  cultures: readonly StudyCultureAnswers[],
  cell: (culture: number, places: readonly number[]) => Cell,
): CultureMatrix<Cell> {
  const rows = cultures.map(({ name }) => ({
    model: name,
    cells: cultures.map((culture, c) => cell(c, lastOf(culture, name))),
  }));
  return [{ model: 'base', cells: cultures.map((_, c) => cell(c, [0])) }, ...rows];
}

/** What the models at `places`, one a seed, answered to a culture's survey; null where they were not asked. */
function surveyOf({ surveyed, models }: StudyCultureAnswers, places: readonly number[]) {
  const answers = places.flatMap((at) => (models[at].survey ? [models[at].survey] : []));
  return surveyed && answers.length > 0 ? { ...surveyed, answers } : null;
}

/** Mean distance of models to a culture's own country. */
function ownDistance(culture: StudyCultureAnswers, places: readonly number[], seed: number): Estimate | null {
  const asked = surveyOf(culture, places);
  if (!asked) return null;
  const { questions, pair, answers } = asked;
  const emds = answers.map((run) => distancesTo(questions, run, pair[0]).map(({ emd }) => emd));
  return bootstrapSeeds(emds, seed);
}

function distanceOf(
  cultures: readonly StudyCultureAnswers[],
  scores: readonly (readonly (readonly CueScore[])[])[],
  [i, j]: readonly [number, number],
  { ks, seed }: StudySettings,
): CultureDistance {
  const [a, b] = [cultures[i], cultures[j]];
  const of = (culture: number, name: string) => lastOf(cultures[culture], name).map((i) => scores[culture][i]);
  const length = Math.max(...ks);
  const gap = (culture: StudyCultureAnswers, foreign: StudyCultureAnswers): SeedGain | null => {
    const [own, other] = [culture, foreign].map(({ name }) => surveyOf(culture, lastOf(culture, name)));
    return own && other && surveyCrossGap(own.questions, own.pair[0], own.answers, other.answers, seed);
  };
  const between = (first: readonly number[], second: readonly number[]): Estimate | null => {
    const [from, to] = [surveyOf(a, first), surveyOf(b, second)];
    return from && to && surveyGap(from, to, seed);
  };
  /** Of the questions that the models are compared on. */
  const people = (own: AskedSurvey, other: AskedSurvey): Estimate | null => {
    const common = commonQuestions(own.questions, other.questions).map(([at]) => own.questions[at]);
    return peopleGap(common, own.pair[0], other.pair[0], seed);
  };
  return {
    cultures: [a.name, b.name],
    crossGap: [crossGap(of(i, a.name), of(i, b.name), 0, seed), crossGap(of(j, b.name), of(j, a.name), 0, seed)],
    lists: [
      listDistance(of(i, a.name), of(i, b.name), length, seed),
      listDistance(of(j, a.name), of(j, b.name), length, seed),
    ],
    survey: {
      crossGap: [gap(a, b), gap(b, a)],
      before: between([0], [0]),
      after: between(lastOf(a, a.name), lastOf(b, b.name)),
      people: a.surveyed && b.surveyed && people(a.surveyed, b.surveyed),
    },
  };
}

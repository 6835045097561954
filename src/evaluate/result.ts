import type { OptionFormat, SurveyPrompt } from '../text/survey-prompts.js';
import type { AffectSummary } from './affect.js';
import type { CueScore } from './association.js';
import type { AssociationGain, AssociationSummary } from './association-summary.js';
import type { RankingGain, RankingScore, RankingSummary } from './ranking-summary.js';
import type { SideEffects, sideEffectChange } from './side-effects.js';
import type { StudyResult } from './study.js';
import type { SurveyAnswer, SurveyChange, SurveyQuestion, SurveySubset, SurveySummary } from './survey.js';

/** What a result was made of: the command that repeats it, and digests of its files. */
export interface Provenance {
  readonly command: string;
  readonly created: string;
  readonly files: readonly { readonly file: string; readonly sha256: string }[];
}

/** Which weights answered, and how they were computed with. */
export interface Base {
  /** Directory. */
  readonly model: string;
  /** What `--quantize` made of its weights; none: they are as they lie there. */
  readonly quantize: string;
  /** Of the kernels: tensor, f16 or f32. */
  readonly tier: string;
}

export interface Common extends Base {
  readonly language: string;
  readonly provenance: Provenance;
}

/** A model that was measured. */
interface MeasuredRun {
  readonly name: string;
  /** PEFT directory; null for the base. */
  readonly adapter: string | null;
}

/** The `--json` of `evaluate association`. */
export interface AssociationResult extends Common {
  readonly measure: 'association';
  readonly norms: string;
  readonly ks: readonly number[];
  readonly human: readonly { readonly cue: string; readonly words: readonly string[] }[];
  readonly runs: readonly (MeasuredRun &
    AssociationSummary & { readonly cues: readonly (CueScore & { readonly text: string })[] })[];
  readonly gains: readonly AssociationGain[] | null;
}

/** The `--json` of `evaluate affect`. */
export interface AffectResult extends Common {
  readonly measure: 'affect';
  readonly cues: readonly string[];
  readonly run_names: readonly MeasuredRun[];
  readonly dimensions: readonly AffectSummary[];
}

/** The `--json` of `evaluate survey`. */
export interface SurveyResult extends Common {
  readonly measure: 'survey';
  readonly countries: readonly [string, string];
  /** The wordings in which every question was asked. */
  readonly prompts: readonly SurveyPrompt[];
  /** In which its options were labelled, where they are clear. */
  readonly formats: readonly OptionFormat[];
  readonly questions: readonly SurveyQuestion[];
  readonly high_tension: Readonly<Record<'emd' | 'sorted', readonly number[]>>;
  readonly runs: readonly (MeasuredRun & {
    readonly answers: readonly SurveyAnswer[];
    readonly summaries: Readonly<Record<SurveySubset, SurveySummary>>;
  })[];
  readonly change: Readonly<Record<SurveySubset, SurveyChange>> | null;
}

/** The `--json` of `evaluate side-effects`. */
export interface SideEffectsResult extends Common {
  readonly measure: 'side-effects';
  readonly runs: readonly (MeasuredRun & SideEffects)[];
  readonly change: ReturnType<typeof sideEffectChange> | null;
}

/** The `--json` of `evaluate ranking`. */
export interface RankingResult extends Common {
  readonly measure: 'ranking';
  readonly questions: string;
  readonly runs: readonly (MeasuredRun &
    RankingSummary & {
      readonly answers: readonly (RankingScore & { readonly cue: string | null; readonly text: string })[];
    })[];
  readonly gain: RankingGain | null;
}

export type EvaluationResult =
  | AssociationResult
  | RankingResult
  | AffectResult
  | SurveyResult
  | SideEffectsResult
  | StudyResult;

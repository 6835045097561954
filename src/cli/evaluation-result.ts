import { readFile, stat } from 'node:fs/promises';
import { InputError } from '../errors.js';
import type { AffectSummary } from '../evaluate/affect.js';
import type { CueScore } from '../evaluate/association.js';
import type { AssociationGain, AssociationSummary } from '../evaluate/report.js';
import type { SideEffects, sideEffectChange } from '../evaluate/side-effects.js';
import type { SurveyAnswer, SurveyChange, SurveyQuestion, SurveySummary } from '../evaluate/survey.js';
import type { Provenance } from './evaluate-runs.js';

interface Common {
  readonly model: string;
  readonly language: string;
  readonly provenance: Provenance;
}

/** The `--json` of `evaluate association`. */
export interface AssociationResult extends Common {
  readonly measure: 'association';
  readonly norms: string;
  readonly ks: readonly number[];
  readonly human: readonly { readonly cue: string; readonly words: readonly string[] }[];
  readonly runs: readonly (AssociationSummary & {
    readonly name: string;
    readonly adapter: string | null;
    readonly cues: readonly (CueScore & { readonly text: string })[];
  })[];
  readonly gains: readonly AssociationGain[] | null;
}

/** The `--json` of `evaluate affect`. */
export interface AffectResult extends Common {
  readonly measure: 'affect';
  readonly cues: readonly string[];
  readonly run_names: readonly { readonly name: string; readonly adapter: string | null }[];
  readonly dimensions: readonly AffectSummary[];
}

/** The `--json` of `evaluate survey`. */
export interface SurveyResult extends Common {
  readonly measure: 'survey';
  readonly countries: readonly [string, string];
  readonly questions: readonly SurveyQuestion[];
  readonly high_tension: Readonly<Record<'emd' | 'sorted', readonly number[]>>;
  readonly runs: readonly {
    readonly name: string;
    readonly adapter: string | null;
    readonly answers: readonly SurveyAnswer[];
    readonly summaries: Readonly<Record<SurveySubset, SurveySummary>>;
  }[];
  readonly change: Readonly<Record<SurveySubset, SurveyChange>> | null;
}

/** All questions, or those of high tension by either formula. */
export type SurveySubset = 'all' | 'emd' | 'sorted';

/** The `--json` of `evaluate side-effects`. */
export interface SideEffectsResult extends Common {
  readonly measure: 'side-effects';
  readonly runs: readonly (SideEffects & { readonly name: string; readonly adapter: string | null })[];
  readonly change: ReturnType<typeof sideEffectChange> | null;
}

export type EvaluationResult = AssociationResult | AffectResult | SurveyResult | SideEffectsResult;

const maxBytes = 400e6;

/** Reads the `--json` of an evaluation. Throws InputError for anything else. */
export async function readEvaluationResult(file: string): Promise<EvaluationResult> {
  const info = await stat(file).catch(() => null);
  if (!info?.isFile()) throw new InputError(`${file} ${info ? 'is not a file' : 'does not exist'}`);
  if (info.size > maxBytes) throw new InputError(`${file} is larger than ${maxBytes} bytes: no result of evaluate`);
  let value: unknown;
  try {
    value = JSON.parse(await readFile(file, 'utf8'));
  } catch {
    throw new InputError(`${file} is not JSON: give what evaluate --json wrote`);
  }
  const measure = typeof value === 'object' && value !== null ? (value as Record<string, unknown>).measure : undefined;
  const parts = { association: 'runs', affect: 'dimensions', survey: 'runs', 'side-effects': 'runs' } as const;
  const part = parts[measure as keyof typeof parts];
  if (!part || !Array.isArray((value as Record<string, unknown>)[part])) {
    throw new InputError(`${file} is no result of evaluate: it has no measure with ${part ?? 'runs'}`);
  }
  return value as EvaluationResult;
}

/** As `readEvaluationResult`, of the association measure. */
export async function readAssociationResult(file: string): Promise<AssociationResult> {
  const result = await readEvaluationResult(file);
  if (result.measure === 'association') return result;
  throw new InputError(`${file} is of evaluate ${result.measure}, not of evaluate association`);
}

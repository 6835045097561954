import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { loadInstructions, loadTexts, readTexts } from '../../datasets/side-effects.js';
import { linearShapes } from '../../models/tensors.js';
import { encodeQuestion } from '../batch/messages.js';
import { affectMedians } from '../evaluate/affect.js';
import { decodeAnswers } from '../evaluate/decode.js';
import { associationPromptIds, decodeAssociations } from '../evaluate/decode-associations.js';
import {
  type ScoredSurvey,
  type SurveyProbes,
  scoreSurvey,
  surveyExamples,
  surveyTries,
} from '../evaluate/score-survey.js';
import { type StudyAnswers, titleOf } from '../evaluate/study.js';
import { hasFile, writeFileAtomic } from '../formats/files.js';
import { readAdapter } from '../formats/peft.js';
import type { AdapterWeights } from '../model/adapter.js';
import { withPreamble } from '../text/preamble.js';
import { type StudyCulture, testQuestions } from './align-data.js';
import type { Recipe, Stage } from './align-recipe.js';
import { warnOfCoverage } from './evaluate-affect.js';
import { chooseKs, listTokens } from './evaluate-association.js';
import { checkPositions } from './evaluate-runs.js';
import {
  type MeasuredSideEffects,
  measureSideEffects,
  prepareSideEffects,
  type SideEffectProbes,
} from './evaluate-side-effects.js';
import { createProgress } from './progress.js';
import { type OpenModel, requireTokenizer } from './session.js';
import type { LoadedBase } from './sft.js';

/** A model that is measured on a culture. */
export interface Variant extends Pick<StudyAnswers, 'id' | 'name' | 'seed' | 'adapter' | 'startedFrom'> {
  /** Said before every question. */
  readonly preamble: string | null;
  /** The other culture whose adapter it is, which is asked for lists and the survey alone; null for the culture's own models. */
  readonly of: string | null;
}

/** What a variant gave, as it came; null for what is not measured of it. */
export interface Answers {
  readonly lists: readonly string[];
  readonly rankings: readonly string[] | null;
  readonly survey: ScoredSurvey | null;
  readonly sideEffects: MeasuredSideEffects | null;
}

const stageNames: Readonly<Record<Stage, string>> = {
  'sft-lists': 'SFT, lists alone',
  sft: 'SFT',
  ppo: 'PPO only',
  'sft-ppo': 'SFT + PPO',
};

/** One training of a culture. */
export interface Training {
  readonly stage: Stage;
  readonly seed: number;
}

/** All trainings of a culture, in their order. */
export function trainingsOf({ stages, seeds }: Recipe): Training[] {
  return stages.flatMap((stage) => seeds.map((seed) => ({ stage, seed })));
}

/** Names files of a training; with one seed it is the stage. */
function trainingId({ seeds }: Recipe, { stage, seed }: Training): string {
  return seeds.length > 1 ? `${stage}.seed-${seed}` : stage;
}

export function adapterPath(recipe: Recipe, culture: { readonly name: string }, training: Training): string {
  return join(recipe.args.output, 'adapters', `${culture.name}.${trainingId(recipe, training)}`);
}

/** The models of a culture's table, the base first; then the last adapters of the other cultures. */
export function variantsOf(culture: StudyCulture, all: readonly StudyCulture[], recipe: Recipe): Variant[] {
  const plain = { seed: null, adapter: null, preamble: null, of: null };
  const { culture: persona, shots } = culture.preambles;
  const last = recipe.stages[recipe.stages.length - 1];
  const several = recipe.seeds.length > 1;
  return [
    { ...plain, id: 'base', name: 'base' },
    ...(persona ? [{ ...plain, id: 'culture-prompt', name: 'culture prompt', preamble: persona }] : []),
    ...(shots ? [{ ...plain, id: 'few-shot', name: 'associations in prompt', preamble: shots }] : []),
    ...trainingsOf(recipe).map((training) => ({
      ...plain,
      id: trainingId(recipe, training),
      name: stageNames[training.stage],
      seed: several ? training.seed : null,
      adapter: adapterPath(recipe, culture, training),
      ...(training.stage === 'sft-ppo' ? { startedFrom: stageNames.sft } : {}),
    })),
    ...all
      .filter((other) => other !== culture)
      .flatMap((other) =>
        recipe.seeds.map((seed) => ({
          ...plain,
          id: `adapter-of-${other.name}.${trainingId(recipe, { stage: last, seed })}`,
          name: `${stageNames[last]} of ${other.name}`,
          seed: several ? seed : null,
          adapter: adapterPath(recipe, other, { stage: last, seed }),
          of: other.name,
        })),
      ),
  ];
}

/** What is asked of every variant of a culture, as tokens. */
export interface CultureProbes {
  readonly cues: readonly string[];
  readonly words: number;
  readonly listTokens: number;
  readonly ranking: (preamble: string | null) => Int32Array[];
  readonly survey: (preamble: string | null) => SurveyProbes | null;
  readonly sideEffects: SideEffectProbes | null;
  /** Longest sequence that a variant takes. */
  readonly positions: number;
}

/** Warns where a culture's lexicon rates few of the words of its people. */
export function checkLexicon({ name, norms, lexicon }: StudyCulture): void {
  const words = norms.test.cues.map(({ responses }) => responses.map(({ word }) => word));
  const dimensions = [...(lexicon?.dimensions ?? [])];
  warnOfCoverage(
    `people of ${name}`,
    dimensions.map(([dimension, ratings]) => [dimension, affectMedians(words, ratings).coverage]),
  );
}

/** Tokenises a culture's questions under each preamble. Throws InputError where the model has too few positions. */
export async function prepareProbes(culture: StudyCulture, recipe: Recipe, model: OpenModel): Promise<CultureProbes> {
  const tokenizer = requireTokenizer(model);
  const { evaluate, measures } = recipe;
  const words = Math.max(...chooseKs(evaluate.k, model));
  const newTokens = evaluate.maxNewTokens || listTokens(words, model);
  const cues = culture.norms.test.cues.map(({ cue }) => cue);
  const { surveyed } = culture;
  const answerTokens = recipe.ppo({}).responseLength;
  const ranking = (preamble: string | null) =>
    measures.has('ranking')
      ? testQuestions(culture, recipe, preamble).map(({ messages }) => encodeQuestion(messages, tokenizer, 'a ranking'))
      : [];
  const survey = (preamble: string | null) => {
    if (!surveyed) return null;
    const prompts = surveyed.prompts.map((prompt) => withPreamble(prompt, preamble));
    const { questions, formats } = surveyed;
    const tries = surveyTries(questions, prompts, formats);
    return { questions, tries, examples: surveyExamples(tries, tokenizer, model.config.vocabSize) };
  };
  const sideEffects = measures.has('side-effects') ? await probeSideEffects(culture, recipe, model) : null;
  let positions = sideEffects?.positions ?? 0;
  for (const preamble of [null, culture.preambles.culture, culture.preambles.shots]) {
    const prompt = withPreamble(culture.prompt, preamble);
    const longest = (rows: readonly Int32Array[]) => rows.reduce((most, ids) => Math.max(most, ids.length), 0);
    const lists = longest(cues.map((cue) => associationPromptIds(tokenizer, prompt, cue, words))) + newTokens;
    const rankings = longest(ranking(preamble)) + answerTokens;
    const surveys = longest((survey(preamble)?.examples ?? []).map(({ ids }) => ids));
    positions = Math.max(positions, lists, rankings, surveys);
  }
  checkPositions(
    model,
    positions,
    `cultures (${culture.name}): the longest question and answer`,
    'lower few_shot, ppo: response_length or evaluate: max_new_tokens',
  );
  return { cues, words, listTokens: newTokens, ranking, survey, sideEffects, positions };
}

async function probeSideEffects({ language }: StudyCulture, { evaluate }: Recipe, model: OpenModel) {
  const texts = evaluate.text === undefined ? loadTexts(language) : await readTexts(evaluate.text);
  return prepareSideEffects(texts, loadInstructions(language), model);
}

/**
 * Asks one variant all that is measured of it; each part is kept in a file as soon as it is there, and taken from it when
 * the study is resumed. Null where `interrupted` asks to stop, before a part or within one, which is thrown away.
 */
export async function askVariant(
  variant: Variant,
  culture: StudyCulture,
  probes: CultureProbes,
  recipe: Recipe,
  base: LoadedBase,
  interrupted: () => boolean,
): Promise<Answers | null> {
  const { evaluate, measures, args } = recipe;
  const { adapter, preamble, of } = variant;
  const foreign = of !== null;
  const tokenizer = requireTokenizer(base.model);
  const { batchSize, microBatchTokens, presencePenalty, deterministic, stop } = evaluate;
  let weights: AdapterWeights | null = null;
  let stopped = false;
  const part = async <T>(name: string, ask: (onProgress: (share: number) => void) => Promise<T>): Promise<T | null> => {
    const file = join(args.output, 'evaluation', culture.name, variant.id, `${name}.json`);
    if (await hasFile(dirname(file), `${name}.json`)) return JSON.parse(await readFile(file, 'utf8')) as T;
    stopped ||= interrupted();
    if (stopped) return null;
    if (adapter !== null && weights === null)
      weights = await base.loaded.addAdapter(await readAdapter(adapter, linearShapes(base.model.config)), {
        trainable: false,
      });
    const progress = createProgress();
    const label = `${culture.name}, ${titleOf(variant)}: ${name}`;
    try {
      const value = await ask((share) => {
        if (interrupted()) throw new BrokenOff();
        progress.update(share, `${label} ${Math.round(100 * share)} %`);
      });
      await mkdir(dirname(file), { recursive: true });
      await writeFileAtomic(file, `${JSON.stringify(value)}\n`);
      return value;
    } catch (error) {
      if (!(error instanceof BrokenOff)) throw error;
      stopped = true;
      return null;
    } finally {
      progress.end();
    }
  };
  try {
    const lists = await part('lists', (onProgress) =>
      decodeAssociations(base.loaded, weights, tokenizer, withPreamble(culture.prompt, preamble), probes.cues, {
        ...{ words: probes.words, maxNewTokens: probes.listTokens, presencePenalty },
        ...{ batchSize, deterministic, stop, onProgress },
      }),
    );
    const questions = foreign ? [] : probes.ranking(preamble);
    const rankings =
      questions.length === 0
        ? null
        : await part('rankings', (onProgress) =>
            decodeAnswers(base.loaded, weights, tokenizer, questions, {
              maxNewTokens: recipe.ppo({}).responseLength,
              batchSize,
              deterministic,
              stop,
              onProgress,
            }),
          );
    const asked = probes.survey(preamble);
    const survey =
      asked &&
      (await part('survey', (onProgress) => scoreSurvey(base.loaded, weights, asked, microBatchTokens, onProgress)));
    const { sideEffects: effects } = probes;
    const measured = !foreign && preamble === null && effects && measures.has('side-effects');
    const sideEffects = measured
      ? await part('side-effects', (onProgress) =>
          measureSideEffects(base.loaded, weights, tokenizer, effects, {
            batchSize,
            microBatchTokens,
            deterministic,
            onProgress,
          }),
        )
      : null;
    return stopped || !lists ? null : { lists, rankings, survey, sideEffects };
  } finally {
    (weights as AdapterWeights | null)?.destroy();
  }
}

class BrokenOff extends Error {}

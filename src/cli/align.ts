import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Options } from 'yargs';
import { InputError } from '../errors.js';
import type { Common } from '../evaluate/result.js';
import { type StudyAnswers, type StudyCultureAnswers, type StudyResult, summarizeStudy } from '../evaluate/study.js';
import { cultureResults } from '../evaluate/study-results.js';
import { studyTables } from '../evaluate/study-tables.js';
import { alignColumns, testNote } from '../evaluate/table-text.js';
import { hasFile, makeDirectory, readJsonInside, writeFileAtomic } from '../formats/files.js';
import { digestFile } from '../text/lines.js';
import {
  dataPaths,
  describeImports,
  digests,
  readCultures,
  type StudyCulture,
  testQuestions,
  writeCultureData,
} from './align-data.js';
import {
  adapterPath,
  askVariant,
  type CultureProbes,
  checkLexicon,
  prepareProbes,
  trainingsOf,
  variantsOf,
} from './align-measures.js';
import { type AlignArguments, alignOptions, changeable, type Recipe, readRecipe } from './align-recipe.js';
import { checkTraining, trainStage } from './align-stages.js';
import { chooseKs } from './evaluate-association.js';
import { type Interrupt, onInterrupt } from './interrupt.js';
import { isNamedReward, loadReward } from './load-reward.js';
import type { Command } from './main.js';
import { checkJson, writeJson } from './output-file.js';
import { writeReport } from './report.js';
import { checkOutput, maxRecordBytes } from './run-directory.js';
import { checkBase, recordBase } from './run-record.js';
import { loadModel, type OpenDevice, type OpenModel, openDevice, openModel, requireTokenizer } from './session.js';
import type { LoadedBase } from './sft.js';
import { commandLine } from './usage.js';
import { lockDirectory } from './writer-lock.js';

export const alignCommand: Command = {
  command: 'align',
  describe: 'The whole study of a recipe on one loaded base: data, SFT, PPO, measures of every model, report',
  options: alignOptions as Readonly<Record<string, Options>>,
  computes: true,
  run: async (args, given) => {
    const recipe = readRecipe(args as unknown as AlignArguments);
    const names = ['config', 'output', ...given].filter((name) => name !== 'resume');
    return (await runStudy(recipe, commandLine(['align'], args, names))) ? 0 : 130;
  },
};

/** What a recipe's study is made of, checked and read. */
interface Study {
  readonly recipe: Recipe;
  /** What was typed, but for --resume. */
  readonly command: string;
  readonly model: OpenModel;
  readonly cultures: readonly StudyCulture[];
  readonly probes: readonly CultureProbes[];
  /** All files that it reads, with their SHA-256, but for the model's and the recipe. */
  readonly files: readonly { readonly file: string; readonly sha256: string }[];
}

/** What else is asked of the loaded base. */
type Beside = (base: LoadedBase, cultures: readonly StudyCulture[]) => Promise<void>;

/**
 * Conducts a recipe's study; null where it was interrupted. `command` repeats it; `beside` asks what else is asked of the loaded base, before the
 * results are written.
 */
export async function runStudy(
  recipe: Recipe,
  command: string,
  beside: Beside = async () => {},
): Promise<StudyResult | null> {
  const { output, resume, json } = recipe.args;
  await checkJson(json, output);
  await loadReward(recipe.ppo({}).reward, recipe.ppo({}));
  const model = await openModel(recipe.args);
  try {
    requireTokenizer(model);
    const cultures = await readCultures(recipe, model);
    const probes: CultureProbes[] = [];
    for (const culture of cultures) probes.push(await prepareProbes(culture, recipe, model));
    const { text } = recipe.evaluate;
    const files = cultures.flatMap((culture) => culture.files);
    if (text !== undefined) files.push({ file: text, sha256: await digestFile(text) });
    const study = { recipe, command, model, cultures, probes, files };
    const began = await claimOutput(study, resume);
    const unlock = await lockDirectory(output);
    try {
      return await importAndConduct(study, began, beside);
    } finally {
      await unlock();
    }
  } finally {
    await model.checkpoint.close();
  }
}

/** Writes and checks what is trained on, which takes no device (a new directory goes again where that fails), then conducts. */
async function importAndConduct(study: Study, began: boolean, beside: Beside): Promise<StudyResult | null> {
  const { recipe, model, cultures, probes } = study;
  let positions = probes.reduce((most, own) => Math.max(most, own.positions), 0);
  try {
    for (const culture of cultures) {
      for (const line of describeImports(culture)) console.log(line);
      console.log(await writeCultureData(culture, recipe));
      checkLexicon(culture);
      positions = Math.max(positions, await checkTraining(culture, recipe, model));
    }
  } catch (error) {
    if (began) await rm(recipe.args.output, { recursive: true, force: true });
    throw error;
  }
  const open = await openDevice(recipe.args);
  try {
    return await conduct(study, open, positions, beside);
  } finally {
    await open.close();
  }
}

/** A new directory (then true), or the one of the same study; study.json says of which. */
async function claimOutput({ recipe, model, cultures, files: read }: Study, resume: boolean): Promise<boolean> {
  const { output } = recipe.args;
  const files = Object.fromEntries(read.map(({ file, sha256 }) => [file, sha256]));
  // Prompts of our own change with the version that asks.
  const asked = Object.fromEntries(
    cultures.map(({ name, prompt, rankingPrompt, surveyPrompts, preambles }) => [
      name,
      {
        association: prompt,
        ranking: rankingPrompt,
        survey: surveyPrompts,
        persona: preambles.culture,
        shots: preambles.shots,
      },
    ]),
  );
  const base = await recordBase(model); // while its files are open: every run records what base it was
  const identity = JSON.parse(JSON.stringify({ ...recipe.identity, base, files, asked })) as Record<string, unknown>;
  if (resume && (await hasFile(output, 'study.json'))) {
    const refuse = (what: string, mend: string): never => {
      throw new InputError(`--resume: ${what} since the study in ${output} began: ${mend}, or name another --output.`);
    };
    const known = (await readJsonInside(output, 'study.json', maxRecordBytes)).value as Record<string, unknown>;
    await checkBase(known.base, model, refuse);
    const changed = difference(known, identity, '');
    if (changed !== null) refuse(`${changed} has changed`, 'restore it');
    return false;
  }
  await checkOutput(output);
  await makeDirectory(output);
  await writeFileAtomic(join(output, 'study.json'), `${JSON.stringify(identity, null, 2)}\n`);
  return true;
}

/** Where two studies differ first in what they must have in common; null where they don't. */
function difference(a: unknown, b: unknown, path: string): string | null {
  const keys = (value: unknown) => (typeof value === 'object' && value !== null ? Object.keys(value) : []);
  const both = [...new Set([...keys(a), ...keys(b)])];
  if (both.length === 0) return JSON.stringify(a) === JSON.stringify(b) ? null : path;
  for (const key of both) {
    if (['sft', 'ppo'].includes(path) && changeable.includes(key)) continue;
    const at = (value: unknown) => (value as Record<string, unknown> | null | undefined)?.[key];
    const found = difference(at(a), at(b), path === '' ? key : `${path}.${key}`);
    if (found !== null) return found;
  }
  return null;
}

/** Trains and measures on one loaded base, and writes the results. */
async function conduct(study: Study, open: OpenDevice, positions: number, beside: Beside): Promise<StudyResult | null> {
  const started = performance.now();
  const { recipe, model, cultures, probes } = study;
  const { output } = recipe.args;
  const loaded = await loadModel(open, model, positions);
  const base: LoadedBase = { model, open, loaded };
  const interrupt = onInterrupt(() => console.error(`Interrupted: --resume goes on with ${output}.`));
  try {
    for (const culture of cultures)
      for (const training of trainingsOf(recipe)) {
        if (interrupt.requested || !(await trainStage(training, culture, recipe, base))) return null;
      }
    console.log('\n── measuring');
    const asked: StudyCultureAnswers[] = [];
    for (const [i, culture] of cultures.entries()) {
      const own = await askCulture(culture, cultures, probes[i], recipe, base, interrupt);
      if (!own) return null;
      asked.push(own);
    }
    await beside(base, cultures);
    const { result, reported } = await writeResults(asked, study, open);
    const lines = describe(result);
    await writeFileAtomic(join(output, 'result.txt'), `${lines.join('\n')}\n`);
    await writeJson(recipe.args.json, result);
    if (recipe.args.json !== '-') console.log(`\n${lines.join('\n')}`);
    await rm(join(output, 'report'), { recursive: true, force: true });
    await writeReport(reported, join(output, 'report'), `Alignment of ${asked.map(({ name }) => name).join(', ')}`);
    if (recipe.args.json !== '-') console.log(`\n${places(recipe, cultures).join('\n')}`);
    console.log(`This took ${((performance.now() - started) / 1000).toFixed(1)} s.`);
    return result;
  } finally {
    interrupt.remove();
  }
}

/** All models about one culture; null where it was interrupted. */
async function askCulture(
  culture: StudyCulture,
  all: readonly StudyCulture[],
  probes: CultureProbes,
  recipe: Recipe,
  base: LoadedBase,
  interrupt: Interrupt,
): Promise<StudyCultureAnswers | null> {
  const models: StudyAnswers[] = [];
  for (const variant of variantsOf(culture, all, recipe)) {
    const answers = await askVariant(variant, culture, probes, recipe, base, () => interrupt.requested);
    if (!answers) return null;
    const { preamble: _, ...known } = variant;
    const of = variant.of ?? (variant.adapter ? culture.name : null);
    models.push({ ...known, of, ...answers, survey: answers.survey?.answers ?? null });
  }
  return {
    name: culture.name,
    language: culture.language,
    human: culture.norms.test.cues,
    questions: testQuestions(culture, recipe, null),
    lexicon: culture.lexicon,
    surveyed: culture.surveyed,
    models,
  };
}

/** Writes result.json, and the measures as `evaluate --json` does; gives the result, and what a report is made of. */
async function writeResults(
  asked: readonly StudyCultureAnswers[],
  { recipe, command, model, cultures, files: read }: Study,
  open: OpenDevice,
): Promise<{ readonly result: StudyResult; readonly reported: readonly string[] }> {
  const { output, config } = recipe.args;
  const settings = {
    ks: chooseKs(recipe.evaluate.k, model),
    highTension: recipe.evaluate.highTension,
    seed: recipe.evaluate.seed,
  };
  const summary = summarizeStudy(asked, settings);
  const { reward } = recipe.ppo({});
  const modules = recipe.stages.some((stage) => stage.endsWith('ppo')) && !isNamedReward(reward) ? [reward] : [];
  const files = [...(await digests([config, ...modules])), ...read];
  const provenance = {
    command,
    created: new Date().toISOString(),
    files,
  };
  const common: Common = {
    model: model.directory,
    quantize: recipe.args.quantize,
    tier: open.tier,
    language: asked.map(({ language }) => language).join(', '),
    provenance,
  };
  const imports = cultures.flatMap((culture) => culture.imports);
  const result: StudyResult = { ...common, measure: 'study', device: open.describe, imports, ...summary };
  const reported = [join(output, 'result.json')];
  await writeFileAtomic(reported[0], `${JSON.stringify(result, null, 2)}\n`);
  for (const [i, culture] of asked.entries()) {
    for (const own of cultureResults(
      culture,
      summary.cultures[i],
      { ...common, language: culture.language },
      settings,
    )) {
      const file = join(output, 'evaluation', culture.name, `${own.measure}.json`);
      await writeFileAtomic(file, `${JSON.stringify(own, null, 2)}\n`);
      reported.push(file);
    }
    for (const training of trainingsOf(recipe)) reported.push(adapterPath(recipe, culture, training));
  }
  return { result, reported };
}

function describe(result: StudyResult): string[] {
  const tables = studyTables(result).flatMap(({ title, note, head, rows }) => [
    '',
    title,
    note,
    ...alignColumns([head, ...rows], 1),
  ]);
  return [`In all tables: ${testNote}`, ...tables];
}

function places(recipe: Recipe, cultures: readonly StudyCulture[]): string[] {
  const { output } = recipe.args;
  const [first] = cultures;
  return [
    'Where things lie:',
    `  report           ${join(output, 'report', 'report.html')}, report.md, report.json`,
    `  these tables     ${join(output, 'result.txt')}; all figures: ${join(output, 'result.json')}`,
    `  adapters (PEFT)  ${adapterPath(recipe, first, trainingsOf(recipe).at(-1)!)}, …`,
    `  data             ${join(output, 'data')}; held-out cues: ${dataPaths(output, first).test}`,
    `  every answer     ${join(output, 'evaluation')}`,
  ];
}

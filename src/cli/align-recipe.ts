import type { ArgumentsCamelCase, InferredOptionTypes, Options } from 'yargs';
import { UsageError } from '../errors.js';
import { isRecord } from '../formats/keys.js';
import { type Culture, parseCultures } from './align-cultures.js';
import { checkWhole, checkWithin } from './check-numbers.js';
import { checkTypes } from './check-types.js';
import { readSection, readYaml, sections } from './config-file.js';
import { dataOptions, parsePositions, parseSplit } from './data.js';
import { checkEvaluateNumbers, type EvaluateArguments, evaluateOptions } from './evaluate.js';
import { parseKs } from './evaluate-association.js';
import { parseFormats } from './evaluate-survey.js';
import { answerOptions, checkSeed, configOption, modelOptions, sftOptions } from './options.js';
import { jsonOption } from './output-file.js';
import { checkPpoArguments, type PpoRunArguments, ppoLoraOptions, ppoTable } from './ppo-arguments.js';
import { ppoOptions } from './ppo-options.js';
import { checkArguments, type SftArguments, sftTable } from './sft.js';
import { parseOptions } from './usage.js';

/** What may be trained for a culture, in the order of training. */
export const stages = ['sft-lists', 'sft', 'ppo', 'sft-ppo'] as const;
export type Stage = (typeof stages)[number];
/** What may be measured beside associations. */
const measures = ['ranking', 'affect', 'survey', 'side-effects'] as const;
export type Measure = (typeof measures)[number];

export const alignOptions = {
  ...modelOptions,
  output: {
    type: 'string',
    describe: 'Directory for data, adapters and results; must be new or empty, but with --resume; required',
  },
  stages: {
    type: 'string',
    default: 'sft,sft-ppo',
    describe:
      'What is trained for each culture: sft-lists (without ranking examples), sft, ppo (from the base), sft-ppo',
  },
  measures: {
    type: 'string',
    default: measures.join(','),
    describe:
      'What is measured beside associations: ranking, affect (of cultures with lexicons), survey (with surveys), side-effects',
  },
  'culture-prompt': {
    type: 'boolean',
    default: true,
    describe: 'Measure the untouched base also with a prompt to answer as someone from the culture',
  },
  'few-shot': {
    type: 'number',
    default: 5,
    describe:
      'Measure the untouched base also with the associations of a sample of so many training cues in its prompt; 0: without',
  },
  'ranking-share': {
    type: 'number',
    default: 0.1,
    describe: 'Share of ranking examples among the rows of sft, so that the form of their answers is kept',
  },
  'ppo-cues': {
    type: 'number',
    default: 0,
    describe: 'Let PPO ask about a sample of so many training cues a culture; 0: about all',
  },
  'test-cues': {
    type: 'number',
    default: 0,
    describe: 'Measure on a sample of so many held-out cues a culture; 0: on all',
  },
  seed: {
    type: 'string',
    default: '42',
    describe:
      'Of training; with several, such as 1,2,3, every stage is trained with each; the split has its own, in the section data',
  },
  ...jsonOption,
  resume: {
    type: 'boolean',
    default: false,
    describe: 'Go on with the study in --output; the recipe is to be the same',
  },
  ...configOption,
} as const satisfies Record<string, Options>;
export type AlignArguments = ArgumentsCamelCase<InferredOptionTypes<typeof alignOptions>>;

const dataNames = ['split', 'seed', 'augment', 'max-associates', 'ranking', 'ranking-questions'];
/** What `lexalign data` demands, and each culture gives. */
const required = { input: '', output: '' };
const evaluateNames = [
  ...['k', 'max-new-tokens', 'presence-penalty', 'batch-size', 'micro-batch-tokens', 'formats', 'wordings'],
  ...['high-tension', 'text', 'seed', ...Object.keys(answerOptions)],
];
/** What align decides in the sections of training. */
const decided = ['data', 'eval-data', 'output', 'init-adapter', 'ref-adapter', 'resume', 'config', 'json', 'profile'];

/** What a resumed study may change in these sections: how its trainings use memory, and what they write on the way. */
export const changeable: readonly string[] = [
  'micro-batch-tokens',
  'gradient-checkpointing',
  'kv-cache-tokens',
  'save-steps',
  'save-minutes',
];

type DataArguments = ArgumentsCamelCase<InferredOptionTypes<typeof dataOptions>>;
type Values = Readonly<Record<string, unknown>>;

/** A study, checked as far as that goes without its files. */
export interface Recipe {
  readonly args: AlignArguments & { readonly output: string; readonly config: string };
  readonly stages: readonly Stage[];
  /** Each stage is trained once with each. */
  readonly seeds: readonly number[];
  readonly measures: ReadonlySet<Measure>;
  readonly cultures: readonly Culture[];
  readonly data: DataArguments;
  readonly evaluate: EvaluateArguments;
  /** The options of a run of `lexalign sft`, with those given on top. */
  sft(given: Values): SftArguments;
  /** Of `lexalign ppo`. LoRA settings that its section lacks are those of sft; none with an adapter to start from. */
  ppo(given: Values): PpoRunArguments;
  /** What a resumed study must have in common with this one, by section, but for `changeable`. */
  readonly identity: Values;
}

/** Reads a recipe. Throws UsageError or InputError that names section and key. */
export function readRecipe(asked: AlignArguments): Recipe {
  const { config, output } = asked;
  if (config === undefined) throw new UsageError('align needs --config RECIPE.yaml.');
  if (output === undefined) throw new UsageError('align needs --output, or output in the section align of its recipe.');
  const args = { ...asked, config, output };
  checkAlign(args);
  const top = readYaml(config);
  const stray = Object.keys(top).find((key) => !sections.includes(key));
  if (stray !== undefined)
    throw new UsageError(`--config ${config}: ${stray} stands in no section; a study has ${sections.join(', ')}.`);
  const cultures = parseCultures(top.cultures, config);
  const section = (name: string, table: Readonly<Record<string, Options>>, names: readonly string[]) =>
    checkedSection(config, name, table, names);
  const trained = (options: object) => Object.keys(options).filter((name) => !decided.includes(name));
  const { model, device, tier, quantize } = args;
  const seeds = parseSeeds(args.seed);
  const common = {
    model,
    device,
    tier,
    quantize,
    seed: seeds[0],
    'debug-gpu': args.debugGpu,
    'memory-limit': args.memoryLimit,
  };
  const values = {
    data: section('data', dataOptions, dataNames),
    sft: section('sft', sftTable, trained(sftOptions)),
    ppo: section('ppo', ppoTable, trained(ppoOptions)),
    evaluate: section('evaluate', evaluateOptions, evaluateNames),
  };
  const seeded = (['sft', 'ppo'] as const).find((name) => 'seed' in values[name]);
  if (seeds.length > 1 && seeded)
    throw new UsageError(`--config ${config}: ${seeded}: seed is settled by the seeds of align: leave it out.`);
  const lora = pick(values.sft, ppoLoraOptions);
  const recipe: Recipe = {
    args,
    stages: chosen('stages', args.stages, stages),
    seeds,
    measures: new Set(chosen('measures', args.measures, measures)),
    cultures,
    data: parseOptions(dataOptions, { ...required, ranking: 10, ...values.data }),
    evaluate: parseOptions(evaluateOptions, values.evaluate),
    sft: (given) => parseOptions(sftTable, { ...common, ...values.sft, ...given }),
    ppo: (given) => {
      const own = 'init-adapter' in given ? omit(values.ppo, ppoLoraOptions) : { ...lora, ...values.ppo };
      return parseOptions(ppoTable, { ...common, ...own, ...given });
    },
    identity: { ...identityOf(args, seeds), cultures: top.cultures, ...values },
  };
  checkSections(recipe, config);
  return recipe;
}

/** The adapter that PPO trains in a study. */
export interface StudyPpoAdapter {
  /** It is SFT's (stage sft-ppo), which is the reference too; else a new one over the base alone (stage ppo). */
  readonly continuesSft: boolean;
  /** Those of its LoRA settings that the recipe gives, by option. */
  readonly lora: Values;
}

/** Of a recipe that names both stages the adapter of sft-ppo; null of a file that is no study. Throws as `readRecipe`. */
export function readStudyPpoAdapter(file: string): StudyPpoAdapter | null {
  const { align, cultures } = readYaml(file);
  if (!isRecord(align) && cultures === undefined) return null;
  const { stages: named } = { stages: alignOptions.stages.default, ...readSection(file, 'align', alignOptions) };
  const trained = within(`--config ${file}: align`, () => chosen('stages', String(named), stages));
  const continuesSft = trained.includes('sft-ppo') || !trained.includes('ppo');
  const own = continuesSft ? {} : readSection(file, 'ppo', ppoTable);
  return { continuesSft, lora: pick({ ...readSection(file, 'sft', sftTable), ...own }, ppoLoraOptions) };
}

/** One of a recipe's sections, as options. */
function checkedSection(
  file: string,
  name: string,
  table: Readonly<Record<string, Options>>,
  names: readonly string[],
): Record<string, unknown> {
  const values = readSection(file, name, table);
  const settled = Object.keys(values).find((option) => !names.includes(option));
  if (settled !== undefined)
    throw new UsageError(`--config ${file}: ${name}: ${settled} is settled by align and its cultures: leave it out.`);
  within(`--config ${file}: ${name}`, () => {
    checkTypes(values, table);
    parseOptions(table, { ...required, ...values });
  });
  return values;
}

/** One seed, or several by commas. */
function parseSeeds(text: string | number): number[] {
  const seeds = String(text)
    .split(',')
    .map((part) => (part.trim() === '' ? Number.NaN : Number(part)));
  for (const seed of seeds) checkSeed(seed);
  if (new Set(seeds).size < seeds.length) throw new UsageError(`--seed ${text} names a seed twice.`);
  return seeds;
}

function checkSections(recipe: Recipe, file: string): void {
  within(`--config ${file}: data`, () => {
    parseSplit(recipe.data.split);
    checkSeed(recipe.data.seed);
    checkWhole('ranking', recipe.data.ranking, 2);
    checkWhole('ranking-questions', recipe.data.rankingQuestions, 1);
    for (const name of ['augment', 'max-associates'] as const) checkWhole(name, recipe.data[name] as number, 0);
  });
  within(`--config ${file}: sft`, () => checkArguments(recipe.sft({}), new Set()));
  within(`--config ${file}: ppo`, () => checkPpoArguments(recipe.ppo({}), new Set()));
  within(`--config ${file}: evaluate`, () => {
    const { evaluate } = recipe;
    if (evaluate.k !== undefined) parseKs(evaluate.k);
    parseFormats(evaluate.formats);
    checkEvaluateNumbers(evaluate);
  });
  for (const { name, associations } of recipe.cultures)
    if (associations?.responses) {
      const { responses } = associations;
      within(`--config ${file}: cultures (${name})`, () => parsePositions(responses));
    }
}

function checkAlign(args: AlignArguments): void {
  const trained = chosen('stages', args.stages, stages);
  if (trained.includes('sft-ppo') && !trained.includes('sft'))
    throw new UsageError('--stages: sft-ppo goes on from sft: name both.');
  for (const name of ['few-shot', 'ppo-cues', 'test-cues'] as const) checkWhole(name, args[name] as number, 0);
  if (args.testCues === 1) throw new UsageError('--test-cues must be 0 or at least 2.');
  checkWithin('ranking-share', args.rankingShare, 0, 1);
}

/** Words of a list, in the order of `known`. */
function chosen<Word extends string>(name: string, text: string, known: readonly Word[]): Word[] {
  const words = text.split(',').map((word) => word.trim());
  const wrong = words.find((word) => !(known as readonly string[]).includes(word));
  if (wrong !== undefined) throw new UsageError(`--${name} ${wrong} is none of ${known.join(', ')}.`);
  return known.filter((word) => words.includes(word));
}

/** Says in which section an error lies. */
function within<T>(where: string, check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (error instanceof UsageError) throw new UsageError(`${where}: ${error.message}`);
    throw error;
  }
}

function pick(values: Values, names: readonly string[]): Values {
  return Object.fromEntries(Object.entries(values).filter(([name]) => names.includes(name)));
}

function omit(values: Values, names: readonly string[]): Values {
  return Object.fromEntries(Object.entries(values).filter(([name]) => !names.includes(name)));
}

/** Of align's own options those that results depend on. */
function identityOf(args: AlignArguments, seeds: readonly number[]): Values {
  const names = ['model', 'quantize', 'tier', 'ranking-share', 'few-shot', 'ppo-cues', 'test-cues'];
  const values = Object.fromEntries(names.map((name) => [name, args[name] ?? null]));
  return { align: { ...values, seed: seeds.length === 1 ? seeds[0] : seeds } };
}

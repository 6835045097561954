import { join, relative } from 'node:path';
import yargs, { type ArgumentsCamelCase, type InferredOptionTypes, type Options } from 'yargs';
import { type AssociationRow, associationRows } from '../../datasets/association-rows.js';
import { loadMiniNorms } from '../../datasets/mini-norms.js';
import { type Language, type Norms, splitByCue } from '../../datasets/norms.js';
import { UsageError } from '../errors.js';
import { type CueScore, scoreAssociations } from '../evaluate/association.js';
import { decodeAssociations } from '../evaluate/decode-associations.js';
import {
  type AssociationSummary,
  associationGains,
  type Comparison,
  formatComparisons,
  summarizeAssociations,
} from '../evaluate/report.js';
import { makeDirectory, writeFileAtomic } from '../formats/files.js';
import type { AdapterWeights } from '../model/adapter.js';
import { type AssociationPrompt, LEXI_BASE_PROMPTS } from '../text/prompts.js';
import { readConfigFile } from './config-file.js';
import { packageRoot } from './kernel-source.js';
import type { Command } from './main.js';
import { checkSeed, configOption, modelOptions, sftOptions } from './options.js';
import { checkJson, jsonOption, writeJson } from './output-file.js';
import { checkOutput } from './run-directory.js';
import { recordBase, resumeOption } from './run-record.js';
import { loadModel, openDevice, openModel, requireTokenizer } from './session.js';
import { type LoadedBase, runSft, type SftArguments } from './sft.js';

const options = {
  output: { type: 'string', describe: 'Directory for data, runs and report; by default runs/demo-<time>' },
  language: { type: 'string', choices: ['en', 'zh', 'both'], default: 'both', describe: 'Which associations to teach' },
  device: modelOptions.device,
  tier: modelOptions.tier,
  seed: {
    type: 'number',
    default: 42,
    describe: 'Of initialisation and shuffling; the split by cue is always the same',
  },
  ...jsonOption,
  cues: { type: 'number', default: 0, hidden: true, describe: 'Take only so many cues a language' },
  'max-steps': { type: 'number', default: 0, hidden: true, describe: 'Train only so many steps' },
} as const satisfies Record<string, Options>;
type Arguments = ArgumentsCamelCase<InferredOptionTypes<typeof options>>;

export const demoCommand: Command = {
  command: 'demo',
  describe: 'Teach the embedded model word associations; show what it gained on cues it never saw',
  options,
  computes: true,
  run: async (args) => runDemo(args as unknown as Arguments),
};

/** Share of the cues to train on and of those held out, and the seed that parts them. */
const split = { fractions: [0.7, 0.3], seed: 42 };
/** Of a cue's associates those that are taught. */
const taughtAssociates = 8;
const ks = [5];
/** A question of a kind that lexi-base's pretraining held, with English words: what it can do without any training. */
const knownPrompt: AssociationPrompt = {
  form: 'text',
  system: null,
  question: 'Words related to {cue}:',
  separator: ', ',
  lead: ' ',
};
const names: Readonly<Record<Language, string>> = { en: 'English', zh: 'Mandarin' };
const recipe = join(packageRoot, 'recipes', 'demo.yaml');

/** What one language gave. */
interface LanguageResult {
  readonly language: Language;
  readonly comparison: Comparison;
  readonly base: readonly CueScore[];
  readonly adapter: readonly CueScore[];
  /** The base asked by `knownPrompt`; null for Mandarin. */
  readonly known: AssociationSummary | null;
  readonly seconds: Readonly<Record<'before' | 'known' | 'training' | 'after', number>>;
  readonly steps: number;
}

/** Split, evaluate, train, evaluate, report, for each language on one device; gives the exit code. */
async function runDemo(args: Arguments): Promise<number> {
  const languages: Language[] = args.language === 'both' ? ['en', 'zh'] : [args.language as Language];
  for (const [name, value] of Object.entries({ cues: args.cues, 'max-steps': args.maxSteps })) {
    if (!Number.isInteger(value) || value < 0) throw new UsageError(`--${name} must be a whole number of at least 0.`);
  }
  checkSeed(args.seed);
  const output = args.output ?? join('runs', `demo-${timestamp(new Date())}`);
  await checkJson(args.json, output);
  await checkOutput(output);
  const started = performance.now();
  const model = await openModel({});
  const open = await openDevice(args);
  try {
    // While its files are open: every run records what base it was.
    await recordBase(model);
    const loaded = await loadModel(open, model, recipeArguments('', '', args).maxLength);
    console.log(`${open.describe}; lexi-base loaded in ${since(started)}.`);
    const results: LanguageResult[] = [];
    for (const language of languages) {
      const result = await demonstrate(language, { model, open, loaded }, output, args);
      if (!result) return 130;
      results.push(result);
    }
    const lines = [...summary(results), '', ...places(results, output), '', `All stages took ${since(started)}.`];
    const report = describeReport(results, open.describe, (performance.now() - started) / 1000);
    await writeFileAtomic(join(output, 'report.txt'), `${lines.join('\n')}\n`);
    await writeFileAtomic(join(output, 'report.json'), `${JSON.stringify(report, null, 2)}\n`);
    await writeJson(args.json, report);
    console.log(`\n${lines.join('\n')}`);
    return 0;
  } finally {
    await open.close();
    await model.checkpoint.close();
  }
}

/** One language from its data to its scores; null when interrupted. */
async function demonstrate(
  language: Language,
  base: LoadedBase,
  output: string,
  args: Arguments,
): Promise<LanguageResult | null> {
  const norms = loadMiniNorms(language);
  const cues = args.cues > 0 ? norms.cues.slice(0, args.cues) : norms.cues;
  const [train, test] = splitByCue({ language, cues }, split.fractions, split.seed);
  const data = join(output, 'data', language);
  const rows = associationRows(train, {
    prompt: LEXI_BASE_PROMPTS[language],
    maxAssociates: taughtAssociates,
    seed: args.seed,
  });
  await writeData(data, rows, test);
  console.log(
    `\n── ${names[language]}: ${train.cues.length} cues to train on, ${test.cues.length} held out; written to ${data}`,
  );

  const evaluate = async (adapter: AdapterWeights | null, prompt: AssociationPrompt) => {
    const who = adapter ? 'the adapter' : 'the base model';
    const how = prompt === knownPrompt ? ', as in its pretraining,' : '';
    process.stdout.write(`Asking ${who}${how} for associates of the ${test.cues.length} held-out cues … `);
    const started = performance.now();
    const texts = await decodeAssociations(
      base.loaded,
      adapter,
      requireTokenizer(base.model),
      prompt,
      test.cues.map(({ cue }) => cue),
    );
    console.log(since(started));
    return { scores: scoreAssociations(test.cues, texts, ks), seconds: (performance.now() - started) / 1000 };
  };

  const before = await evaluate(null, LEXI_BASE_PROMPTS[language]);
  const known = language === 'en' ? await evaluate(null, knownPrompt) : null;
  const started = performance.now();
  const { result } = await runSft(
    recipeArguments(join(data, 'train.jsonl'), join(output, language), args),
    new Set(),
    base,
  );
  if (result.outcome === 'interrupted') return null;
  const training = (performance.now() - started) / 1000;
  console.log(`Training took ${training.toFixed(1)} s.`);
  const adapter = await base.loaded.addAdapter(result.adapter, { trainable: false });
  const after = await evaluate(adapter, LEXI_BASE_PROMPTS[language]);
  adapter.destroy();
  return {
    language,
    comparison: {
      title: names[language],
      base: summarizeAssociations(before.scores, ks),
      adapter: summarizeAssociations(after.scores, ks),
      gains: associationGains(before.scores, after.scores, ks),
    },
    base: before.scores,
    adapter: after.scores,
    known: known && summarizeAssociations(known.scores, ks),
    seconds: { before: before.seconds, known: known?.seconds ?? 0, training, after: after.seconds },
    steps: result.steps,
  };
}

/** train.jsonl for `sft`, test.tsv for `evaluate association`. */
async function writeData(directory: string, rows: readonly AssociationRow[], test: Norms): Promise<void> {
  await makeDirectory(directory);
  await writeFileAtomic(join(directory, 'train.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  const lines = test.cues.flatMap(({ cue, responses }) =>
    responses.map(({ word, count }) => `${cue}\t${word}\t${count}\n`),
  );
  await writeFileAtomic(join(directory, 'test.tsv'), `cue\tresponse\tcount\n${lines.join('')}`);
}

/** The options of `lexalign sft --config recipes/demo.yaml --data … --output …`. */
function recipeArguments(data: string, output: string, args: Arguments): SftArguments {
  const known = { ...modelOptions, ...sftOptions, ...resumeOption, ...configOption };
  const { device, tier, seed } = args;
  const given = { data, output, device, tier, seed, ...(args.maxSteps > 0 ? { 'max-steps': args.maxSteps } : {}) };
  return yargs([])
    .config({ ...readConfigFile(recipe, 'sft', new Set(Object.keys(known))), ...given })
    .options(known)
    .parseSync();
}

/** The table and what it says, good or bad. */
function summary(results: readonly LanguageResult[]): string[] {
  const lines = [
    'P@5: share of the first five words that are on the held-out cue’s list; "other list" is another cue’s list, which',
    'counts what frequent words would hit anyway. In percent; gains with their bootstrap 95 % interval over n cues.',
    '',
    ...formatComparisons(results.map(({ comparison }) => comparison)),
  ];
  for (const { language, comparison, base, adapter, known } of results) {
    lines.push('', ...verdict(comparison), ...samples(base, adapter));
    if (language === 'zh')
      lines.push(
        '  Mandarin is weak: the model learnt its Chinese through English glosses, and its words are often wrong.',
      );
    if (known) lines.push(...describeKnown(known));
  }
  lines.push(
    '',
    'lexi-base is a tiny model, 4 million parameters, made for this demonstration; it is not an assistant.',
  );
  return lines;
}

/** What keeps the gain in proportion. */
function describeKnown({ precision }: AssociationSummary): string[] {
  const [own, other] = [precision[0].own, precision[0].other].map(({ mean }) => (100 * mean).toFixed(1));
  return [
    `  Asked in a form that it met in pretraining ("${knownPrompt.question.replace('{cue}', 'X')}"), the base gives ${own} % (other list ${other} %)`,
    '  without any training: what training gains is relations it knows, called up under a new question.',
  ];
}

function verdict({ title, gains }: Comparison): string[] {
  const { mean, low, high, n } = gains[0].aboveOther;
  const points = (share: number) => (100 * share).toFixed(1);
  const interval = `${points(mean)} points, 95 % interval ${points(low)} to ${points(high)}, ${n} held-out cues`;
  if (low > 0) return [`${title}: own − other gained ${interval}: above zero.`];
  if (high < 0) return [`${title}: own − other fell, ${interval}: training did harm.`];
  return [`${title}: own − other changed by ${interval}: the interval holds zero, so no gain is shown.`];
}

/** The first held-out cues, before and after. */
function samples(base: readonly CueScore[], adapter: readonly CueScore[]): string[] {
  const list = ({ predictions }: CueScore) => predictions.slice(0, 5).join(', ') || '(nothing)';
  return base.slice(0, 3).flatMap((score, i) => [`  ${score.cue}: ${list(score)}  →  ${list(adapter[i])}`]);
}

function places(results: readonly LanguageResult[], output: string): string[] {
  const at = (...parts: string[]) => join(output, ...parts);
  const each = results.map(({ language }) => language);
  const any = each.length > 1 ? `{${each.join(',')}}` : each[0];
  const question = LEXI_BASE_PROMPTS[each[0]].question.replace('{cue}', each[0] === 'en' ? 'winter' : '冬天');
  return [
    'Where things lie:',
    `  adapter (PEFT)   ${at(any, 'adapter_model.safetensors')}, adapter_config.json`,
    `  metrics          ${at(any, 'metrics.jsonl')}, run.json`,
    `  training data    ${at('data', any, 'train.jsonl')}; held-out cues: test.tsv`,
    `  this report      ${at('report.txt')}; with every list: ${at('report.json')}`,
    `  the recipe       ${relative(process.cwd(), recipe)}`,
    'Ask it yourself, or score it again:',
    `  npx lexalign generate --adapter ${at(each[0])} --presence-penalty 4 --max-new-tokens 28 --prompt $'${question.replaceAll('\n', '\\n')}'`,
    `  npx lexalign evaluate association --adapter ${at(each[0])} --norms ${at('data', each[0], 'test.tsv')} --language ${each[0]} --k 5`,
  ];
}

function describeReport(results: readonly LanguageResult[], device: string, seconds: number) {
  return {
    command: 'demo',
    device,
    seconds,
    split,
    languages: results.map(({ language, comparison, base, adapter, known, ...rest }) => ({
      language,
      ...rest,
      base: comparison.base,
      adapter: comparison.adapter,
      gains: comparison.gains,
      known_prompt: known && { question: knownPrompt.question, ...known },
      cues: base.map((score, i) => ({ base: score, adapter: adapter[i] })),
    })),
  };
}

function since(start: number): string {
  return `${((performance.now() - start) / 1000).toFixed(1)} s`;
}

/** 20251123-200312, local time. */
function timestamp(date: Date): string {
  const two = (n: number) => String(n).padStart(2, '0');
  const day = `${date.getFullYear()}${two(date.getMonth() + 1)}${two(date.getDate())}`;
  return `${day}-${two(date.getHours())}${two(date.getMinutes())}${two(date.getSeconds())}`;
}

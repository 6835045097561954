import { readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import type { ArgumentsCamelCase, InferredOptionTypes, Options } from 'yargs';
import type { Language } from '../../datasets/norms.js';
import { UsageError } from '../errors.js';
import { scoreAssociations } from '../evaluate/association.js';
import {
  type AssociationSummary,
  type Comparison,
  formatComparisons,
  summarizeAssociations,
} from '../evaluate/association-summary.js';
import { decodeAssociations } from '../evaluate/decode-associations.js';
import type { AssociationResult } from '../evaluate/result.js';
import { mean } from '../evaluate/statistics.js';
import type { StudyCultureResult, StudyResult } from '../evaluate/study.js';
import { percent } from '../evaluate/table-text.js';
import { packageRoot } from '../paths.js';
import { type AssociationPrompt, LEXI_BASE_PROMPTS } from '../text/prompts.js';
import type { PpoMetrics } from '../train/ppo.js';
import { runStudy } from './align.js';
import { dataPaths } from './align-data.js';
import { adapterPath, trainingsOf } from './align-measures.js';
import { type AlignArguments, alignOptions, type Recipe, readRecipe } from './align-recipe.js';
import { readConfigFile } from './config-file.js';
import type { Command } from './main.js';
import { checkSeed, modelOptions } from './options.js';
import { jsonOption } from './output-file.js';
import { createParser } from './parser.js';
import { requireTokenizer } from './session.js';
import { commandLine } from './usage.js';

const options = {
  output: {
    type: 'string',
    describe: 'Directory for data, runs and report; must be new or empty; by default runs/demo-<time>',
  },
  language: { type: 'string', choices: ['en', 'zh', 'both'], default: 'both', describe: 'Which associations to teach' },
  device: modelOptions.device,
  tier: modelOptions.tier,
  seed: {
    type: 'number',
    default: 42,
    describe: 'Of initialisation, shuffling and sampling; the split by cue is always the same',
  },
  ...jsonOption,
  recipe: {
    type: 'string',
    default: join(packageRoot, 'recipes', 'align-mini.yaml'),
    hidden: true,
    describe: 'Another study of lexi-base',
  },
} as const satisfies Record<string, Options>;
type Arguments = ArgumentsCamelCase<InferredOptionTypes<typeof options>>;

export const demoCommand: Command = {
  command: 'demo',
  describe:
    'Teach the embedded model word associations in a small study; show what it gained on cues that training did not ask about',
  options,
  computes: true,
  run: async (args, given) => runDemo(args as unknown as Arguments, given),
};

/** A question of a kind that lexi-base's pretraining held, with English words: what it can do without any training. */
const knownPrompt: AssociationPrompt = {
  form: 'text',
  system: null,
  question: 'Words related to {cue}:',
  separator: ', ',
  lead: ' ',
};
const names: Readonly<Record<string, string>> = { en: 'English', zh: 'Mandarin' };

/** The small study, and what it shows in short; gives the exit code. */
async function runDemo(args: Arguments, given: ReadonlySet<string>): Promise<number> {
  const started = performance.now();
  const recipe = demoRecipe(args);
  const command = commandLine(['demo'], { ...args, output: recipe.args.output }, ['output', ...given]);
  let known: AssociationSummary | null = null;
  const result = await runStudy(recipe, command, async ({ loaded, model }, cultures) => {
    const english = cultures.find(({ language }) => language === 'en');
    if (!english) return;
    const { cues } = english.norms.test;
    const asked = cues.map(({ cue }) => cue);
    const texts = await decodeAssociations(loaded, null, requireTokenizer(model), knownPrompt, asked);
    known = summarizeAssociations(scoreAssociations(cues, texts, [5]), [5]);
  });
  if (!result) {
    if (args.language === 'both') {
      const values = { ...recipe.args, resume: true };
      console.error(`  ${commandLine(['align'], values, ['config', 'output', 'seed', 'resume'])}`);
    }
    return 130;
  }
  if (args.json === '-') return 0;
  const lines = [...(await summary(result, recipe)), ...(known ? describeKnown(known) : [])];
  lines.push(
    '',
    'lexi-base is a tiny model, 4 million parameters, made for this demonstration; it is not an assistant.',
  );
  lines.push('', ...places(recipe, result));
  lines.push('', `All of it took ${((performance.now() - started) / 1000).toFixed(1)} s.`);
  console.log(`\n${lines.join('\n')}`);
  return 0;
}

/** The small study's recipe, with the options of the demo and the cultures of its language. */
function demoRecipe({ output, language, device, tier, seed, json, recipe: config }: Arguments): Recipe {
  checkSeed(seed);
  const given = {
    ...readConfigFile(config, 'align', alignOptions),
    ...{ config: relative(process.cwd(), config), output: output ?? join('runs', `demo-${timestamp(new Date())}`) },
    ...{ device, tier, seed: String(seed), ...(json === undefined ? {} : { json }) },
  };
  const recipe = readRecipe(createParser([]).config(given).options(alignOptions).parseSync() as AlignArguments);
  const wanted = (i: number) => language === 'both' || recipe.cultures[i].language === language;
  const cultures = recipe.cultures.filter((_, i) => wanted(i));
  if (cultures.length === 0) throw new UsageError(`--language ${language}: ${config} has no culture of this language.`);
  const described = (recipe.identity.cultures as readonly unknown[]).filter((_, i) => wanted(i));
  return { ...recipe, cultures, identity: { ...recipe.identity, cultures: described } };
}

/** Base and SFT on lists alone in the first K, as a table and in words, good or bad. */
async function summary(result: StudyResult, recipe: Recipe): Promise<string[]> {
  const comparisons = result.cultures.map(compare);
  const [k] = result.ks;
  const lines = [
    `In short: the base, and ${comparisons[0].adapterName} as the demo's adapter. P@${k}: share of the first ${k} words that are on the`,
    'held-out cue’s list; "other list" is another cue’s list, which counts what frequent words would hit anyway. In percent;',
    'gains with their bootstrap 95 % interval, and p of Wilcoxon’s test, over n cues.',
    '',
    ...formatComparisons(comparisons),
  ];
  for (const [i, comparison] of comparisons.entries()) {
    const { name, language } = result.cultures[i];
    lines.push('', ...verdict(comparison), ...(await samples(join(recipe.args.output, 'evaluation', name))));
    lines.push(...(await paidScores(recipe, { name })));
    if (language === 'zh')
      lines.push(
        '  Mandarin is weak: the model learnt its Chinese through English glosses, and its words are often wrong.',
      );
  }
  return lines;
}

/** The base beside the first adapter. */
function compare({ name, language, variants }: StudyCultureResult): Comparison & { readonly adapterName: string } {
  const [base] = variants;
  const at = firstAdapter(variants);
  const { name: adapterName, association, gains } = variants[at];
  return {
    title: names[language] ?? name,
    adapterName,
    base: base.association,
    adapter: association,
    gains: (gains ?? []).slice(0, 1),
  };
}

function firstAdapter(runs: readonly { readonly adapter: string | null }[]): number {
  return runs.findIndex(({ adapter }) => adapter !== null);
}

/** What keeps the gain in proportion. */
function describeKnown({ precision }: AssociationSummary): string[] {
  const [own, other] = [precision[0].own, precision[0].other].map(({ mean }) => percent(mean));
  return [
    '',
    `English, asked in a form that it met in pretraining ("${knownPrompt.question.replace('{cue}', 'X')}"): the base gives ${own} % (other list ${other} %)`,
    'without any training. What training gains is relations it knows, called up under a new question.',
  ];
}

function verdict({ title, gains }: Comparison): string[] {
  const { mean, low, high, n } = gains[0].aboveOther;
  const interval = `${percent(mean)} points, 95 % interval ${percent(low)} to ${percent(high)}, ${n} held-out cues`;
  if (low > 0) return [`${title}: own − other gained ${interval}: above zero.`];
  if (high < 0) return [`${title}: own − other fell, ${interval}: training did harm.`];
  return [`${title}: own − other changed by ${interval}: the interval holds zero, so no gain is shown.`];
}

/** What PPO's answers scored; nothing without such a stage. */
async function paidScores(recipe: Recipe, culture: { readonly name: string }): Promise<string[]> {
  const training = trainingsOf(recipe).find(({ stage }) => stage === 'sft-ppo');
  if (!training) return [];
  const file = join(adapterPath(recipe, culture, training), 'metrics.jsonl');
  const rollouts = (await readFile(file, 'utf8')).trim().split('\n');
  const scores = rollouts.map((line) => (JSON.parse(line) as PpoMetrics)['objective/scores']);
  return [describeScores(scores, recipe.ppo({}))];
}

/** The mean score of the first and of the last half of the rollouts; one in the middle counts in neither. */
export function describeScores(
  scores: readonly number[],
  { reward, batchSize }: { readonly reward: string; readonly batchSize: number },
): string {
  const half = Math.max(1, Math.floor(scores.length / 2));
  const [first, last] = [scores.slice(0, half), scores.slice(-half)].map((part) => mean(part).toFixed(2));
  return `  PPO, ${scores.length} rollouts of ${batchSize} answers: mean score (${reward}) ${first} in the first half, ${last} in the last`;
}

/** The first held-out cues, before and after. */
async function samples(evaluation: string): Promise<string[]> {
  const { runs } = JSON.parse(await readFile(join(evaluation, 'association.json'), 'utf8')) as AssociationResult;
  const list = (words: readonly string[]) => words.slice(0, 5).join(', ') || '(nothing)';
  const after = runs[firstAdapter(runs)].cues;
  return runs[0].cues
    .slice(0, 3)
    .map(({ cue, predictions }, i) => `  ${cue}: ${list(predictions)}  →  ${list(after[i].predictions)}`);
}

function places({ args: { output }, cultures }: Recipe, result: StudyResult): string[] {
  const [{ language, variants }] = result.cultures;
  const { adapter } = variants[firstAdapter(variants)];
  const question = LEXI_BASE_PROMPTS[language as Language].question.replace(
    '{cue}',
    language === 'en' ? 'winter' : '冬天',
  );
  // In PowerShell: there npx would end a text at the end of its first line (npm/cli#7830).
  const [lexalign, prompt] =
    process.platform === 'win32'
      ? [`node "${join(packageRoot, 'bin', 'lexalign.mjs')}"`, `"${question.replaceAll('\n', '`n')}"`]
      : ['npx lexalign', `$'${question.replaceAll('\n', '\\n')}'`];
  return [
    'Ask the adapter yourself, or score it again:',
    `  ${lexalign} generate --adapter ${adapter} --presence-penalty 4 --max-new-tokens 28 --prompt ${prompt}`,
    `  npx lexalign evaluate association --adapter ${adapter} --norms ${dataPaths(output, cultures[0]).test} --language ${language} --k 5`,
    'All that was trained and measured, in one page:',
    `  ${join(output, 'report', 'report.html')}`,
  ];
}

/** 20251123-200312, local time. */
function timestamp(date: Date): string {
  const two = (n: number) => String(n).padStart(2, '0');
  const day = `${date.getFullYear()}${two(date.getMonth() + 1)}${two(date.getDate())}`;
  return `${day}-${two(date.getHours())}${two(date.getMinutes())}${two(date.getSeconds())}`;
}

import type { ArgumentsCamelCase, InferredOptionTypes, Options } from 'yargs';
import { UsageError } from '../errors.js';
import { readStudyPpoAdapter } from './align-recipe.js';
import { checkWhole } from './check-numbers.js';
import { readConfigFile } from './config-file.js';
import { generateOptions } from './generate.js';
import { configOption, modelOptions, sftOptions } from './options.js';
import { jsonOption } from './output-file.js';
import { ppoLoraOptions } from './ppo-arguments.js';
import { ppoOptions } from './ppo-options.js';
import { camelCase, namedOptions } from './usage.js';

/** Runs that can be planned, and what each of them takes. */
const tables = {
  sft: { ...modelOptions, ...sftOptions },
  ppo: { ...modelOptions, ...ppoOptions },
  generate: { ...modelOptions, ...generateOptions },
} as const satisfies Record<string, Record<string, Options>>;
export type PlannableRun = keyof typeof tables;
const runs = Object.keys(tables) as PlannableRun[];

/** The others decide nothing here and are taken all the same: the words of a run are those of its plan. */
const deciding = [
  ...Object.keys(modelOptions),
  ...['data', 'eval-data', 'init-adapter', 'ref-adapter', 'adapter', 'lora-r', 'lora-target-modules', 'batch-size'],
  ...['num-generations', 'num-mini-batches', 'response-length', 'max-new-tokens', 'kv-cache-tokens', 'deterministic'],
  ...['micro-batch-tokens', 'gradient-checkpointing', 'max-length', 'overlong', 'num-train-epochs', 'max-steps'],
  ...['total-episodes', 'json'],
];

/** Of some runs only. */
const promptOptions = {
  'prompt-length': {
    type: 'number',
    default: 256,
    describe: 'Tokens of a prompt, of ppo without --data and of generate',
  },
  'shared-prompt-length': {
    type: 'number',
    default: 0,
    describe: 'So many of them, at its beginning, are the same in all prompts',
  },
} as const satisfies Record<string, Options>;
const timeOptions = {
  'tokens-per-second': { type: 'number', describe: 'Of sft: base the time on this instead of measuring the device' },
} as const satisfies Record<string, Options>;

const ownOptions = {
  run: {
    type: 'string',
    choices: runs,
    default: 'sft',
    describe: 'Command that is planned: it takes the options of that, with their defaults there',
  },
  ...modelOptions,
  model: {
    type: 'string',
    describe:
      'Model directory, of which config.json is enough, a name on the hub (ORG/NAME), or a well-known one as llama-3.1-8b; without it the embedded lexi-base',
  },
  device: {
    type: 'string',
    default: 'auto',
    describe: 'As of the run; typical: a GPU that need not be here',
  },
  ...timeOptions,
  ...promptOptions,
  ...jsonOption,
  ...configOption,
} as const satisfies Record<string, Options>;
export type PlanArguments = ArgumentsCamelCase<InferredOptionTypes<typeof ownOptions>>;

/** Options of `lexalign plan`: its own, and those of every run, whose defaults are left to the run. */
export const planOptions: Readonly<Record<string, Options>> & typeof ownOptions = { ...optionsOfRuns(), ...ownOptions };

function optionsOfRuns(): Record<string, Options> {
  const all: Record<string, Options> = {};
  for (const run of runs) {
    for (const [name, option] of Object.entries<Options>(tables[run])) {
      const { default: _, ...rest } = option;
      const having = runs.filter((other) => name in tables[other]);
      const describe = having.length < runs.length ? `${rest.describe} (${having.join(', ')})` : rest.describe;
      all[name] ??= { ...rest, describe, hidden: !deciding.includes(name) };
    }
  }
  return {
    ...all,
    data: {
      ...all.data,
      describe: 'As of sft and ppo; without it, rows of --max-length or prompts of --prompt-length are planned for',
    },
    'batch-size': { ...all['batch-size'], describe: 'As of the run' },
  };
}

/**
 * Options of a recipe for the run that is planned. In a study PPO's adapter is `align`'s: the LoRA settings of a section
 * ppo don't count where it goes on from SFT's.
 */
export function readPlanConfig(file: string, argv: readonly string[]): Record<string, unknown> {
  let run = '';
  const options = readConfigFile(file, (top) => (run = runNamed(argv, top)), planOptions);
  const study = run === 'ppo' ? readStudyPpoAdapter(file) : null;
  if (study === null) return options;
  const others = Object.fromEntries(Object.entries(options).filter(([name]) => !ppoLoraOptions.includes(name)));
  const adapterGiven = 'init-adapter' in options || namedOptions(argv, ['init-adapter']).length > 0;
  return { ...others, ...(adapterGiven ? {} : study.lora) };
}

/** The run that a command line plans, or else a recipe's top; sft where neither names one. */
function runNamed(argv: readonly string[], top: Readonly<Record<string, unknown>>): string {
  const at = argv.findIndex((word) => word === '--run' || word.startsWith('--run='));
  if (at < 0) return String(top.run ?? ownOptions.run.default);
  return argv[at] === '--run' ? (argv[at + 1] ?? '') : argv[at].slice('--run='.length);
}

/** The run's arguments, with its own defaults. Throws UsageError for options that it does not take. */
export function argumentsOf<T>(run: PlannableRun, args: PlanArguments, given: ReadonlySet<string>): PlanArguments & T {
  const table: Record<string, Options> = tables[run];
  for (const name of given) {
    const taken = name in promptOptions ? run !== 'sft' : name in timeOptions ? run === 'sft' : name in ownOptions;
    if (!taken && !(name in table)) throw new UsageError(`--${name} says nothing of --run ${run}: leave it out.`);
  }
  const values: Record<string, unknown> = { ...args };
  for (const [name, option] of Object.entries(table)) {
    // As yargs has them: by both spellings.
    values[camelCase(name)] ??= option.default;
    values[name] ??= option.default;
  }
  return values as PlanArguments & T;
}

/** Prompts to plan for where there are none yet: as long as the options say, and different behind what they share. */
export function assumedPrompts(
  count: number,
  { promptLength, sharedPromptLength }: Pick<PlanArguments, 'promptLength' | 'sharedPromptLength'>,
): Int32Array[] {
  checkWhole('prompt-length', promptLength, 1);
  checkWhole('shared-prompt-length', sharedPromptLength, 0);
  if (sharedPromptLength >= promptLength)
    throw new UsageError(
      `--shared-prompt-length ${sharedPromptLength} must be less than --prompt-length ${promptLength}.`,
    );
  return Array.from({ length: count }, (_, prompt) =>
    new Int32Array(promptLength).fill(prompt + 1, sharedPromptLength),
  );
}

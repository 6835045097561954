import type { ArgumentsCamelCase, InferredOptionTypes, Options } from 'yargs';
import { UsageError } from '../errors.js';
import { checkWhole } from './check-numbers.js';
import { evaluateAffect } from './evaluate-affect.js';
import { evaluateAssociation } from './evaluate-association.js';
import { evaluateRanking } from './evaluate-ranking.js';
import { evaluateSideEffects } from './evaluate-side-effects.js';
import { evaluateSurvey } from './evaluate-survey.js';
import { inferenceOptions } from './inference.js';
import type { Command } from './main.js';
import { answerOptions, checkSeed, checkStop, configOption } from './options.js';
import { checkJson, jsonOption } from './output-file.js';

/** Options of all measures. */
export const evaluateOptions = {
  ...inferenceOptions,
  before: { type: 'string', describe: 'Compare: the adapter before, a PEFT directory, or none for the base model' },
  after: { type: 'string', describe: 'Compare: the adapter after; before it stands the base model unless --before' },
  norms: {
    type: 'string',
    describe: 'Human lists: a table with columns cue, response, count; or mini-norms:en, mini-norms:zh',
  },
  questions: {
    type: 'string',
    describe: 'Of ranking: rows of ppo that it was not trained on, as ranking/test.jsonl of lexalign data',
  },
  answers: { type: 'string', describe: 'Of affect: the --json of evaluate association, in place of asking again' },
  lexicon: { type: 'string', describe: 'Ratings of words: lexicon.tsv of lexalign data; several by commas' },
  survey: { type: 'string', describe: 'Questions with answers by country: survey.jsonl of lexalign data' },
  country: { type: 'string', describe: 'Two countries of the survey to compare with, as USA,CHN' },
  formats: {
    type: 'string',
    default: 'number,letter',
    describe: 'How survey options are labelled and answered: number, letter, text; comma-separated',
  },
  wordings: { type: 'number', default: 0, describe: 'In how many wordings a survey question is asked; 0: in all' },
  'high-tension': {
    type: 'number',
    default: 50,
    describe:
      'Of survey: how many questions, those on which the two countries differ most, make the set of high tension',
  },
  text: { type: 'string', describe: 'Text to take perplexity on: paragraphs, or JSONL of {text}; by default our own' },
  language: { type: 'string', describe: 'Of norms, survey or texts, as en or zh, where they do not say it' },
  k: { type: 'string', describe: 'Lengths K of P@K, as 5,10,20,30,40,50, the default; 5,10 for lexi-base' },
  'prompt-file': {
    type: 'string',
    describe:
      'YAML or JSON: form, system, question with {cue} and {n}, separator, lead; of survey one wording or a list of them: system, question, options, ask (number, letter, text), lead',
  },
  'max-new-tokens': {
    type: 'number',
    default: 0,
    describe: 'Longest list or ranking, tokens; 0: of lists by the model and the largest K, of rankings as in ppo',
  },
  'presence-penalty': {
    type: 'number',
    default: 4,
    describe: 'Taken off the logit of tokens already given, separators spared',
  },
  'batch-size': { type: 'number', default: 64, describe: 'Answers decoded together' },
  ...answerOptions,
  'micro-batch-tokens': { type: 'number', default: 2048, describe: 'Most tokens computed at once when scoring' },
  seed: { type: 'number', default: 42, describe: 'Of bootstrap and the pairing with other lists' },
  ...jsonOption,
  ...configOption,
} as const satisfies Record<string, Options>;
export type EvaluateArguments = ArgumentsCamelCase<InferredOptionTypes<typeof evaluateOptions>>;

/** Options of asking for lists of associates. */
const listOptions = [
  ...['norms', 'language', 'k', 'prompt-file', 'max-new-tokens', 'presence-penalty', 'batch-size'],
  ...Object.keys(answerOptions),
];

const measures = {
  association: { run: evaluateAssociation, options: listOptions },
  ranking: {
    run: evaluateRanking,
    options: ['questions', 'max-new-tokens', 'batch-size', ...Object.keys(answerOptions)],
  },
  affect: { run: evaluateAffect, options: [...listOptions, 'answers', 'lexicon'] },
  survey: {
    run: evaluateSurvey,
    options: [
      'survey',
      'country',
      'prompt-file',
      'formats',
      'wordings',
      'high-tension',
      'language',
      'micro-batch-tokens',
    ],
  },
  'side-effects': {
    run: evaluateSideEffects,
    options: ['text', 'language', 'batch-size', 'micro-batch-tokens', 'deterministic'],
  },
} as const;

export const evaluateCommand: Command = {
  command: 'evaluate <measure>',
  describe: 'Measure how near a model is to what people answer, alone or before and after training',
  options: evaluateOptions,
  computes: true,
  positional: (args) =>
    args.positional('measure', {
      choices: Object.keys(measures),
      describe:
        'association: P@K and Spearman against norms; ranking: form and order of ranked words; affect: ratings of the associates; survey: distance to countries; side-effects: perplexity and instructions',
    }),
  run: async (args, given) => {
    const own = args as unknown as EvaluateArguments;
    const name = own.measure as keyof typeof measures;
    checkArguments(own, name, given);
    await checkJson(own.json);
    await measures[name].run(own, given);
    return 0;
  },
};

function checkArguments(args: EvaluateArguments, measure: keyof typeof measures, given: ReadonlySet<string>): void {
  const all = new Set<string>(Object.values(measures).flatMap(({ options: own }) => own));
  const own: readonly string[] = measures[measure].options;
  for (const option of given) {
    if (all.has(option) && !own.includes(option))
      throw new UsageError(`--${option} means nothing to ${measure}: leave it out.`);
  }
  checkEvaluateNumbers(args);
}

/** Numbers that make no sense, in the words of their option. */
export function checkEvaluateNumbers(args: EvaluateArguments): void {
  for (const name of ['max-new-tokens', 'wordings'] as const) checkWhole(name, args[name] as number, 0);
  for (const name of ['batch-size', 'micro-batch-tokens', 'high-tension'] as const)
    checkWhole(name, args[name] as number, 1);
  checkStop(args.stop);
  checkSeed(args.seed);
}

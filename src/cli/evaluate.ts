import { stat } from 'node:fs/promises';
import type { ArgumentsCamelCase, InferredOptionTypes, Options } from 'yargs';
import { generic } from '../../datasets/generic.js';
import { importAssociations } from '../../datasets/import-associations.js';
import { loadMiniNorms } from '../../datasets/mini-norms.js';
import type { Norms } from '../../datasets/norms.js';
import { ParticipantFilter } from '../../datasets/participants.js';
import { InputError, UsageError } from '../errors.js';
import { scoreAssociations } from '../evaluate/association.js';
import { associationPromptIds, decodeAssociations } from '../evaluate/decode-associations.js';
import { formatSummary, summarizeAssociations } from '../evaluate/report.js';
import { chooseAssociationPrompt, isLexiBase } from './association-prompt.js';
import { inferenceOptions, openAdapterDirectory, withLoadedModel } from './inference.js';
import type { Command } from './main.js';
import { checkSeed, configOption } from './options.js';
import { checkJson, jsonOption, writeJson } from './output-file.js';
import { createProgress } from './progress.js';
import { openModel, requireTokenizer } from './session.js';

const options = {
  ...inferenceOptions,
  norms: {
    type: 'string',
    demandOption: true,
    describe: 'Human lists: a table with columns cue, response, count; or mini-norms:en, mini-norms:zh',
  },
  language: { type: 'string', describe: 'Of the norms, as en or zh; mini-norms say it themselves' },
  k: { type: 'string', default: '5,10', describe: 'Lengths K of P@K, comma-separated' },
  'prompt-file': {
    type: 'string',
    describe: 'YAML or JSON: form, system, question with {cue} and {n}, separator, lead',
  },
  'max-new-tokens': { type: 'number', default: 0, describe: 'Longest list, tokens; 0: by the model and the largest K' },
  'presence-penalty': {
    type: 'number',
    default: 4,
    describe: 'Taken off the logit of tokens already given, separators spared',
  },
  'batch-size': { type: 'number', default: 64, describe: 'Cues decoded together' },
  seed: { type: 'number', default: 42, describe: 'Of bootstrap and the pairing with other lists' },
  ...jsonOption,
  ...configOption,
} as const satisfies Record<string, Options>;
type Arguments = ArgumentsCamelCase<InferredOptionTypes<typeof options>>;

export const evaluateCommand: Command = {
  command: 'evaluate <measure>',
  describe: 'Measure how well a model gives the associates that people give',
  options,
  computes: true,
  positional: (args) =>
    args.positional('measure', {
      choices: ['association'],
      describe: 'association: P@K and Spearman against human association norms',
    }),
  run: async (args) => {
    await evaluateAssociation(args as Arguments);
    return 0;
  },
};

async function evaluateAssociation(args: Arguments): Promise<void> {
  checkArguments(args);
  await checkJson(args.json);
  const ks = parseKs(args.k);
  const norms = await readNorms(args.norms, args.language);
  const model = await openModel(args.model);
  try {
    const tokenizer = requireTokenizer(model);
    const prompt = await chooseAssociationPrompt(args.promptFile, model, norms.language);
    const most = Math.max(...ks);
    // A word and its separator take about three tokens of lexi-base, fewer than eight of any model.
    const maxNewTokens = args.maxNewTokens || (isLexiBase(model) ? Math.max(28, 3 * most) : Math.max(64, 8 * most));
    const cues = norms.cues.map(({ cue }) => cue);
    const longest = cues.reduce((n, cue) => Math.max(n, associationPromptIds(tokenizer, prompt, cue, most).length), 0);
    const positions = longest + maxNewTokens;
    if (positions > model.config.maxPositions) {
      throw new InputError(
        `The longest prompt's ${longest} tokens and ${maxNewTokens} new ones come to ${positions}, more than the model's ${model.config.maxPositions} positions: lower --max-new-tokens.`,
      );
    }
    const adapter = await openAdapterDirectory(args.adapter, model);
    const texts = await withLoadedModel(args, model, adapter, positions, async (loaded, weights) => {
      const progress = createProgress();
      const decoded = await decodeAssociations(loaded, weights, tokenizer, prompt, cues, {
        words: most,
        maxNewTokens,
        presencePenalty: args.presencePenalty,
        batchSize: args.batchSize,
        onProgress: (share) =>
          progress.update(share, `decoding lists for ${cues.length} cues: ${Math.round(100 * share)} %`),
      });
      progress.end();
      return decoded;
    });
    const scores = scoreAssociations(norms.cues, texts, ks, args.seed);
    const summary = summarizeAssociations(scores, ks, args.seed);
    if (args.json !== '-') {
      console.log(`${cues.length} cues of ${args.norms}, ${args.adapter ? `adapter ${args.adapter}` : 'no adapter'}:`);
      for (const line of formatSummary(summary)) console.log(line);
    }
    await writeJson(args.json, {
      measure: 'association',
      model: model.directory,
      adapter: args.adapter ?? null,
      norms: args.norms,
      language: norms.language,
      prompt,
      max_new_tokens: maxNewTokens,
      presence_penalty: args.presencePenalty,
      seed: args.seed,
      ...summary,
      cues: scores.map((score, i) => ({ ...score, text: texts[i] })),
    });
  } finally {
    await model.checkpoint.close();
  }
}

function checkArguments(args: Arguments): void {
  const whole = { 'max-new-tokens': args.maxNewTokens, 'batch-size': args.batchSize };
  for (const [name, value] of Object.entries(whole)) {
    const least = name === 'batch-size' ? 1 : 0;
    if (!Number.isSafeInteger(value) || value < least) {
      throw new UsageError(`--${name} must be a whole number of at least ${least}.`);
    }
  }
  checkSeed(args.seed);
}

function parseKs(text: string): number[] {
  const ks = text.split(',').map(Number);
  if (!ks.every((k) => Number.isInteger(k) && k >= 1 && k <= 1000)) {
    throw new UsageError(`--k ${text}: write whole numbers from 1 to 1000 as 5,10.`);
  }
  return [...new Set(ks)].sort((a, b) => a - b);
}

async function readNorms(source: string, language: string | undefined): Promise<Norms> {
  const embedded = /^mini-norms:(.*)$/.exec(source)?.[1];
  if (embedded !== undefined) {
    if (embedded !== 'en' && embedded !== 'zh')
      throw new UsageError(`--norms ${source}: there are mini-norms:en and mini-norms:zh.`);
    if (language !== undefined && language !== embedded)
      throw new UsageError(`--norms ${source} is not of --language ${language}.`);
    return loadMiniNorms(embedded);
  }
  if (language === undefined) throw new UsageError('--norms of a file needs --language, such as en or zh.');
  const info = await stat(source).catch(() => null);
  if (!info?.isFile()) throw new InputError(`--norms ${source} ${info ? 'is not a file' : 'does not exist'}.`);
  const choice = { filter: new ParticipantFilter([], []), positions: [1, 2, 3] };
  const { norms } = await importAssociations([source], generic, choice, language);
  if (norms.cues.length < 2) throw new InputError(`--norms ${source} has one cue; the measure needs two at least.`);
  return norms;
}

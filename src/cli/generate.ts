import type { ArgumentsCamelCase, InferredOptionTypes, Options } from 'yargs';
import { countPromptPlaces } from '../batch/prompt-places.js';
import { InputError, UsageError } from '../errors.js';
import type { Base } from '../evaluate/result.js';
import type { LanguageModel } from '../model/language-model.js';
import { RolloutEngine, type RolloutOptions } from '../model/rollout.js';
import { checkCacheRoom } from '../model/rollout-program.js';
import { sequenceSeed } from '../random.js';
import { stopIdsOf } from '../text/stop-ids.js';
import { untilStop } from '../text/stop-strings.js';
import { checkSampling, checkWhole, checkWithin } from './check-numbers.js';
import { inferenceOptions, openAdapterDirectory, withLoadedModel } from './inference.js';
import type { Command } from './main.js';
import { answerOptions, cacheOption, checkSeed, checkStop, configOption } from './options.js';
import { checkJson, jsonOption, writeJson } from './output-file.js';
import { type Prompt, promptOptions, readPrompts } from './read-prompts.js';
import { type OpenModel, openModel, requireTokenizer } from './session.js';

/** Those that say what to continue aside. */
export const generateOptions = {
  ...inferenceOptions,
  'max-new-tokens': { type: 'number', default: 128, describe: 'Longest answer, tokens' },
  temperature: { type: 'number', default: 0, describe: '0 takes the most likely token' },
  'top-p': {
    type: 'number',
    default: 1,
    describe: 'Draw from the most likely tokens that together hold this probability',
  },
  'top-k': { type: 'number', default: 0, describe: 'Draw from so many of the most likely tokens; 0: all' },
  'presence-penalty': { type: 'number', default: 0, describe: 'Taken off the logit of tokens already given' },
  'num-samples': { type: 'number', default: 1, describe: 'Answers to each prompt; more than one want a temperature' },
  seed: { type: 'number', default: 42, describe: 'Of the drawing; each answer draws by itself' },
  'batch-size': { type: 'number', default: 64, describe: 'Answers decoded together' },
  ...cacheOption,
  ...answerOptions,
  'ignore-eos': { type: 'boolean', default: false, describe: 'Go on after the end of the answer' },
  ...jsonOption,
  ...configOption,
} as const satisfies Record<string, Options>;
const options = { ...generateOptions, ...promptOptions };
export type GenerateArguments = ArgumentsCamelCase<InferredOptionTypes<typeof generateOptions>>;
type Arguments = ArgumentsCamelCase<InferredOptionTypes<typeof options>>;

export const generateCommand: Command = {
  command: 'generate',
  describe: 'Continue a text or answer a question',
  options,
  computes: true,
  run: async (args) => {
    await runGenerate(args as Arguments);
    return 0;
  },
};

/** Most tokens of prompts computed together. */
export const promptTokens = 2048;

async function runGenerate(args: Arguments): Promise<void> {
  checkGenerateArguments(args);
  await checkJson(args.json);
  const model = await openModel(args);
  try {
    const prompts = await readPrompts(args, model);
    const longest = prompts.reduce((most, { ids }) => Math.max(most, ids.length), 0);
    const positions = longest + args.maxNewTokens;
    if (positions > model.config.maxPositions) {
      throw new InputError(
        `The longest prompt's ${longest} tokens and --max-new-tokens ${args.maxNewTokens} come to ${positions}, more than the model's ${model.config.maxPositions} positions: lower one of them.`,
      );
    }
    if (args.kvCacheTokens > 0) checkCacheRoom(args.kvCacheTokens, 'option', longest, args.maxNewTokens);
    const adapter = await openAdapterDirectory(args.adapter, model);
    if (args.stop !== undefined) requireTokenizer(model);
    await withLoadedModel(args, model, adapter, positions, async (loaded, weights) => {
      const settings: RolloutOptions = {
        adapter: weights,
        maxNewTokens: args.maxNewTokens,
        stopIds: args.ignoreEos ? new Set<number>() : stopIdsOf(model.config, model.tokenizer),
        sampling: { ...args, unpenalised: new Set() },
        deterministic: args.deterministic,
        batchSize: Math.min(args.batchSize, prompts.length * args.numSamples),
        maxPromptTokens: longest,
        promptPlaces: countPromptPlaces(prompts.map(({ ids }) => ids)),
        promptTokens,
        cacheTokens: args.kvCacheTokens || undefined,
      };
      await answer(args, model, loaded, prompts, settings);
    });
  } finally {
    await model.checkpoint.close();
  }
}

/** Generates and prints: one answer as it comes, several in order, or JSON. */
async function answer(
  args: Arguments,
  model: OpenModel,
  loaded: LanguageModel,
  prompts: readonly Prompt[],
  settings: RolloutOptions,
): Promise<void> {
  const { stdout } = process;
  // Ids in, ids out.
  const asText = args.promptIds === undefined && model.tokenizer !== null;
  const toStdout = args.json === '-';
  const asked = prompts.flatMap((prompt, index) =>
    Array.from({ length: args.numSamples }, (_, sample) => ({ prompt, index, sample })),
  );
  const streams = asked.length === 1 && !toStdout;
  const texts = asked.map(() => '');
  const watches = asked.map(() => model.tokenizer && untilStop(model.tokenizer.streamDecoder(), args.stop ?? []));
  const give = (i: number, text: string) => {
    texts[i] += text;
    if (streams && asText) stdout.write(text);
  };
  let given = 0;
  const onToken = (i: number, id: number) => {
    if (settings.stopIds.has(id)) return;
    give(i, watches[i]?.push(id) ?? '');
    if (streams && !asText) stdout.write(`${given++ > 0 ? ' ' : ''}${id}`);
  };
  const engine = await RolloutEngine.create(loaded, settings);
  const answers = await engine.run(
    asked.map(({ prompt, index, sample }) => ({ prompt: prompt.ids, seed: sequenceSeed(args.seed, index, sample) })),
    { onToken, shouldStop: (i) => watches[i]?.stopped ?? false },
  );
  engine.destroy();
  const results = answers.map(({ ids: sampled, logprobs, finish }, i) => {
    const { prompt, index, sample } = asked[i];
    const count = finish === 'eos' ? sampled.length - 1 : sampled.length;
    give(i, watches[i]?.finish() ?? '');
    return {
      index,
      sample,
      prompt: prompt.text,
      prompt_ids: Array.from(prompt.ids),
      ids: sampled.slice(0, count),
      logprobs: logprobs.slice(0, count),
      text: model.tokenizer && texts[i],
      finish_reason: finish === 'length' ? 'length' : 'stop',
    };
  });
  if (streams) stdout.write('\n');
  else if (!toStdout) {
    for (const { index, sample, prompt, ids, text } of results) {
      const number = args.numSamples > 1 ? `${index + 1}.${sample + 1}` : index + 1;
      if (asText && prompt !== null) stdout.write(`[${number}] ${prompt.replace(/\s+/g, ' ').slice(0, 70)}\n`);
      stdout.write(`${asText ? text : ids.join(' ')}\n`);
    }
  }
  const base: Base = { model: model.directory, quantize: args.quantize, tier: loaded.tier };
  await writeJson(args.json, { ...base, adapter: args.adapter ?? null, results });
}

/** Numbers that make no sense. */
export function checkGenerateArguments(args: GenerateArguments): void {
  checkWhole('max-new-tokens', args.maxNewTokens, 1);
  checkWhole('batch-size', args.batchSize, 1);
  checkWhole('num-samples', args.numSamples, 1);
  checkWhole('kv-cache-tokens', args.kvCacheTokens, 0);
  checkWithin('temperature', args.temperature, 0, Number.POSITIVE_INFINITY);
  if (args.numSamples > 1 && args.temperature === 0)
    throw new UsageError(
      `--num-samples ${args.numSamples}: at --temperature 0 all samples are the same: give --temperature, 1 for instance.`,
    );
  checkSampling(args);
  checkStop(args.stop);
  checkSeed(args.seed);
}

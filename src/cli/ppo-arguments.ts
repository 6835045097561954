import type { ArgumentsCamelCase, InferredOptionTypes } from 'yargs';
import { UsageError } from '../errors.js';
import { stopIdsOf } from '../text/stop-ids.js';
import type { PpoOptions } from '../train/ppo.js';
import { checkPositive, checkSampling, checkWhole, checkWithin } from './check-numbers.js';
import { loraOptions } from './lora.js';
import { checkStop, configOption, modelOptions } from './options.js';
import { ppoOptions } from './ppo-options.js';
import type { RankingData } from './ranking-data.js';
import { resumeOption } from './run-record.js';
import type { OpenModel } from './session.js';
import { checkTraining, trainingSettings } from './training-arguments.js';

/** Every option of `lexalign ppo`. */
export const ppoTable = { ...modelOptions, ...ppoOptions, ...resumeOption, ...configOption };
export type PpoArguments = ArgumentsCamelCase<InferredOptionTypes<typeof ppoTable>>;
/** With what a run can't do without. */
export type PpoRunArguments = PpoArguments & { readonly data: string; readonly output: string };

/** An adapter's settings that ppo takes: all but dropout. */
export const ppoLoraOptions = loraOptions.filter((name) => name in ppoTable);

/** What the options mean to the trainer. */
export function ppoSettings(
  args: PpoArguments,
  run: {
    data: { questions: Pick<RankingData['questions'], 'length'> };
    model: Pick<OpenModel, 'config' | 'tokenizer'>;
    microBatchTokens: number;
    recompute: number;
  },
): PpoOptions {
  const episodes = Math.ceil(run.data.questions.length * args.numGenerations * args.numTrainEpochs);
  return {
    ...trainingSettings(args),
    totalEpisodes: args.totalEpisodes || episodes,
    numGenerations: args.numGenerations,
    numPpoEpochs: args.numPpoEpochs,
    numMiniBatches: args.numMiniBatches,
    microBatchTokens: run.microBatchTokens,
    recompute: run.recompute,
    responseLength: args.responseLength,
    kvCacheTokens: args.kvCacheTokens,
    temperature: args.temperature,
    topP: args.topP,
    topK: args.topK,
    deterministic: args.deterministic,
    stopIds: stopIdsOf(run.model.config, run.model.tokenizer),
    criticLearningRate: args.criticLearningRate,
    warmupSteps: args.warmupSteps,
    klCoef: args.klCoef,
    klEstimator: args.klEstimator as PpoOptions['klEstimator'],
    klTarget: args.klTarget,
    klHorizon: args.klHorizon,
    maxUpdateKl: args.maxUpdateKl,
    gamma: args.gamma,
    lam: args.lam,
    cliprange: args.cliprange,
    cliprangeValue: args.cliprangeValue,
    vfCoef: args.vfCoef,
    whitenRewards: args.whitenRewards,
    normalizeReward: args.normalizeReward,
    missingEosPenalty: args.missingEosPenalty,
    lengthPenalty: args.lengthPenalty,
  };
}

/** Numbers and combinations that make no sense. */
export function checkPpoArguments(args: PpoArguments, given: ReadonlySet<string>): void {
  checkTraining(args, given);
  for (const name of ['total-episodes', 'kv-cache-tokens', 'coverage-k'] as const)
    checkWhole(name, args[name] as number, 0);
  for (const name of ['num-generations', 'num-mini-batches', 'num-ppo-epochs', 'response-length'] as const)
    checkWhole(name, args[name] as number, 1);
  for (const name of ['temperature', 'kl-horizon', 'cliprange', 'cliprange-value', 'vf-coef'] as const)
    checkPositive(name, args[name] as number);
  for (const name of ['kl-coef', 'kl-target', 'max-update-kl', 'critic-learning-rate'] as const)
    checkWithin(name, args[name] as number, 0, Number.POSITIVE_INFINITY);
  checkSampling(args);
  for (const name of ['gamma', 'lam'] as const)
    if (!(args[name] >= 0 && args[name] <= 1)) throw new UsageError(`--${name} must be from 0 to 1.`);
  if (args.coverageK > 0 && args.reward !== 'coverage')
    throw new UsageError(`--coverage-k is of --reward coverage, not of ${args.reward}: leave it out.`);
  if (args.batchSize % args.numGenerations !== 0)
    throw new UsageError(
      `--batch-size ${args.batchSize} must be a multiple of --num-generations ${args.numGenerations}.`,
    );
  // A rollout changes the coefficient by up to a fifth × answers / horizon of itself: by all of it, and it is none.
  if (args.klTarget > 0 && args.klHorizon <= args.batchSize / 5)
    throw new UsageError(
      `--kl-horizon ${args.klHorizon} must be above ${args.batchSize / 5}, a fifth of --batch-size: the KL coefficient would not stay above 0.`,
    );
  if (args.numMiniBatches > args.batchSize)
    throw new UsageError(`--num-mini-batches ${args.numMiniBatches} is more than --batch-size ${args.batchSize}.`);
  checkStop(args.stop);
}

import { linearShapes } from '../../models/tensors.js';
import { countPromptPlaces } from '../batch/prompt-places.js';
import { InputError } from '../errors.js';
import { readAdapter } from '../formats/peft.js';
import { planGeneration, type RolloutPlan } from '../model/rollout-memory.js';
import { checkCacheRoom } from '../model/rollout-program.js';
import { checkGenerateArguments, type GenerateArguments, promptTokens } from './generate.js';
import { describeLimit, type PlanTarget, tableOf } from './memory.js';
import { findMends, halves, type Ladder, weightLadders } from './plan-mends.js';
import type { PlannedModel } from './plan-model.js';
import { argumentsOf, assumedPrompts, type PlanArguments } from './plan-options.js';
import type { PlanSubject } from './plan-subject.js';

/** Reads what a plan of `generate` rests on: a full batch of prompts of --prompt-length. */
export async function readGeneratePlan(
  asked: PlanArguments,
  given: ReadonlySet<string>,
  model: PlannedModel,
): Promise<PlanSubject> {
  const args = argumentsOf<GenerateArguments>('generate', asked, given);
  checkGenerateArguments(args);
  const { config, packed } = model;
  const { promptLength, maxNewTokens, batchSize, kvCacheTokens } = args;
  if (promptLength + maxNewTokens > config.maxPositions)
    throw new InputError(
      `--prompt-length ${promptLength} and --max-new-tokens ${maxNewTokens} pass the model's ${config.maxPositions} positions: lower one of them.`,
    );
  if (kvCacheTokens > 0) checkCacheRoom(kvCacheTokens, 'option', promptLength, maxNewTokens);
  const promptsOf = (count: number) => countPromptPlaces(assumedPrompts(count, args));
  const request: RolloutPlan = {
    adapter: args.adapter === undefined ? null : (await readAdapter(args.adapter, linearShapes(config))).config,
    packed,
    batchSize,
    maxNewTokens,
    maxPromptTokens: promptLength,
    promptPlaces: promptsOf(batchSize),
    promptTokens,
    cacheTokens: kvCacheTokens || undefined,
    sampling: { ...args, unpenalised: new Set() },
    deterministic: args.deterministic,
  };
  const ladders: Ladder<RolloutPlan>[] = [
    ...weightLadders<RolloutPlan>(model),
    halves(batchSize, 1)
      .filter((n) => n < batchSize)
      .map((n) => ({
        options: `--batch-size ${n}`,
        apply: (from) => ({ ...from, batchSize: n, promptPlaces: promptsOf(n) }),
      })),
    halves(maxNewTokens, 16)
      .filter((n) => n < maxNewTokens)
      .map((n) => ({
        options: `--max-new-tokens ${n}`,
        apply: (from) => ({ ...from, maxNewTokens: n }),
      })),
  ];
  const planned = ({ device, kernels, tier, tuning }: PlanTarget, wanted: RolloutPlan) =>
    planGeneration(device, kernels, config, tier, { ...wanted, tuning });
  return {
    describe:
      `${request.adapter ? `adapter of rank ${request.adapter.r}` : 'no adapter'}; ${batchSize} answers of up to ${maxNewTokens} tokens ` +
      `at once, to prompts of ${promptLength}`,
    plan(target, limit) {
      const { slots, ...memory } = planned(target, request);
      const total = (changed: RolloutPlan) => planned(target, changed).total;
      return {
        fits: limit.bytes === null || memory.total <= limit.bytes,
        total: memory.total,
        lines: [
          `Memory plan for ${slots} answers at once; ${describeLimit(limit)}:`,
          ...tableOf([
            ['weights', memory.weights],
            ['adapter', memory.adapter],
            ['KV cache', memory.cache],
            ['activations', memory.activations],
            ['inputs, tables, parameters', memory.batch],
            ['total', memory.total],
          ]),
        ],
        record: { answers_at_once: slots, memory },
        mends: (bytes) => findMends(ladders, request, bytes, { least: total, total }),
        time: async () => ({
          lines: ['Time: not told for generate, as it hangs on how long answers come out.'],
          record: {},
        }),
      };
    },
  };
}

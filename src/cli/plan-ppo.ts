import { UsageError } from '../errors.js';
import { countRollouts, rolloutShape } from '../train/ppo-prompts.js';
import { readStudyPpoAdapter } from './align-recipe.js';
import { findData } from './load-data.js';
import type { Checkpointing } from './memory.js';
import { adapterLadders, findMends, halves, type Ladder, trainingLadders } from './plan-mends.js';
import type { PlannedModel } from './plan-model.js';
import { argumentsOf, assumedPrompts, type PlanArguments } from './plan-options.js';
import type { PlanSubject } from './plan-subject.js';
import { checkPpoArguments, type PpoArguments, ppoSettings } from './ppo-arguments.js';
import {
  checkAnswerRoom,
  checkPpoMicroBatch,
  describePpoPlan,
  leastPpoMemory,
  type PpoRequest,
  planPpoRun,
  readPpoAdapters,
  trainingOf,
} from './ppo-memory.js';
import { loadRankingData } from './ranking-data.js';

/** Reads what a plan of `ppo` rests on. */
export async function readPpoPlan(
  asked: PlanArguments,
  given: ReadonlySet<string>,
  model: PlannedModel,
): Promise<PlanSubject> {
  const args = argumentsOf<PpoArguments>('ppo', asked, given);
  checkPpoArguments(args, given);
  const prompts = await readPrompts(args, given, model);
  checkAnswerRoom(prompts, args, model.config);
  const { config: adapter, reference } = await readPpoAdapters(args, model.config);
  const study = args.config === undefined || args.initAdapter !== undefined ? null : readStudyPpoAdapter(args.config);
  const continuesSft = study?.continuesSft ?? false;
  const referenceIsStart = continuesSft && args.refAdapter === undefined;
  const data = { questions: prompts };
  const settings = ppoSettings(args, { data, model, microBatchTokens: 0, recompute: 0 });
  const request: PpoRequest = {
    config: model.config,
    packed: model.packed,
    adapter,
    // SFT's adapter, which a study's PPO goes on from, stays as its reference.
    reference: reference?.config ?? (referenceIsStart ? adapter : null),
    asked: args.microBatchTokens,
    checkpointing: args.gradientCheckpointing as Checkpointing,
    prompts,
    settings,
  };
  checkPpoMicroBatch(request);
  // The settings of an adapter to start from are kept, unless the study has yet to train it.
  const adapterSteps = args.initAdapter === undefined ? stepsOfAdapter(request, referenceIsStart) : [];
  const longest = prompts.reduce((most, { length }) => Math.max(most, length), 0);
  return {
    describe:
      `PPO of an adapter of rank ${adapter.r} on ${adapter.targetModules.join(', ')}${continuesSft ? ", the study's of SFT" : ''}; rollouts of ${args.batchSize} answers ` +
      `of up to ${args.responseLength} tokens to prompts of up to ${longest}`,
    plan(target, limit) {
      const plan = planPpoRun(target, request, limit.bytes);
      const { run, ppo, total } = plan;
      const { slots: _, ...bytes } = run.bytes;
      return {
        fits: run.fits,
        total,
        lines: describePpoPlan(plan, request, limit),
        record: {
          micro_batch_tokens: run.microBatchTokens,
          answers_at_once: plan.answersAtOnce,
          recomputed_layers: run.recompute,
          memory: { ...bytes, ...ppo, total },
        },
        mends: (bytes) =>
          findMends(laddersFor(model, request, adapterSteps), request, bytes, {
            least: (changed) => leastPpoMemory(target, changed),
            total: (changed) => planPpoRun(target, changed, bytes).total,
          }),
        async time() {
          const rollouts = args.data === undefined && args.totalEpisodes === 0 ? null : countRollouts(settings);
          const updates = args.numPpoEpochs * args.numMiniBatches;
          return {
            lines: [
              `Work: ${rollouts === null ? 'a rollout has' : `${rollouts} rollouts, each of`} ${args.batchSize} answers and ${updates} updates of policy and critic.`,
              'Time: not told for ppo, as it hangs on how long answers come out; the first rollouts of a run tell.',
            ],
            record: { work: { rollouts, answers: args.batchSize, updates } },
          };
        },
      };
    },
  };
}

/** The prompts of --data, as ppo would read them; without it as many as a rollout has, of --prompt-length. */
async function readPrompts(
  args: PlanArguments & PpoArguments,
  given: ReadonlySet<string>,
  model: PlannedModel,
): Promise<readonly Int32Array[]> {
  if (args.data === undefined) return assumedPrompts(args.batchSize / args.numGenerations, args);
  const idle = ['prompt-length', 'shared-prompt-length'].find((name) => given.has(name));
  if (idle) throw new UsageError(`--${idle} with --data: the prompts of the data are planned for; leave it out.`);
  const file = (await findData(args.data, undefined)).train;
  const { questions } = await loadRankingData(file, { directory: model.name, tokenizer: model.tokenizer });
  return questions.map(({ ids }) => ids);
}

/** Smaller adapters, and references where these are what the run starts from. */
function stepsOfAdapter(request: PpoRequest, referenceIsStart: boolean): Ladder<PpoRequest>[] {
  const ladders = adapterLadders(request);
  if (!referenceIsStart) return ladders;
  return ladders.map((ladder) =>
    ladder.map(({ options, apply }) => ({
      options,
      apply: (from) => ({ ...apply(from), reference: apply(from).adapter }),
    })),
  );
}

function laddersFor(
  model: PlannedModel,
  request: PpoRequest,
  adapterSteps: readonly Ladder<PpoRequest>[],
): Ladder<PpoRequest>[] {
  const { batchSize, responseLength, numGenerations, numMiniBatches, kvCacheTokens } = request.settings;
  const { promptPlaces, maxPromptTokens } = rolloutShape(request.prompts, request.settings);
  const change = (options: string, more: Partial<PpoRequest['settings']>) => ({
    options,
    apply: (from: PpoRequest): PpoRequest => ({ ...from, settings: { ...from.settings, ...more } }),
  });
  // Fewer answers at once, of a rollout that stays as large.
  const oneAnswer = Math.max(1, maxPromptTokens - 1) + responseLength;
  const places = kvCacheTokens || promptPlaces + batchSize * responseLength;
  const caches = halves(places, oneAnswer).filter((n) => n < places);
  const least = Math.max(numGenerations, numMiniBatches);
  const answers = halves(batchSize, least).filter((n) => n < batchSize && n % numGenerations === 0);
  const lengths = halves(responseLength, 16).filter((n) => n < responseLength);
  const ladders = trainingLadders(model, request, trainingOf(request).data.longest);
  ladders.push(
    ...adapterSteps,
    caches.map((n) => change(`--kv-cache-tokens ${n}`, { kvCacheTokens: n })),
    answers.map((n) => change(`--batch-size ${n}`, { batchSize: n })),
    lengths.map((n) => change(`--response-length ${n}`, { responseLength: n })),
  );
  return ladders;
}

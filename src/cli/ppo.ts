import { join } from 'node:path';
import { linearShapes } from '../../models/tensors.js';
import { InputError } from '../errors.js';
import type { Reward } from '../evaluate/rewards.js';
import type { Adapter, AdapterConfig } from '../formats/adapter.js';
import { initialAdapter } from '../model/adapter.js';
import type { LanguageModel } from '../model/language-model.js';
import { ValueHead } from '../model/value-head.js';
import { createRandom } from '../random.js';
import { digestFile } from '../text/lines.js';
import { beforeStop, stopAt } from '../text/stop-strings.js';
import {
  type Answer,
  initialPpoState,
  type Judgement,
  type PpoMetrics,
  type PpoResult,
  type PpoSnapshot,
  type PpoState,
  trainPpo,
} from '../train/ppo.js';
import { countRollouts } from '../train/ppo-prompts.js';
import { removeLatest, writeCheckpoint } from './checkpoints.js';
import { onInterrupt } from './interrupt.js';
import { findData } from './load-data.js';
import { loadReward } from './load-reward.js';
import type { Command } from './main.js';
import { type Checkpointing, formatBytes, parseBytes } from './memory.js';
import { checkJson, writeJson } from './output-file.js';
import { checkPpoArguments, type PpoArguments, type PpoRunArguments, ppoSettings, ppoTable } from './ppo-arguments.js';
import { readPpoCheckpoint, writePpoCheckpoint } from './ppo-checkpoints.js';
import { checkAnswerRoom, choosePpoMicroBatch, type PpoRequest, readPpoAdapters, trainingOf } from './ppo-memory.js';
import { checkReward, loadRankingData, type RankingData } from './ranking-data.js';
import { checkOutput, RunDirectory } from './run-directory.js';
import {
  baseName,
  checkStepsLeft,
  checkUnchanged,
  compareDevice,
  extendArguments,
  type ResumedRun,
  readTrainerState,
  recordArguments,
  recordBase,
  recordChosen,
  recordData,
  recordDevice,
  requireFiles,
  resumeRun,
  versions,
} from './run-record.js';
import { loadModel, type OpenDevice, type OpenModel, openDevice, openModel, requireTokenizer } from './session.js';
import type { LoadedBase } from './sft.js';

export const ppoCommand: Command = {
  command: 'ppo',
  describe: 'Train an adapter by proximal policy optimisation to rank words as people do, or by a reward of your own',
  options: ppoTable,
  computes: true,
  run: async (args, given) => {
    const result = await runPpo(args as unknown as PpoArguments, given);
    return result.outcome === 'interrupted' ? 130 : 0;
  },
};

/** A whole run, as `runSft`. */
export async function runPpo(asked: PpoArguments, given: ReadonlySet<string>, base?: LoadedBase): Promise<PpoResult> {
  const resumed = asked.resume ? await resumeRun('ppo', asked, given, ppoTable) : null;
  const args = requireFiles('ppo', resumed?.args ?? asked);
  checkPpoArguments(args, given);
  await checkJson(args.json, args.output);
  await findData(args.data, undefined); // before a model is fetched for it
  const model = base?.model ?? (await openModel(args));
  try {
    const run = await checkRun(args, model, resumed);
    const open = base?.open ?? (await openDevice(args, resumed?.tuning));
    try {
      console.log(open.describe);
      if (resumed) {
        compareDevice(resumed, open);
        compareCache(resumed);
      }
      return await train(args, run, { model, open, loaded: base?.loaded ?? null });
    } finally {
      if (!base) await open.close();
    }
  } finally {
    if (!base) await model.checkpoint.close();
  }
}

/** Warns where rollouts go through their answers in other parts than before, in which numbers round otherwise. */
function compareCache({ args, record }: ResumedRun<PpoArguments>): void {
  const { kv_cache_tokens: before = 0 } = record.arguments as { kv_cache_tokens?: number };
  if (args.kvCacheTokens !== before && !args.deterministic)
    console.error(
      `Warning: --kv-cache-tokens is ${args.kvCacheTokens}, the run began with ${before}: without --deterministic, answers from here on may differ from those of a run without the change.`,
    );
}

/** A run's input, read and found good. */
interface CheckedRun {
  readonly data: RankingData;
  readonly reward: Reward;
  /** Of policy and critic. */
  readonly config: AdapterConfig;
  /** The adapter of --init-adapter; null for a new one. */
  readonly initial: Adapter | null;
  readonly reference: Adapter | null;
  /** SHA-256 of the reference's tensors; null without one. */
  readonly referenceDigest: string | null;
  /** What base model and tokenizer they are. */
  readonly base: Record<string, unknown>;
  readonly resume: { readonly run: ResumedRun<PpoArguments>; state: PpoState; snapshot: PpoSnapshot } | null;
  /** Bytes; null where none was given. */
  readonly memoryLimit: number | null;
}

/** Everything that can be refused before a device is opened. */
async function checkRun(
  args: PpoRunArguments,
  model: OpenModel,
  resumed: ResumedRun<PpoArguments> | null,
): Promise<CheckedRun> {
  const modules = linearShapes(model.config);
  const limit = args.memoryLimit === undefined ? null : parseBytes('--memory-limit', args.memoryLimit);
  const { initial, config, reference, referencePath } = await readPpoAdapters(args, model.config);
  const referenceDigest =
    referencePath === undefined ? null : await digestFile(join(referencePath, 'adapter_model.safetensors'));
  const reward = await loadReward(args.reward, args);
  if (!resumed) await checkOutput(args.output);
  const data = await loadRankingData((await findData(args.data, undefined)).train, model);
  checkReward(args.reward, data);
  checkAnswerRoom(
    data.questions.map(({ ids }) => ids),
    args,
    model.config,
  );
  let resume: CheckedRun['resume'] = null;
  if (resumed) {
    await checkUnchanged(resumed, model, [data]);
    if (resumed.record.reference !== referenceDigest)
      throw new InputError(`--resume: the reference ${referencePath} has changed since the run began: restore it.`);
    const { path } = resumed.checkpoint;
    const state = await readTrainerState(path, initialPpoState(args.klCoef, args.seed));
    const snapshot = await readPpoCheckpoint(path, modules, model.config.hiddenSize);
    resume = { run: resumed, state, snapshot };
    const total = countRollouts(ppoSettings(args, { data, model, microBatchTokens: 0, recompute: 0 }));
    checkStepsLeft(resumed, state.step, total, 'rollouts', '--total-episodes or --num-train-epochs');
  }
  for (const line of previewQuestions(data, model)) console.log(line);
  const base = await recordBase(model);
  return { data, reward, config, initial, reference, referenceDigest, base, resume, memoryLimit: limit };
}

async function train(
  args: PpoRunArguments,
  run: CheckedRun,
  { model, open, loaded: given }: { model: OpenModel; open: OpenDevice; loaded: LanguageModel | null },
): Promise<PpoResult> {
  const { data, resume } = run;
  const request: PpoRequest = {
    config: model.config,
    packed: model.checkpoint.packed,
    adapter: run.config,
    reference: run.reference?.config ?? null,
    asked: args.microBatchTokens,
    checkpointing: args.gradientCheckpointing as Checkpointing,
    prompts: data.questions.map(({ ids }) => ids),
    settings: ppoSettings(args, { data, model, microBatchTokens: 0, recompute: 0 }),
  };
  const plan = choosePpoMicroBatch(open, request, run.memoryLimit);
  for (const line of plan.lines) console.log(line);
  const settings = ppoSettings(args, { data, model, ...plan.run });
  const total = countRollouts(settings);
  console.log(
    `PPO: ${resume ? `from rollout ${resume.state.step} to ` : ''}${total} rollouts of ${args.batchSize} answers, ` +
      `${args.numPpoEpochs * args.numMiniBatches} updates each; reward ${args.reward}${args.normalizeReward ? ', normalised' : ''}.`,
  );
  const loaded = given ?? (await loadModel(open, model, trainingOf(request).maxLength));
  loaded.pool.acquire(plan.run.bytes.slots); // the largest program's memory first, so that it never grows
  const models = await placeModels(args, run, loaded);
  const { slots: _, ...bytes } = plan.run.bytes;
  const record = {
    command: 'ppo',
    options: {
      ...recordArguments(args, ppoTable),
      ...recordChosen(open, run.config, settings),
      total_episodes: settings.totalEpisodes,
    },
    model: model.directory,
    reference: run.referenceDigest,
    device: recordDevice(open),
    versions: versions(),
    total_steps: total,
    data: recordData([data]),
    memory: {
      ...bytes,
      ...plan.ppo,
      total: plan.total,
      micro_batch_tokens: settings.microBatchTokens,
      recomputed_layers: settings.recompute,
    },
  };
  const directory = resume
    ? await RunDirectory.reopen(args.output, { ...record, arguments: extendArguments(resume.run) }, resume.state)
    : await RunDirectory.create(args.output, { ...record, arguments: recordArguments(args, ppoTable), base: run.base });
  const interrupt = onInterrupt(() =>
    console.error(
      'Interrupted: writing a checkpoint; this rollout is thrown away, unless its updates have begun. Again to quit at once.',
    ),
  );
  let reached = resume?.state.step ?? 0;
  let warned = false;
  try {
    const result = await trainPpo(
      loaded,
      models,
      data.questions.map(({ ids }) => ids),
      settings,
      {
        judge: judgeOf(run, model, () => reached, args),
        shouldStop: stopAt(requireTokenizer(model), args.stop ?? []),
        step: async (metrics) => {
          reached = metrics.step;
          await directory.append(metrics.step, metrics);
          if (metrics['objective/scores_std'] < 1e-9 && !warned) {
            warned = true;
            console.error(describeAlike(metrics, args.batchSize));
          }
          directory.progress(metrics.step / total, describeStep(metrics, total, args.batchSize));
        },
        checkpoint: (name, state, snapshot) =>
          writeCheckpoint(args.output, name, state, (path) => writePpoCheckpoint(path, snapshot, baseName(model))),
        interrupted: () => interrupt.requested,
      },
      resume && { state: resume.state, moments: momentsOf(resume.snapshot) },
    );
    const last = directory.last as PpoMetrics | null;
    const summary = {
      outcome: result.outcome,
      steps: result.steps,
      episodes: result.episodes,
      skipped_updates: result.skippedUpdates,
      parse_failures: result.parseFailures,
      kl_coef: result.klCoef,
      last,
      device_bytes: open.device.allocatedBytes,
      planned_bytes: plan.total,
    };
    await directory.finish(result.adapter, baseName(model), summary);
    await removeLatest(args.output);
    await writeJson(args.json, summary);
    console.log(
      `${describeOutcome(result, last)} Adapter and metrics: ${args.output} (device memory ${formatBytes(open.device.allocatedBytes)}).`,
    );
    return result;
  } finally {
    interrupt.remove();
    await directory.close();
    for (const part of [models.policy, models.critic, models.valueHead, models.reference]) part?.destroy();
  }
}

/** Policy, reference and critic over the one base, from a checkpoint or as they begin. */
async function placeModels(
  args: PpoRunArguments,
  { initial, reference, config, resume }: CheckedRun,
  model: LanguageModel,
) {
  const random = createRandom(args.seed);
  const uniform = () => random.uint32() / 2 ** 32;
  const start = initial ? { ...initial, config } : initialAdapter(model.config, config, uniform);
  const { policy, critic, valueHead } = resume?.snapshot ?? { policy: null, critic: null, valueHead: null };
  const head = new ValueHead(model.device, model.config.hiddenSize, model.operand);
  head.upload(valueHead?.numbers ?? initialHead(model.config.hiddenSize, uniform));
  return {
    policy: await model.addAdapter(policy?.adapter ?? start, { trainable: true }),
    critic: await model.addAdapter(critic?.adapter ?? start, { trainable: true }),
    reference: reference && (await model.addAdapter(reference, { trainable: false })),
    valueHead: head,
  };
}

/** Uniform within ±1 / (dim + 1), so that values begin near 0; no bias. */
function initialHead(dim: number, uniform: () => number): Float32Array {
  return Float32Array.from({ length: dim + 1 }, (_, i) => (i < dim ? (2 * uniform() - 1) / (dim + 1) : 0));
}

function momentsOf({ policy, critic, valueHead }: PpoSnapshot) {
  return { policy: policy.moments, critic: critic.moments, valueHead: valueHead.moments };
}

/** Reads answers as text, up to a stop string, and asks the reward for all at once; its first error says where the run lies. */
function judgeOf(
  { data, reward }: CheckedRun,
  model: OpenModel,
  reached: () => number,
  { output, stop = [] }: PpoRunArguments,
) {
  const tokenizer = requireTokenizer(model);
  const judge = async ({ prompt, ids }: Answer): Promise<Judgement> => {
    const { ids: _, ...question } = data.questions[prompt];
    return reward({ ...question, answer: beforeStop(tokenizer.decode(ids, { skipSpecials: true }), stop) });
  };
  return async (answers: readonly Answer[]): Promise<Judgement[]> => {
    try {
      return await Promise.all(answers.map(judge));
    } catch (error) {
      throw new InputError(
        `${(error as Error).message}. The run up to rollout ${reached()} is in ${join(output, 'checkpoints')}: mend the reward and go on with --resume.`,
      );
    }
  };
}

/** What a run prints of its data before it starts. */
function previewQuestions({ file, questions, stats }: RankingData, model: OpenModel): string[] {
  const [first] = questions;
  const text = requireTokenizer(model).decode(first.ids, { skipSpecials: false });
  return [
    `Data: ${questions.length} questions of ${file}; ${stats.tokens} tokens. The first, and people's order:`,
    ...text.split('\n').map((line) => `  ${line}`),
    `  → ${first.ranking.join(', ')}`,
  ];
}

/** Whitened advantages of answers that all score the same are noise, and the policy follows it. */
function describeAlike(metrics: PpoMetrics, batchSize: number): string {
  return (
    `Warning: all ${batchSize} answers of rollout ${metrics.step} scored ${metrics['objective/scores'].toFixed(3)}, so that nothing but noise is learnt from it. ` +
    'If that goes on, begin with an adapter that already gives some answers worth more, or take a reward that pays for parts.'
  );
}

function describeStep(metrics: PpoMetrics, total: number, batchSize: number): string {
  const show = (value: number) => value.toFixed(3);
  return (
    `rollout ${metrics.step}/${total}  score ${show(metrics['objective/scores'])}  kl ${show(metrics['objective/kl'])}  ` +
    `unparsed ${metrics['objective/parse_failures']}/${batchSize}  policy ${show(metrics['loss/policy_avg'])}  ` +
    `value ${show(metrics['loss/value_avg'])}  ${metrics.tokens_per_second.toFixed(0)} tok/s`
  );
}

function describeOutcome({ outcome, steps, episodes, skippedUpdates }: PpoResult, last: PpoMetrics | null): string {
  const skipped = skippedUpdates > 0 ? `, ${skippedUpdates} updates skipped for non-finite gradients` : '';
  const score = last ? `: last mean score ${last['objective/scores'].toFixed(3)}` : '';
  return `${outcome[0].toUpperCase()}${outcome.slice(1)} after ${steps} rollouts, ${episodes} answers${score}${skipped}.`;
}

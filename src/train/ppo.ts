import type { Adapter } from '../formats/adapter.js';
import type { AdapterWeights, Moments } from '../model/adapter.js';
import type { LanguageModel } from '../model/language-model.js';
import { type Completion, RolloutEngine, type RolloutHooks } from '../model/rollout.js';
import type { ValueHead, ValueHeadMoments, ValueHeadNumbers } from '../model/value-head.js';
import { sequenceSeed } from '../random.js';
import { type CheckpointOptions, CheckpointSchedule, checkpointName } from './checkpoint-schedule.js';
import { Learner, type LearnerState } from './learner.js';
import { LossScale } from './loss-scale.js';
import type { AdamWOptions } from './optimizer.js';
import type { Sequence } from './ppo-batch.js';
import { adaptKlCoef, estimateAdvantages, type KlEstimator, tokenRewards, whiten } from './ppo-math.js';
import { countRollouts, rolloutPrompts, rolloutShape } from './ppo-prompts.js';
import { Scorer } from './ppo-scoring.js';
import { PpoUpdater, type UpdateMetrics } from './ppo-update.js';
import { type RunningState, RunningStatistics } from './running-statistics.js';
import { type SchedulerType, scheduleFactor } from './schedule.js';

export interface PpoOptions extends AdamWOptions, CheckpointOptions {
  /** Sampled sequences of the whole run. */
  readonly totalEpisodes: number;
  /** Sampled sequences of one rollout. */
  readonly batchSize: number;
  /** Sequences sampled from each prompt; divides the batch size. */
  readonly numGenerations: number;
  /** Passes over each rollout. */
  readonly numPpoEpochs: number;
  /** Updates of a pass; at most the batch size. */
  readonly numMiniBatches: number;
  readonly microBatchTokens: number;
  /** Layers whose activations the backward passes compute again. */
  readonly recompute: number;
  readonly responseLength: number;
  /** Most places of the rollout's KV cache, which then goes through its answers a part at a time; 0: as many as they need. */
  readonly kvCacheTokens: number;
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
  /** No answer depends on the others of its rollout. */
  readonly deterministic: boolean;
  readonly stopIds: ReadonlySet<number>;
  readonly learningRate: number;
  readonly criticLearningRate: number;
  readonly schedulerType: SchedulerType;
  readonly warmupSteps: number;
  readonly klCoef: number;
  readonly klEstimator: KlEstimator;
  /** Draws the KL coefficient towards this mean KL a sequence; 0: it stays. */
  readonly klTarget: number;
  /** Sequences over which the coefficient adapts. */
  readonly klHorizon: number;
  /** Ends a rollout's updates where the policy has moved this far from the sampling one (k3 a token); 0: never. */
  readonly maxUpdateKl: number;
  readonly gamma: number;
  readonly lam: number;
  readonly cliprange: number;
  readonly cliprangeValue: number;
  readonly vfCoef: number;
  readonly whitenRewards: boolean;
  /** Scores are normalised by their running mean and deviation. */
  readonly normalizeReward: boolean;
  /** Taken off the score of a sequence that did not end by itself. */
  readonly missingEosPenalty: number;
  /** Taken off the score for each token. */
  readonly lengthPenalty: number;
  readonly seed: number;
  readonly shuffle: boolean;
}

/** What learns and what it is held against, over one base model. */
export interface PpoModels {
  readonly policy: AdapterWeights;
  /** Null: the base model itself. */
  readonly reference: AdapterWeights | null;
  readonly critic: AdapterWeights;
  readonly valueHead: ValueHead;
}

/** An answer to be judged. */
export interface Answer {
  /** Index of the prompt. */
  readonly prompt: number;
  /** Sampled tokens, without the stop id that ended them; what a sink stopped at stands among them. */
  readonly ids: readonly number[];
}

export interface Judgement {
  readonly score: number;
  readonly parsed: boolean;
}

/** Everything that a later run needs to go on, beside parameters and moments. */
export interface PpoState {
  /** Rollouts made and learnt from. */
  readonly step: number;
  readonly episodes: number;
  readonly policy: LearnerState;
  readonly critic: LearnerState;
  readonly klCoef: number;
  readonly scores: RunningState;
  readonly parseFailures: number;
  readonly skippedUpdates: number;
  readonly seed: number;
}

/** Parameters and moments at a checkpoint. */
export interface PpoSnapshot {
  readonly policy: { readonly adapter: Adapter; readonly moments: Moments };
  readonly critic: { readonly adapter: Adapter; readonly moments: Moments };
  readonly valueHead: { readonly numbers: ValueHeadNumbers; readonly moments: ValueHeadMoments };
}

/** Where a resumed run goes on; the parameters on the device are already those of the checkpoint. */
export interface PpoResume {
  readonly state: PpoState;
  readonly moments: { readonly policy: Moments; readonly critic: Moments; readonly valueHead: ValueHeadMoments };
}

/** One line of metrics.jsonl, by TRL's names; means over the sequences of a rollout where nothing else is said. */
export interface PpoMetrics extends UpdateMetrics {
  readonly step: number;
  readonly episode: number;
  readonly lr: number;
  /** Σ over a sequence of log π − log π_ref. */
  readonly 'objective/kl': number;
  readonly 'objective/kl_coef': number;
  /** Σ over a sequence of −log π. */
  readonly 'objective/entropy': number;
  /** Σ over a sequence of the KL penalty. */
  readonly 'objective/non_score_reward': number;
  /** That and the score as it was learnt from. */
  readonly 'objective/rlhf_reward': number;
  /** Before normalisation, penalties taken off. */
  readonly 'objective/scores': number;
  /** Standard deviation of those; where it is 0, no answer was better than another. */
  readonly 'objective/scores_std': number;
  /** Answers without the form asked for. */
  readonly 'objective/parse_failures': number;
  /** Answers that ended by themselves: with a stop id, or where the sink stopped them. */
  readonly 'val/num_eos_tokens': number;
  readonly response_tokens: number;
  readonly 'seconds/rollout': number;
  /** Of the reward, the reference and the critic. */
  readonly 'seconds/scoring': number;
  readonly 'seconds/update': number;
  readonly tokens_per_second: number;
}

/** Where results go while a run goes on. */
export interface PpoSink {
  /** Scores answers; what it throws ends the run with a checkpoint of before the rollout. */
  judge(answers: readonly Answer[]): Promise<readonly Judgement[]>;
  /** Asked after every sampled token, by the answer's index in its rollout; true ends that answer. */
  readonly shouldStop?: RolloutHooks['shouldStop'];
  step(metrics: PpoMetrics): void | Promise<void>;
  checkpoint(name: string, state: PpoState, snapshot: PpoSnapshot): Promise<void>;
  /**
   * Asked at every step of a rollout, and before every micro-batch of its scoring; true throws the rollout away and ends
   * the run with a checkpoint of before it. Updates that have begun are made to their end.
   */
  interrupted(): boolean;
}

export interface PpoResult {
  readonly adapter: Adapter;
  readonly steps: number;
  readonly episodes: number;
  readonly skippedUpdates: number;
  readonly parseFailures: number;
  readonly klCoef: number;
  readonly outcome: 'finished' | 'interrupted';
}

/** The state before the first rollout. */
export function initialPpoState(klCoef: number, seed: number): PpoState {
  const learner: LearnerState = { updates: 0, lossScale: new LossScale('f16').state };
  const scores = new RunningStatistics().state;
  const counts = { step: 0, episodes: 0, parseFailures: 0, skippedUpdates: 0 };
  return { ...counts, policy: learner, critic: learner, klCoef, scores, seed };
}

/**
 * Proximal policy optimisation of an adapter: sample answers, score them, hold them against the reference, estimate
 * advantages by the critic, and update policy and critic by clipped losses over tries of the rollout. The old
 * log-probabilities are those that the rollout recorded. What a step draws depends on the seed and its number alone, so a
 * run resumed `from` a checkpoint goes on bit for bit.
 */
export async function trainPpo(
  model: LanguageModel,
  models: PpoModels,
  prompts: readonly Int32Array[],
  options: PpoOptions,
  sink: PpoSink,
  from: PpoResume | null = null,
): Promise<PpoResult> {
  const { policy, critic, valueHead } = models;
  const total = countRollouts(options);
  const start = from?.state ?? initialPpoState(options.klCoef, options.seed);
  const { temperature, topP, topK, deterministic, recompute, stopIds, cliprange } = options;
  const engine = await RolloutEngine.create(model, {
    adapter: policy,
    stopIds,
    sampling: { temperature, topP, topK, presencePenalty: 0, unpenalised: new Set() },
    deterministic,
    ...rolloutShape(prompts, options),
  });
  const scorer = new Scorer(model, models, options);
  const learners = {
    policy: await Learner.create(
      model,
      policy.chunks,
      options,
      { adapter: policy, backward: true, recompute, temperature, objective: { kind: 'policy', cliprange } },
      start.policy,
    ),
    critic: await Learner.create(
      model,
      [...critic.chunks, valueHead.chunk],
      options,
      {
        adapter: critic,
        backward: true,
        recompute,
        objective: { kind: 'value', head: valueHead.chunk, cliprange: options.cliprangeValue },
      },
      start.critic,
    ),
  };
  if (from) {
    policy.uploadMoments(from.moments.policy);
    critic.uploadMoments(from.moments.critic);
    valueHead.uploadMoments(from.moments.valueHead);
  }
  const updater = new PpoUpdater(learners, options);
  const scores = new RunningStatistics(start.scores);
  let { step, episodes, klCoef, parseFailures, skippedUpdates } = start;
  let outcome: PpoResult['outcome'] = 'finished';

  const checkpoints = new CheckpointSchedule(options, total);
  const saveCheckpoint = async (name = checkpointName(step)) => {
    const { state: policyState } = learners.policy;
    const { state: criticState } = learners.critic;
    const counts = { step, episodes, parseFailures, skippedUpdates, klCoef, seed: options.seed };
    const state = { ...counts, policy: policyState, critic: criticState, scores: scores.state };
    await sink.checkpoint(name, state, await takeSnapshot(models));
    checkpoints.written();
  };
  const stopIfAsked = () => {
    if (sink.interrupted()) throw new BrokenOff();
  };

  try {
    while (step < total) {
      stopIfAsked();
      // Rollout.
      const started = performance.now();
      const chosen = rolloutPrompts(prompts.length, step, options).flatMap((index) =>
        new Array<number>(options.numGenerations).fill(index),
      );
      const completions = await engine.run(
        chosen.map((index, i) => ({ prompt: prompts[index], seed: sequenceSeed(options.seed, episodes + i) })),
        { shouldStop: sink.shouldStop, onStep: stopIfAsked },
      );
      const rolled = performance.now();

      // Scores: what the reward says, less penalties.
      const judged = await sink.judge(completions.map(asAnswer(chosen))).catch(async (error) => {
        await saveCheckpoint();
        throw error;
      });
      const raw = judged.map(({ score }, i) => score - penaltyOf(completions[i], options));

      // Reference and critic over the same tokens; rewards and advantages.
      const sequences: Sequence[] = completions.map(({ ids }, i) => ({ prompt: prompts[chosen[i]], response: ids }));
      const { reference, values } = await scorer.score(sequences, stopIfAsked);
      scores.add(raw); // from here on the rollout counts
      const used = options.normalizeReward ? raw.map((score) => scores.normalise(score)) : raw;
      const rewards = completions.map(({ logprobs }, i) =>
        tokenRewards(logprobs, reference[i], used[i], klCoef, options.klEstimator),
      );
      const shaped = options.whitenRewards ? whiten(rewards, { shift: false }) : rewards;
      const estimates = shaped.map((row, i) => estimateAdvantages(row, values[i], options.gamma, options.lam));
      const scored = performance.now();

      // Updates.
      const factor = scheduleFactor(options.schedulerType, step, options.warmupSteps, total);
      const updates = await updater.update(
        {
          sequences,
          logprobs: completions.map(({ logprobs }) => logprobs),
          values,
          advantages: whiten(estimates.map(({ advantages }) => advantages)),
          returns: estimates.map(({ returns }) => returns),
        },
        { step, rates: { policy: options.learningRate * factor, critic: options.criticLearningRate * factor } },
      );
      const ended = performance.now();

      const kls = completions.map(({ logprobs }, i) => sum(logprobs.map((logprob, t) => logprob - reference[i][t])));
      const penalties = rewards.map((row, i) => sum(row) - used[i]);
      const tokens = sum(sequences.map(({ response }) => response.length));
      const failures = judged.filter(({ parsed }) => !parsed).length;
      step++;
      episodes += chosen.length;
      parseFailures += failures;
      skippedUpdates += updates.skipped_updates;
      const metrics: PpoMetrics = {
        step,
        episode: episodes,
        lr: options.learningRate * factor,
        'objective/kl': mean(kls),
        'objective/kl_coef': klCoef,
        'objective/entropy': mean(completions.map(({ logprobs }) => -sum(logprobs))),
        'objective/non_score_reward': mean(penalties),
        'objective/rlhf_reward': mean(penalties.map((penalty, i) => penalty + used[i])),
        'objective/scores': mean(raw),
        'objective/scores_std': deviation(raw),
        'objective/parse_failures': failures,
        ...updates,
        'val/num_eos_tokens': completions.filter(({ finish }) => finish !== 'length').length,
        response_tokens: tokens,
        'seconds/rollout': (rolled - started) / 1000,
        'seconds/scoring': (scored - rolled) / 1000,
        'seconds/update': (ended - scored) / 1000,
        tokens_per_second: tokens / ((ended - started) / 1000),
      };
      if (options.klTarget > 0)
        klCoef = adaptKlCoef(klCoef, mean(kls), {
          target: options.klTarget,
          horizon: options.klHorizon,
          episodes: chosen.length,
        });
      await sink.step(metrics);
      const due = checkpoints.due(step);
      if (due) await saveCheckpoint(due);
    }
  } catch (error) {
    if (!(error instanceof BrokenOff)) throw error;
    outcome = 'interrupted';
    await saveCheckpoint();
  }
  const adapter = await policy.download();
  for (const part of [engine, scorer, learners.policy, learners.critic]) part.destroy();
  return { adapter, steps: step, episodes, skippedUpdates, parseFailures, klCoef, outcome };
}

/** Thrown where a run is to end before its rollout has changed anything. */
class BrokenOff extends Error {}

/** What the reward sees of a completion. */
function asAnswer(chosen: readonly number[]): (completion: Completion, i: number) => Answer {
  return ({ ids, finish }, i) => ({ prompt: chosen[i], ids: finish === 'eos' ? ids.slice(0, -1) : ids });
}

function penaltyOf(
  { ids, finish }: Completion,
  { missingEosPenalty, lengthPenalty }: Pick<PpoOptions, 'missingEosPenalty' | 'lengthPenalty'>,
): number {
  return lengthPenalty * ids.length + (finish === 'length' ? missingEosPenalty : 0);
}

async function takeSnapshot({ policy, critic, valueHead }: PpoModels): Promise<PpoSnapshot> {
  const take = async (weights: AdapterWeights) => ({
    adapter: await weights.download(),
    moments: await weights.downloadMoments(),
  });
  const [first, second] = [await valueHead.download('first'), await valueHead.download('second')];
  return {
    policy: await take(policy),
    critic: await take(critic),
    valueHead: { numbers: await valueHead.download(), moments: { first, second } },
  };
}

function sum(values: readonly number[] | Float64Array): number {
  return (values as number[]).reduce((total, value) => total + value, 0);
}

function mean(values: readonly number[]): number {
  return sum(values) / values.length;
}

/** The population's. */
function deviation(values: readonly number[]): number {
  const centre = mean(values);
  return Math.sqrt(mean(values.map((value) => (value - centre) ** 2)));
}

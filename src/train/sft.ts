import { countSupervised } from '../batch/examples.js';
import { packMicroBatches } from '../batch/pack.js';
import { buildTrie, countTries } from '../batch/trie.js';
import type { Example, TokenTrie } from '../batch/types.js';
import { InputError } from '../errors.js';
import type { Adapter } from '../formats/adapter.js';
import type { AdapterWeights, Moments } from '../model/adapter.js';
import type { LanguageModel } from '../model/language-model.js';
import { LossPrograms } from '../model/loss-program.js';
import { createRandom, shuffle } from '../random.js';
import { type CheckpointOptions, CheckpointSchedule, checkpointName } from './checkpoint-schedule.js';
import { LossScale, type LossScaleState } from './loss-scale.js';
import { type AdamWOptions, Optimizer } from './optimizer.js';
import { type SchedulerType, scheduleFactor } from './schedule.js';

export interface SftOptions extends AdamWOptions, CheckpointOptions {
  /** Rows of one optimiser step. */
  readonly batchSize: number;
  /** Trie nodes of one micro-batch at most. */
  readonly microBatchTokens: number;
  readonly epochs: number;
  /** Overrides epochs where above 0. */
  readonly maxSteps: number;
  readonly learningRate: number;
  readonly schedulerType: SchedulerType;
  /** Null: by the ratio. */
  readonly warmupSteps: number | null;
  /** Of all steps, rounded up. */
  readonly warmupRatio: number;
  readonly seed: number;
  readonly shuffle: boolean;
  /** Evaluate every so many steps; 0: only at the end. */
  readonly evalSteps: number;
  /** Stop after so many evaluations without a better loss; 0: never. */
  readonly earlyStoppingPatience: number;
  /** Layers whose activations the backward pass computes again instead of keeping them: less memory, the same result. */
  readonly recompute: number;
}

/** One line of metrics.jsonl. */
export interface StepMetrics {
  readonly step: number;
  readonly epoch: number;
  /** Mean over supervised tokens, before the update. */
  readonly loss: number;
  readonly learning_rate: number;
  /** Before clipping. */
  readonly grad_norm: number;
  /** Factor on the gradient of a unit of supervised weight in the backward pass. */
  readonly loss_scale: number;
  readonly examples: number;
  readonly supervised_tokens: number;
  /** Distinct tokens computed. */
  readonly tokens: number;
  /** Tokens of all rows: what packed sequences would have computed. */
  readonly equivalent_tokens: number;
  /** Rows times the longest: what padded rows would have computed. */
  readonly padded_tokens: number;
  readonly micro_batches: number;
  readonly tokens_per_second: number;
  readonly examples_per_second: number;
  readonly equivalent_tokens_per_second: number;
  readonly seconds: number;
  /** True where the gradient stayed non-finite at half the scale, so that nothing was learnt. */
  readonly skipped: boolean;
}

export interface EvalMetrics {
  readonly step: number;
  readonly epoch: number;
  readonly eval_loss: number;
  readonly eval_tokens: number;
  readonly eval_seconds: number;
}

/** Everything that a later run needs to go on. */
export interface TrainerState {
  readonly step: number;
  readonly epoch: number;
  readonly updates: number;
  readonly lossScale: LossScaleState;
  readonly seed: number;
  /** Over the steps that were not skipped. */
  readonly lossSum: number;
  readonly skippedSteps: number;
  /** Of the last evaluation. */
  readonly evalLoss: number | null;
  readonly best: { readonly loss: number; readonly step: number } | null;
  /** Evaluations since the best one. */
  readonly worse: number;
  /** True where the evaluation that is due at this step was not made, or broken off. */
  readonly evaluationDue?: boolean;
}

/** Where a resumed run goes on; the adapter on the device is already that of the state. */
export interface SftResume {
  readonly state: TrainerState;
  readonly moments: Moments;
  /** The adapter of `state.best`. */
  readonly best: Adapter | null;
}

/** Where results go while a run goes on. */
export interface SftSink {
  step(metrics: StepMetrics): void | Promise<void>;
  evaluation(metrics: EvalMetrics, best: boolean): void | Promise<void>;
  /** `name` is "step-000150" or "best". */
  checkpoint(name: string, adapter: Adapter, state: TrainerState, moments: Moments): Promise<void>;
  /** Asked before each step, and micro-batch of an evaluation, which is thrown away; true ends the run with a checkpoint. */
  interrupted(): boolean;
}

export interface SftResult {
  readonly adapter: Adapter;
  readonly steps: number;
  readonly skippedSteps: number;
  /** Mean over the steps that were not skipped; NaN where there was none. */
  readonly trainLoss: number;
  readonly evalLoss: number | null;
  readonly outcome: 'finished' | 'stopped early' | 'interrupted';
}

/** How many optimiser steps a run makes. */
export function countSteps(
  examples: number,
  options: Pick<SftOptions, 'batchSize' | 'epochs' | 'maxSteps'>,
): { perEpoch: number; total: number } {
  const perEpoch = Math.ceil(examples / options.batchSize);
  const total = options.maxSteps > 0 ? options.maxSteps : Math.ceil(perEpoch * options.epochs);
  return { perEpoch, total };
}

/** Warm-up steps: as given, else the ratio's share of all steps rounded up; 'constant' has none. */
export function countWarmup(
  total: number,
  options: Pick<SftOptions, 'schedulerType' | 'warmupSteps' | 'warmupRatio'>,
): number {
  if (options.schedulerType === 'constant') return 0;
  return options.warmupSteps ?? Math.ceil(options.warmupRatio * total);
}

/** Steps skipped in a row after which a run ends: it learns nothing any more. */
const mostSkipped = 20;

/** Rows of each optimiser step of one epoch, in order. */
export function epochBatches(
  examples: readonly Example[],
  epoch: number,
  options: Pick<SftOptions, 'batchSize' | 'seed' | 'shuffle'>,
): Example[][] {
  const order = options.shuffle ? shuffle(examples, createRandom(options.seed * 1_000_003 + epoch)) : examples;
  const batches: Example[][] = [];
  for (let i = 0; i < order.length; i += options.batchSize) batches.push(order.slice(i, i + options.batchSize));
  return batches;
}

/** The state before the first step. */
export function initialState(operand: 'f16' | 'f32', seed: number): TrainerState {
  const lossScale = new LossScale(operand).state;
  return {
    step: 0,
    epoch: 0,
    updates: 0,
    lossScale,
    seed,
    lossSum: 0,
    skippedSteps: 0,
    evalLoss: null,
    best: null,
    worse: 0,
  };
}

/**
 * Supervised fine-tuning of an adapter: AdamW on the mean cross-entropy of supervised tokens. Each step's rows are
 * merged into tries of at most `microBatchTokens` nodes, whose gradients add up to that of the whole step. What a step
 * draws depends on the seed and its number alone, so a run resumed `from` a checkpoint goes on bit for bit. Throws
 * InputError, after a checkpoint, where it learns nothing any more because losses or gradients are not finite.
 */
export async function trainSft(
  model: LanguageModel,
  weights: AdapterWeights,
  data: { train: readonly Example[]; valid: readonly Example[] },
  options: SftOptions,
  sink: SftSink,
  from: SftResume | null = null,
): Promise<SftResult> {
  const { perEpoch, total } = countSteps(data.train.length, options);
  const warmup = countWarmup(total, options);
  const start = from?.state ?? initialState(model.operand, options.seed);
  const optimizer = await Optimizer.create(model, weights.chunks, options);
  if (from) weights.uploadMoments(from.moments);
  optimizer.updates = start.updates;
  const { recompute } = options;
  const programs = new LossPrograms(model, { adapter: weights, backward: true, recompute });
  const evaluation = new LossPrograms(model, { adapter: weights, backward: false });
  const lossScale = new LossScale(model.operand, start.lossScale);
  let { step, lossSum, skippedSteps, evalLoss, best, worse } = start;
  let bestAdapter = from?.best ?? null;
  let skippedInARow = 0;
  const asksEvaluation = () =>
    data.valid.length > 0 && (step === total || (options.evalSteps > 0 && step % options.evalSteps === 0));
  // Where --eval-steps or the number of steps were given anew, it may be due no longer.
  let evaluationDue = start.evaluationDue === true && asksEvaluation();

  const checkpoints = new CheckpointSchedule(options, total);
  const saveCheckpoint = async (name: string) => {
    const state = {
      step,
      epoch: step / perEpoch,
      updates: optimizer.updates,
      lossScale: lossScale.state,
      seed: options.seed,
      lossSum,
      skippedSteps,
      evalLoss,
      best,
      worse,
      ...(evaluationDue && { evaluationDue }),
    };
    await sink.checkpoint(name, await weights.download(), state, await weights.downloadMoments());
    checkpoints.written();
  };

  /** The evaluation and the checkpoint that are due after a step; other than 'finished' ends the run. */
  const endStep = async (): Promise<SftResult['outcome']> => {
    if (evaluationDue) {
      const evaluated = await evaluateLoss(evaluation, data.valid, options.microBatchTokens, () => sink.interrupted());
      if (!evaluated) return 'interrupted';
      evaluationDue = false;
      const { loss, tokens, seconds } = evaluated;
      evalLoss = loss;
      const better = loss < (best?.loss ?? Number.POSITIVE_INFINITY);
      await sink.evaluation(
        { step, epoch: step / perEpoch, eval_loss: loss, eval_tokens: tokens, eval_seconds: seconds },
        better,
      );
      if (better) {
        best = { loss, step };
        worse = 0;
        bestAdapter = await weights.download();
        await saveCheckpoint('best');
      } else if (++worse === options.earlyStoppingPatience && step < total) return 'stopped early';
    }
    const due = checkpoints.due(step);
    if (due) await saveCheckpoint(due);
    return 'finished';
  };

  let outcome = evaluationDue ? await endStep() : 'finished';
  for (let epoch = Math.floor(step / perEpoch); step < total && outcome === 'finished'; epoch++) {
    for (const rows of epochBatches(data.train, epoch, options).slice(step - epoch * perEpoch)) {
      if (step >= total) break;
      if (sink.interrupted()) {
        outcome = 'interrupted';
        break;
      }
      const started = performance.now();
      const learningRate = options.learningRate * scheduleFactor(options.schedulerType, step, warmup, total);
      const tries = packMicroBatches(rows, options.microBatchTokens).map((indices) =>
        buildTrie(indices.map((i) => rows[i])),
      );
      const counts = countTries(rows, tries);
      // One mask seed for each micro-batch, the same when it is tried again.
      const random = createRandom(options.seed * 1_000_003 + step);
      const maskSeeds = tries.map(() => random.uint32());

      // A non-finite gradient is tried once more at half the loss scale; if that fails too, the step is skipped. A loss
      // that is not finite has no scale to blame.
      let loss = Number.NaN;
      let update = { norm: Number.NaN, finite: false };
      let scale = 1;
      for (let attempt = 0; attempt < 2 && !update.finite; attempt++) {
        if (attempt > 0) lossScale.halve();
        scale = lossScale.scaleFor(Math.max(...tries.map(heaviestRow)));
        optimizer.zeroGradients();
        const logprobs: Promise<Float32Array>[] = [];
        for (const [i, trie] of tries.entries()) {
          const { batch, program } = await programs.prepare(trie);
          const values = { gradScale: scale, dropout: weights.config.dropout, seed: maskSeeds[i] };
          const running = program.run(batch, values);
          running.catch(() => {}); // reported by Promise.all below, even if preparing the next one fails first
          logprobs.push(running);
        }
        loss = meanLoss(tries, await Promise.all(logprobs), counts.supervisedWeight);
        if (!Number.isFinite(loss)) break;
        update = await optimizer.step(learningRate, scale * counts.supervisedWeight);
      }
      if (update.finite) {
        lossScale.good();
        lossSum += loss;
        skippedInARow = 0;
      } else {
        if (Number.isFinite(loss)) lossScale.halve();
        skippedSteps++;
        skippedInARow++;
      }
      step++;
      const seconds = (performance.now() - started) / 1000;
      await sink.step({
        step,
        epoch: step / perEpoch,
        loss,
        learning_rate: learningRate,
        grad_norm: update.norm,
        loss_scale: scale,
        examples: rows.length,
        supervised_tokens: rows.reduce((n, { labels }) => n + countSupervised(labels), 0),
        tokens: counts.nodes,
        equivalent_tokens: counts.equivalentTokens,
        padded_tokens: counts.paddedTokens,
        micro_batches: tries.length,
        tokens_per_second: counts.nodes / seconds,
        examples_per_second: rows.length / seconds,
        equivalent_tokens_per_second: counts.equivalentTokens / seconds,
        seconds,
        skipped: !update.finite,
      });

      evaluationDue = asksEvaluation();
      if (skippedInARow === mostSkipped) {
        await saveCheckpoint(checkpointName(step));
        const what = Number.isFinite(loss) ? 'gradients are' : 'the loss is';
        throw new InputError(
          `The last ${mostSkipped} steps were skipped, because ${what} not finite: nothing is learnt any more. Try --tier f32, or a lower --learning-rate; the adapter as it is lies in checkpoints/${checkpointName(step)}.`,
        );
      }
      outcome = await endStep();
      if (outcome !== 'finished') break;
    }
  }
  if (outcome === 'interrupted') await saveCheckpoint(checkpointName(step));
  // As transformers' EarlyStoppingCallback has it, who asks for patience gets the best, also where patience lasts.
  const keepsBest = options.earlyStoppingPatience > 0 && outcome !== 'interrupted' && bestAdapter !== null;
  const adapter = keepsBest ? bestAdapter! : await weights.download();
  programs.destroy();
  evaluation.destroy();
  optimizer.destroy();
  return {
    adapter,
    steps: step,
    skippedSteps,
    trainLoss: lossSum / (step - skippedSteps),
    evalLoss: keepsBest ? best!.loss : evalLoss,
    outcome,
  };
}

/** Mean cross-entropy over supervised tokens, without gradients; null where `interrupted` asked to stop. */
async function evaluateLoss(
  programs: LossPrograms,
  examples: readonly Example[],
  microBatchTokens: number,
  interrupted: () => boolean,
): Promise<{ loss: number; tokens: number; seconds: number } | null> {
  const started = performance.now();
  const tries = packMicroBatches(examples, microBatchTokens).map((indices) =>
    buildTrie(indices.map((i) => examples[i])),
  );
  const { nodes: tokens, supervisedWeight } = countTries(examples, tries);
  const logprobs: Float32Array[] = [];
  for (const trie of tries) {
    if (interrupted()) return null;
    const { batch, program } = await programs.prepare(trie);
    logprobs.push(await program.run(batch, { gradScale: 1, dropout: 0, seed: 0 }));
  }
  const seconds = (performance.now() - started) / 1000;
  return { loss: meanLoss(tries, logprobs, supervisedWeight), tokens, seconds };
}

function meanLoss(tries: readonly TokenTrie[], logprobs: readonly Float32Array[], totalWeight: number): number {
  let sum = 0;
  tries.forEach((trie, i) => {
    trie.edgeWeight.forEach((weight, edge) => {
      sum -= weight * logprobs[i][edge];
    });
  });
  return sum / totalWeight;
}

function heaviestRow(trie: TokenTrie): number {
  let heaviest = 0;
  let sum = 0;
  trie.edgeRow.forEach((row, edge) => {
    sum = edge > 0 && row === trie.edgeRow[edge - 1] ? sum + trie.edgeWeight[edge] : trie.edgeWeight[edge];
    heaviest = Math.max(heaviest, sum);
  });
  return heaviest;
}

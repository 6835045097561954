import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { neededLength } from '../../src/batch/order.js';
import type { Example } from '../../src/batch/types.js';
import { epochBatches } from '../../src/train/sft.js';
import { randomExamples } from '../batch/random-tries.js';
import { openTestGpu, type TestGpu, tiers } from '../gpu.js';
import { flatten, type GoldenModel, openGolden, train } from './helpers.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

const supervised = (rows: readonly Example[]) => rows.filter((row) => neededLength(row) > 0);
const rows = supervised(randomExamples(6, { count: 14, length: 12, vocab: 6 })).slice(0, 10);
const other = supervised(randomExamples(7, { count: 14, length: 12, vocab: 6 })).slice(0, 6);

/** Metrics without what a clock says. */
const timeless = (steps: readonly object[]) =>
  steps.map((step) => Object.fromEntries(Object.entries(step).filter(([key]) => !key.includes('second'))));

describe.each(tiers)('two runs of one seed, %s', (tier) => {
  it.each([0, 0.1])('give identical bytes and metrics, dropout %d', async (dropout) => {
    const opened = await openGolden(gpu, 'llama', tier, dropout);
    const options = { epochs: 2, microBatchTokens: 30, evalSteps: 2, weightDecay: 0.1, loraPlusRatio: 4 };
    const [a, b] = [
      await train(opened, { train: rows, valid: other }, options),
      await train(await openGolden(gpu, 'llama', tier, dropout), { train: rows, valid: other }, options),
    ];
    expect(timeless(b.steps)).toEqual(timeless(a.steps));
    expect(timeless(b.evaluations)).toEqual(timeless(a.evaluations));
    expect(flatten(b.result.adapter)).toEqual(flatten(a.result.adapter));
    expect(flatten(a.result.adapter)).not.toEqual(flatten(opened.adapter));
    const c = await train(opened, { train: rows }, { ...options, seed: 43 });
    expect(c.steps[0].loss).not.toBe(a.steps[0].loss);
    if (dropout > 0) {
      const d = await train(opened, { train: rows }, { ...options, seed: 43, shuffle: false });
      const e = await train(opened, { train: rows }, { ...options, seed: 44, shuffle: false });
      expect(d.steps[0].loss).not.toBe(e.steps[0].loss);
    }
  });
});

describe('dropout', () => {
  it('draws other masks for each micro-batch of a step', async () => {
    const opened = await openGolden(gpu, 'llama', 'f32', 0.5);
    // Twice the same row in micro-batches of their own: under one mask both would have the same loss.
    const row = rows.reduce((a, b) => (neededLength(b) > neededLength(a) ? b : a));
    const twin = { ...row, ids: row.ids.slice(), labels: row.labels.slice() };
    twin.ids[0] = row.ids[0] + 1;
    const options = { batchSize: 2, maxSteps: 1, shuffle: false, microBatchTokens: neededLength(row) };
    const one = await train(opened, { train: [row, row] }, { ...options, batchSize: 1 });
    const both = await train(opened, { train: [twin, row] }, options);
    expect(both.steps[0].micro_batches).toBe(2);
    const alone = await train(opened, { train: [twin] }, { ...options, batchSize: 1 });
    expect(both.steps[0].loss).not.toBeCloseTo((one.steps[0].loss + alone.steps[0].loss) / 2, 6);
  });
});

describe('the loop', () => {
  it('shuffles each epoch anew, or keeps the order', async () => {
    const order = (epoch: number, shuffle: boolean) =>
      epochBatches(rows, epoch, { batchSize: 4, seed: 1, shuffle }).map((batch) =>
        batch.map((row) => rows.indexOf(row)),
      );
    expect(order(0, false)).toEqual([
      [0, 1, 2, 3],
      [4, 5, 6, 7],
      [8, 9],
    ]);
    expect(order(0, true)).toEqual(order(0, true));
    expect(order(0, true)).not.toEqual(order(1, true));
    expect(
      order(0, true)
        .flat()
        .sort((a, b) => a - b),
    ).toEqual(rows.map((_, i) => i));
  });

  it('counts epochs and steps, warms up, and cuts at max-steps', async () => {
    const opened = await openGolden(gpu, 'llama', 'f32');
    const linear = { schedulerType: 'linear', learningRate: 1e-3, warmupRatio: 0.3, epochs: 1.5 } as const;
    const run = await train(opened, { train: rows }, linear);
    expect(run.steps.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5]);
    expect(run.steps.map(({ examples }) => examples)).toEqual([4, 4, 2, 4, 4]);
    expect(run.steps[2].epoch).toBe(1);
    const rates = [0, 0.5, 1, 2 / 3, 1 / 3].map((factor) => expect.closeTo(1e-3 * factor, 9));
    expect(run.steps.map((s) => s.learning_rate)).toEqual(rates);
    const cut = await train(opened, { train: rows }, { ...linear, maxSteps: 7, warmupSteps: 1 });
    expect(cut.steps.length).toBe(7);
    expect(cut.steps.map((s) => s.learning_rate).slice(0, 3)).toEqual(
      [0, 1, 5 / 6].map((factor) => expect.closeTo(1e-3 * factor, 9)),
    );
    expect(cut.result).toMatchObject({ outcome: 'finished', steps: 7, skippedSteps: 0, evalLoss: null });
  });

  it('weighs each supervised token of the step alike, times the weight of its row', async () => {
    const opened = await openGolden(gpu, 'llama', 'f32');
    const options = { batchSize: 10, maxSteps: 1, shuffle: false, microBatchTokens: 20 };
    const alone = [];
    for (const row of rows) alone.push((await train(opened, { train: [row] }, { ...options, batchSize: 1 })).steps[0]);
    const sum = alone.reduce((total, step, i) => total + step.loss * step.supervised_tokens * rows[i].weight, 0);
    const weight = alone.reduce((total, step, i) => total + step.supervised_tokens * rows[i].weight, 0);
    const { loss } = (await train(opened, { train: rows }, options)).steps[0];
    expect(loss).toBeCloseTo(sum / weight, 5);
  });

  it('evaluates every eval-steps and at the end, and keeps the best adapter as a checkpoint', async () => {
    const opened = await openGolden(gpu, 'llama', 'f32');
    const run = await train(opened, { train: rows, valid: other }, { epochs: 2, evalSteps: 4, learningRate: 0.02 });
    expect(run.evaluations.map(({ step }) => step)).toEqual([4, 6]);
    expect(run.result.evalLoss).toBe(run.evaluations[1].eval_loss);
    const best = run.evaluations.filter(({ best: better }) => better);
    expect(run.checkpoints.filter(({ name }) => name === 'best').map(({ state }) => state.step)).toEqual(
      best.map(({ step }) => step),
    );
  });

  it('stops early after so many worse evaluations, with the best adapter', async () => {
    const opened = await openGolden(gpu, 'llama', 'f32');
    const options = { epochs: 20, evalSteps: 1, learningRate: 0.5, earlyStoppingPatience: 2, batchSize: 10 };
    const run = await train(opened, { train: rows, valid: other }, options);
    expect(run.result.outcome).toBe('stopped early');
    const { evaluations } = run;
    expect(evaluations.slice(-2).map(({ best }) => best)).toEqual([false, false]);
    const last = run.checkpoints.filter(({ name }) => name === 'best').at(-1)!;
    expect(last.state.step).toBe(evaluations.length - 2);
    expect(flatten(run.result.adapter)).toEqual(flatten(last.adapter));
  });

  it('ends with the best adapter, too, where patience lasts to the end', async () => {
    const opened = await openGolden(gpu, 'llama', 'f32');
    const options = { epochs: 20, evalSteps: 1, learningRate: 0.5, earlyStoppingPatience: 50, batchSize: 10 };
    const { result, checkpoints, evaluations } = await train(opened, { train: rows, valid: other }, options);
    expect(result.outcome).toBe('finished');
    const best = checkpoints.filter(({ name }) => name === 'best').at(-1)!;
    expect(best.state.step).toBeLessThan(result.steps);
    expect(flatten(result.adapter)).toEqual(flatten(best.adapter));
    expect(result.evalLoss).toBe(evaluations[best.state.step - 1].eval_loss);
  });

  it('checkpoints every save-steps, and at an interrupt', async () => {
    const opened = await openGolden(gpu, 'llama', 'f32');
    const run = await train(opened, { train: rows }, { epochs: 2, saveSteps: 2 }, { interruptAt: 5 });
    expect(run.result).toMatchObject({ outcome: 'interrupted', steps: 5 });
    expect(run.checkpoints.map(({ name }) => name)).toEqual(['step-000002', 'step-000004', 'step-000005']);
    expect(run.checkpoints[2].state).toMatchObject({ step: 5, updates: 5, epoch: 5 / 3, seed: 42 });
    expect(flatten(run.checkpoints[2].adapter)).toEqual(flatten(run.result.adapter));
  });

  it('checkpoints under one name where the last is --save-minutes old', async () => {
    const opened = await openGolden(gpu, 'llama', 'f32');
    const run = await train(opened, { train: rows }, { maxSteps: 4, saveSteps: 3, saveMinutes: 1e-9 });
    expect(run.checkpoints.map(({ name, state }) => [name, state.step])).toEqual([
      ['latest', 1],
      ['latest', 2],
      ['step-000003', 3],
      ['step-000004', 4],
    ]);
  });
});

describe('a gradient that overflows f16', () => {
  const step = (opened: GoldenModel, scale: number, maxSteps = 1) =>
    train(opened, { train: rows }, { maxSteps }, { lossScale: { scale, goodSteps: 0 } });

  it('is tried again at half the scale; only then is the step skipped, and counted', async () => {
    const golden = await openGolden(gpu, 'llama', 'f16');
    // The same adapter with a large B: what flows back through it passes 65,504 at high loss scales.
    const tensors = [...golden.adapter.tensors].map(
      ([path, { A, B }]) => [path, { A: A.map((x) => x / 10), B: B.map((x) => x * 10) }] as const,
    );
    const opened = { ...golden, adapter: { ...golden.adapter, tensors: new Map(tensors) } };
    const skipping = await step(opened, 2 ** 15, 6);
    expect(skipping.steps[0].skipped).toBe(true);
    const skipped = skipping.steps.filter((s) => s.skipped).length;
    expect(skipping.steps.map((s) => s.skipped)).toEqual([...Array(6).keys()].map((i) => i < skipped));
    expect(skipping.result.skippedSteps).toBe(skipped);
    expect(skipping.result.trainLoss).toBeGreaterThan(0);
    const one = await step(opened, 2 ** 15);
    expect(flatten(one.result.adapter)).toEqual(flatten(opened.adapter));
    expect(one.result.trainLoss).toBeNaN();

    // The largest scale whose step is not skipped had one failure: a retry makes the step that half of it makes.
    let scale = 2 ** 14;
    let retried = await step(opened, scale);
    while (retried.steps[0].skipped && scale > 2) {
      scale /= 2;
      retried = await step(opened, scale);
    }
    const straight = await step(opened, scale / 2);
    expect(retried.steps[0].skipped).toBe(false);
    expect(retried.steps[0].loss_scale).toBe(straight.steps[0].loss_scale);
    expect(retried.steps[0].grad_norm).toBe(straight.steps[0].grad_norm);
    expect(flatten(retried.result.adapter)).toEqual(flatten(straight.result.adapter));
  });
});

describe('a loss that is not finite', () => {
  it('skips its step at once, leaves the loss scale, and after twenty in a row ends the run with a checkpoint', async () => {
    const golden = await openGolden(gpu, 'llama', 'f16');
    const tensors = [...golden.adapter.tensors].map(([path, { A, B }]) => [path, { A, B: B.map(() => 1e30) }] as const);
    const opened = { ...golden, adapter: { ...golden.adapter, tensors: new Map(tensors) } };
    const few = await train(opened, { train: rows }, { maxSteps: 3, saveSteps: 3 });
    expect(few.steps.map(({ skipped }) => skipped)).toEqual([true, true, true]);
    expect(few.checkpoints[0].state.lossScale.scale).toBe(1024);
    const names: string[] = [];
    const ended = train(opened, { train: rows }, { maxSteps: 30 }, { onCheckpoint: (name) => names.push(name) });
    await expect(ended).rejects.toThrow(/The last 20 steps were skipped, because the loss is not finite/);
    expect(names).toEqual(['step-000020']);
  });
});

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { neededLength } from '../../src/batch/order.js';
import { randomExamples } from '../batch/random-tries.js';
import { openTestGpu, type TestGpu, tiers } from '../gpu.js';
import { flatten, openGolden, type Run, train } from './helpers.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

const supervised = (seed: number, count: number) =>
  randomExamples(seed, { count: 14, length: 12, vocab: 6 })
    .filter((row) => neededLength(row) > 0)
    .slice(0, count);
const rows = supervised(6, 10);
const valid = supervised(7, 6);

/** Metrics of a run's steps and evaluations after a step, without what a clock says. */
const linesAfter = (run: Run, step: number) =>
  [...run.steps, ...run.evaluations]
    .filter((line) => line.step > step)
    .map((line) => Object.fromEntries(Object.entries(line).filter(([key]) => !key.includes('second'))));

/** Interrupts when the evaluation of a step has ended. */
const afterEvaluation = (step: number) => ({
  interrupted: ({ evaluations }: Pick<Run, 'evaluations'>) => evaluations.at(-1)?.step === step,
});

/** Interrupts before the micro-batch of that number of a step's evaluation; counts how often it was asked there. */
const withinEvaluation = (step: number, microBatches: number) => {
  const asked = {
    times: 0,
    interrupted: ({ steps }: Pick<Run, 'steps'>) => steps.length === step && ++asked.times === microBatches,
  };
  return asked;
};

describe.each(tiers)('a run stopped and resumed, %s', (tier) => {
  it('ends bit for bit as one that was not', async () => {
    const opened = await openGolden(gpu, 'llama', tier, 0.1);
    // 3 steps an epoch: step 4 stands within the second. Warm-up, cosine, LoRA+ and decay all depend on the step.
    const options = { epochs: 3, microBatchTokens: 30, evalSteps: 2, weightDecay: 0.1, loraPlusRatio: 4 } as const;
    const schedule = { schedulerType: 'cosine', warmupRatio: 0.2, learningRate: 0.02 } as const;
    const whole = await train(opened, { train: rows, valid }, { ...options, ...schedule });
    const first = await train(opened, { train: rows, valid }, { ...options, ...schedule }, afterEvaluation(4));
    expect(first.result.outcome).toBe('interrupted');
    const from = first.checkpoints.at(-1)!;
    const other = await openGolden(gpu, 'llama', tier, 0.1);
    const second = await train(other, { train: rows, valid }, { ...options, ...schedule }, { from });
    expect(second.steps[0].step).toBe(5);
    expect(linesAfter(second, 0)).toEqual(linesAfter(whole, 4));
    expect(flatten(second.result.adapter)).toEqual(flatten(whole.result.adapter));
    expect(second.result).toEqual({ ...whole.result, adapter: second.result.adapter });
    // A restart from the adapter alone would not.
    const restart = await train(
      { ...other, adapter: from.adapter },
      { train: rows, valid },
      { ...options, ...schedule },
    );
    expect(flatten(restart.result.adapter)).not.toEqual(flatten(whole.result.adapter));
  });

  it('within an evaluation makes it anew, and ends bit for bit as one that was not', async () => {
    const opened = await openGolden(gpu, 'llama', tier, 0.1);
    const options = { epochs: 2, microBatchTokens: 30, evalSteps: 2, saveSteps: 4, learningRate: 0.02 } as const;
    const data = { train: rows, valid };
    const whole = await train(opened, data, options);
    expect(whole.evaluations.map(({ step }) => step)).toEqual([2, 4, 6]);
    // In the middle, and at the end, behind which no step is left.
    for (const step of [4, 6]) {
      const stop = withinEvaluation(step, 2);
      const first = await train(opened, data, options, stop);
      expect(stop.times).toBe(2); // nothing was asked after that
      expect(first.result).toMatchObject({ outcome: 'interrupted', steps: step });
      const isAfter = (line: Record<string, unknown>) =>
        Number(line.step) > step || (line.step === step && 'eval_loss' in line);
      expect(linesAfter(first, 0)).toEqual(linesAfter(whole, 0).filter((line) => !isAfter(line)));
      const from = first.checkpoints.at(-1)!;
      const before = first.evaluations.filter(({ best }) => best).at(-1)!;
      expect(from).toMatchObject({
        name: `step-00000${step}`,
        state: { step, evaluationDue: true, best: { step: before.step, loss: before.eval_loss } },
      });
      const second = await train(await openGolden(gpu, 'llama', tier, 0.1), data, options, { from });
      expect(linesAfter(second, 0)).toEqual(linesAfter(whole, 0).filter(isAfter));
      expect(second.result).toEqual({ ...whole.result, adapter: second.result.adapter });
      expect(flatten(second.result.adapter)).toEqual(flatten(whole.result.adapter));
      // The checkpoint of that step, too, is as the whole run's.
      const saved = (run: Run) =>
        run.checkpoints.find(({ name, state }) => name === 'step-000004' && !state.evaluationDue)?.state;
      if (step === 4) expect(saved(second)).toEqual(saved(whole));
    }
  });
});

describe('a resumed run', () => {
  it('counts worse evaluations on, and ends early with the best adapter of before', async () => {
    const opened = await openGolden(gpu, 'llama', 'f32');
    const options = { epochs: 20, evalSteps: 1, learningRate: 0.5, earlyStoppingPatience: 3, batchSize: 10 };
    const whole = await train(opened, { train: rows, valid }, options);
    expect(whole.result.outcome).toBe('stopped early');
    const last = whole.result.steps;
    const first = await train(opened, { train: rows, valid }, options, afterEvaluation(last - 2));
    const from = first.checkpoints.at(-1)!;
    expect(from.state).toMatchObject({ step: last - 2, worse: 1, best: { step: last - 3 } });
    const second = await train(opened, { train: rows, valid }, options, { from });
    expect(second.result).toEqual({ ...whole.result, adapter: second.result.adapter });
    expect(flatten(second.result.adapter)).toEqual(flatten(whole.result.adapter));
  });

  it('whose last evaluation was broken off makes no step more where that one ends it early', async () => {
    const opened = await openGolden(gpu, 'llama', 'f32');
    const options = { epochs: 20, evalSteps: 1, learningRate: 0.5, earlyStoppingPatience: 3, batchSize: 10 };
    const whole = await train(opened, { train: rows, valid }, options);
    const last = whole.result.steps;
    const first = await train(opened, { train: rows, valid }, options, { interruptAt: last });
    const from = first.checkpoints.at(-1)!;
    expect(from.state).toMatchObject({ step: last, worse: 2, best: { step: last - 3 }, evaluationDue: true });
    const second = await train(opened, { train: rows, valid }, options, { from });
    expect(second.steps).toEqual([]);
    expect(second.evaluations).toHaveLength(1);
    expect(second.result).toEqual({ ...whole.result, adapter: second.result.adapter });
    expect(flatten(second.result.adapter)).toEqual(flatten(whole.result.adapter));
  });

  it('keeps the loss scale it had found', async () => {
    const opened = await openGolden(gpu, 'llama', 'f16');
    const options = { epochs: 2, microBatchTokens: 30 };
    const lossScale = { scale: 512, goodSteps: 498 };
    const whole = await train(opened, { train: rows }, options, { lossScale });
    const first = await train(opened, { train: rows }, options, { lossScale, interruptAt: 3 });
    const from = first.checkpoints.at(-1)!;
    expect(from.state.lossScale).toEqual({ scale: 1024, goodSteps: 1 });
    const second = await train(opened, { train: rows }, options, { from });
    expect(second.steps.map((s) => s.loss_scale)).toEqual(whole.steps.slice(3).map((s) => s.loss_scale));
    expect(flatten(second.result.adapter)).toEqual(flatten(whole.result.adapter));
  });
});

import { afterAll, beforeAll, expect, it } from 'vitest';
import { randomPrompts } from '../../bench/ppo.js';
import { llamaConfig, randomCheckpoint } from '../../bench/random-checkpoint.js';
import { benchPpoSteps } from '../../src/cli/bench-ppo.js';
import { type OpenDevice, openDevice } from '../../src/cli/session.js';
import { LanguageModel } from '../../src/model/language-model.js';
import { needsTier } from '../skip.js';

let open: OpenDevice;
beforeAll(async () => {
  open = await openDevice({ device: 'auto', tier: 'auto' });
});
afterAll(() => open.close());

const shape = { hidden: 64, layers: 2, heads: 2, kvHeads: 1, ffn: 128, vocab: 96 };
const layers = 2 * (64 * 64 + 2 * 32 * 64 + 64 * 64 + 3 * 64 * 128);
const head = 64 * 96;

it('makes prompts that share as many tokens as asked for, and no more', () => {
  for (const shared of [0, 3]) {
    const prompts = randomPrompts(4, 6, 96, shared);
    expect(new Set(prompts.map((ids) => ids.slice(0, shared).join())).size).toBe(1);
    expect(new Set(prompts.map((ids) => ids[shared])).size).toBe(4);
    expect(prompts.every(({ length }) => length === 6)).toBe(true);
  }
});

it.each([
  { shared: 0, size: '3 x 5+4', tokens: 27 },
  { shared: 3, size: '3 x 5+4, 3 shared', tokens: 21 },
])('tells what rollout, scoring and update take of a PPO step, and how much work each is: $size', async (run) => {
  needsTier(open.device, 'f16');
  const checkpoint = randomCheckpoint(llamaConfig(shape));
  const model = await LanguageModel.load(open.device, open.kernels, checkpoint, { tier: 'f16', maxPositions: 9 });
  const { rows, shares } = await benchPpoSteps(open, {
    ...{ quantize: 'none', model, batch: 3, length: 5, shared: run.shared, newTokens: 4, steps: 2 },
  });
  expect(rows.map(({ operation, shape }) => [operation, shape])).toEqual([
    ['ppo rollout', run.size],
    ['ppo scoring', run.size],
    ['ppo update', run.size],
  ]);
  const work = rows.map(({ gflops, median_ms }) => gflops * median_ms * 1e6);
  const policy = 2 * (layers * run.tokens + head * 12);
  const critic = 2 * layers * run.tokens;
  expect(work[0]).toBeCloseTo(policy, -1);
  expect(work[1]).toBeCloseTo(policy + critic, -1);
  expect(work[2]).toBeCloseTo(2 * 4 * (policy + critic), -1); // forward and backward, four passes
  for (const { tokens_per_second, median_ms } of rows) expect((tokens_per_second! * median_ms) / 1000).toBeCloseTo(12);
  const [share] = Object.values(shares);
  const percents = [...share.matchAll(/(\d+) %/g)].map(([, percent]) => Number(percent));
  expect(percents).toHaveLength(3);
  expect(Math.abs(percents[0] + percents[1] + percents[2] - 100)).toBeLessThanOrEqual(2);
  expect(percents[2]).toBeGreaterThan(percents[1]); // eight passes over the tokens against two
});

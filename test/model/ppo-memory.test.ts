import { expect, it } from 'vitest';
import { planRun } from '../../src/cli/memory.js';
import { planModel } from '../../src/cli/plan-model.js';
import { typicalTarget } from '../../src/cli/plan-target.js';
import { planPpo } from '../../src/model/ppo-memory.js';
import { planRollout } from '../../src/model/rollout-memory.js';

/** 64 questions of 200 tokens that share an instruction of 150, answered with up to 256. */
const rollout = {
  batchSize: 64,
  maxNewTokens: 256,
  maxPromptTokens: 200,
  promptPlaces: 150 + 64 * 50,
  promptTokens: 512,
  sampling: { temperature: 0.7, topP: 1, topK: 0, presencePenalty: 0, unpenalised: new Set<number>() },
};
const adapters = [
  { name: 'r 64 on q and v, as in the study', r: 64, targetModules: ['q_proj', 'v_proj'] },
  {
    name: 'r 16 on all linear layers',
    r: 16,
    targetModules: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
  },
];

it.each(adapters)(
  'PPO takes at most 4 GB more than SFT of Llama-3.1-8B in NF4: $name',
  async ({ r, targetModules }) => {
    const target = typicalTarget('auto');
    const { config, packed } = await planModel('llama-3.1-8b', 'nf4');
    const adapter = { r, alpha: 2 * r, dropout: 0, useRslora: false, targetModules };
    const asked = 2048;
    const data = { longest: 456, fill: 32 * 456 };
    const request = { config, packed, adapter, maxLength: 456, asked, checkpointing: 'on', data } as const;
    const { bytes } = planRun(target, request, null);
    const { device, kernels, tier } = target;
    const planned = planRollout(device, kernels, config, tier, { ...rollout, adapter, packed });
    const ppo = planPpo(config, tier, { policy: adapter, reference: adapter, rollout: planned }, bytes);
    // Keys and values of 8 layers' groups of 128 in 16 bits, all layers, all places.
    expect(ppo.cache).toBe(config.layers * 2 * (64 * 256 + rollout.promptPlaces) * 8 * 128 * 2);
    expect(ppo.total).toBeLessThan(4e9);
  },
);

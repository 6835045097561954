import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadMiniNorms } from '../../datasets/mini-norms.js';
import { rankingRows } from '../../datasets/ranking-rows.js';
import { readConfigFile } from '../../src/cli/config-file.js';
import { ppoTable } from '../../src/cli/ppo-arguments.js';
import { sftTable } from '../../src/cli/sft.js';
import { LEXI_BASE_RANKING_PROMPTS } from '../../src/text/prompts.js';
import { writeRandomCheckpoint } from '../random-checkpoint.js';
import { idRows, lexalign, makeWorkplace, metricsOf, writeRows } from './sft-helpers.js';

const { directory, remove } = makeWorkplace();
const at = (name: string) => join(directory, name);
const json = (file: string) => JSON.parse(readFileSync(at(file), 'utf8'));
/** Writes a recipe; gives the command line that runs it. */
function recipe(changed: { sft?: object; ppo?: object } = {}): string[] {
  const sft = { data: at('train.jsonl'), max_steps: 2, warmup_ratio: 0, lora_r: 4, lora_target_modules: ['q_proj'] };
  const ppo = { data: at('rank.jsonl'), total_episodes: 4, batch_size: 4, response_length: 3, reward: 'rank' };
  const sections = { sft: { ...sft, ...changed.sft }, ppo: { ...ppo, ...changed.ppo } };
  writeFileSync(at('recipe.yaml'), JSON.stringify({ data: { source: 'x' }, model: at('model'), seed: 9, ...sections }));
  return ['align', '--config', at('recipe.yaml'), '--output', at('out')];
}

beforeAll(async () => {
  const shape = { hidden: 32, layers: 1, heads: 2, kvHeads: 1, intermediate: 64, vocab: 8192 };
  await writeRandomCheckpoint(at('model'), shape);
  for (const name of ['tokenizer.json', 'tokenizer_config.json'])
    copyFileSync(join(import.meta.dirname, '../../models/lexi-base', name), join(at('model'), name));
  const norms = loadMiniNorms('en');
  const options = { prompt: LEXI_BASE_RANKING_PROMPTS.en, k: 4, questions: 1, seed: 1 };
  writeRows(at('rank.jsonl'), rankingRows({ ...norms, cues: norms.cues.slice(0, 4) }, options).rows);
  writeRows(at('train.jsonl'), idRows(6));
});
afterAll(remove);

describe('lexalign align', () => {
  it('refuses what a later stage would refuse before the first begins', async () => {
    const refuse = async (code: 1 | 2, sentence: RegExp, argv: readonly string[]) => {
      const { stderr, stdout, code: exit } = await lexalign(...argv);
      expect(stderr).toMatch(sentence);
      expect(exit).toBe(code);
      expect(stdout).not.toContain('Device:');
      expect(existsSync(at('out'))).toBe(false);
    };
    await refuse(2, /recipe\.yaml: nonsense is no option of ppo/, recipe({ ppo: { nonsense: 1 } }));
    await refuse(2, /--reward best is none of/, recipe({ ppo: { reward: 'best' } }));
    await refuse(2, /ppo\.init-adapter is settled by align/, recipe({ ppo: { init_adapter: 'x' } }));
    await refuse(2, /--learning-rate must be one number/, recipe({ sft: { learning_rate: 'fast' } }));
    await refuse(1, /pass the model's 512 positions/, recipe({ ppo: { response_length: 510 } }));
    await refuse(1, /nowhere does not exist/, recipe({ ppo: { data: at('nowhere') } }));
  });

  it('has a recipe of the study’s settings whose keys are options', () => {
    const file = join(import.meta.dirname, '../../recipes/align.yaml');
    const sft = readConfigFile(file, 'sft', new Set(Object.keys(sftTable)));
    const ppo = readConfigFile(file, 'ppo', new Set(Object.keys(ppoTable)));
    expect(sft).toMatchObject({ 'lora-r': 64, 'batch-size': 144, seed: 42 });
    expect(ppo).toMatchObject({ reward: 'strict-rank', 'num-mini-batches': 2, seed: 42 });
  });

  it('trains an adapter, and goes on with it by PPO on the same base', async () => {
    const { code, stdout, stderr } = await lexalign(...recipe(), '--json', at('result.json'));
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/── SFT[\s\S]*Training: 2 steps[\s\S]*── PPO[\s\S]*PPO: 1 rollouts of 4 answers/);
    expect(readdirSync(at('out')).sort()).toEqual(['ppo', 'sft']);
    expect(json('out/sft/run.json')).toMatchObject({ command: 'sft', options: { seed: 9, lora_r: 4, max_steps: 2 } });
    expect(json('out/ppo/run.json')).toMatchObject({
      command: 'ppo',
      options: { seed: 9, init_adapter: at('out/sft') },
    });
    expect(json('out/ppo/adapter_config.json')).toMatchObject({ r: 4, target_modules: ['q_proj'] });
    // The reference is the adapter of the first stage.
    expect(Math.abs(metricsOf(at('out/ppo'))[0]['objective/kl'])).toBeLessThan(5e-3);
    expect(json('result.json')).toMatchObject({ sft: { steps: 2 }, ppo: { steps: 1, episodes: 4 } });
  });
});

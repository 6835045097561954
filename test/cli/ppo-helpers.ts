import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { loadMiniNorms } from '../../datasets/mini-norms.js';
import { rankingRows } from '../../datasets/ranking-rows.js';
import { LEXI_BASE_RANKING_PROMPTS } from '../../src/text/prompts.js';
import { writeRandomCheckpoint } from '../random-checkpoint.js';
import { idRows, lexalign, writeRows } from './sft-helpers.js';

/** Where a file of the test lies. */
type Place = (name: string) => string;

/** A reward that a random model can earn: answers with few letters. */
const reward = `export default ({ answer, ranking, language, cue, messages }) => {
  if (ranking.length !== 4 || language !== 'en' || !messages.at(-1).content.includes(cue)) throw new Error('wrong sample');
  if (globalThis.failRewards) throw new Error('no idea');
  return { score: -answer.length / 10, parsed: answer.length % 2 === 0 };
};`;

/** Of small rollouts from which something is learnt. */
export const ppoSettings = [
  ...['--batch-size', '6', '--num-generations', '2', '--num-ppo-epochs', '2', '--response-length', '4'],
  ...['--learning-rate', '0.01', '--critic-learning-rate', '0.01', '--temperature', '1', '--seed', '5'],
];

/** The command line of a run over what `preparePpo` makes. */
export function ppoCommand(at: Place, run: string): string[] {
  const paths = ['--model', at('model'), '--data', at('rank.jsonl'), '--init-adapter', at('sft'), '--output', at(run)];
  return ['ppo', ...paths, '--reward', at('reward.mjs'), ...ppoSettings];
}

/** Makes two models of random weights, nine questions, a reward, and an adapter of q_proj and v_proj over the first model. */
export async function preparePpo(at: Place): Promise<void> {
  const shape = { hidden: 32, layers: 1, heads: 2, kvHeads: 1, intermediate: 64, vocab: 8192 };
  await writeRandomCheckpoint(at('model'), shape);
  // With rows that NF4 takes.
  await writeRandomCheckpoint(at('wide'), { ...shape, hidden: 64, intermediate: 128 });
  for (const model of ['model', 'wide'])
    for (const name of ['tokenizer.json', 'tokenizer_config.json'])
      copyFileSync(join(import.meta.dirname, '../../models/lexi-base', name), join(at(model), name));
  const norms = loadMiniNorms('en');
  const options = { prompt: LEXI_BASE_RANKING_PROMPTS.en, k: 4, questions: 1, seed: 1 };
  writeRows(at('rank.jsonl'), rankingRows({ ...norms, cues: norms.cues.slice(0, 9) }, options).rows);
  writeRows(at('train.jsonl'), idRows(6));
  writeFileSync(at('reward.mjs'), reward);
  const sft = ['sft', '--model', at('model'), '--data', at('train.jsonl'), '--output', at('sft'), '--max-steps', '2'];
  const made = await lexalign(...sft, '--lora-r', '4', '--lora-target-modules', 'q_proj,v_proj', '--warmup-ratio', '0');
  expect(made.code, made.stderr).toBe(0);
}

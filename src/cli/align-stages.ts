import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Overlong } from '../batch/examples.js';
import { hasFile } from '../formats/files.js';
import { dataPaths, type StudyCulture } from './align-data.js';
import { adapterPath, type Training } from './align-measures.js';
import { changeable, type Recipe } from './align-recipe.js';
import { findData, loadData } from './load-data.js';
import { runPpo } from './ppo.js';
import { checkAnswerRoom } from './ppo-memory.js';
import { checkReward, loadRankingData } from './ranking-data.js';
import { readRun } from './run-directory.js';
import type { OpenModel } from './session.js';
import { type LoadedBase, runSft } from './sft.js';

/** Refuses what any stage of a culture would refuse of its rows; gives the longest sequence of them all. */
export async function checkTraining(culture: StudyCulture, recipe: Recipe, model: OpenModel): Promise<number> {
  const paths = dataPaths(recipe.args.output, culture);
  const { maxLength: asked, overlong } = recipe.sft({});
  const maxLength = Math.min(asked, model.config.maxPositions);
  let positions = maxLength;
  for (const directory of [paths.lists, paths.sft]) {
    if (!(await hasFile(directory, 'train.jsonl'))) continue;
    const { train, valid } = await findData(directory, undefined);
    for (const file of [train, valid])
      if (file) await loadData(file, model, { maxLength, overlong: overlong as Overlong });
  }
  if (await hasFile(paths.ranking, 'train.jsonl')) {
    const data = await loadRankingData(join(paths.ranking, 'train.jsonl'), model);
    checkReward(recipe.ppo({}).reward, data);
    const prompts = data.questions.map(({ ids }) => ids);
    positions = Math.max(positions, checkAnswerRoom(prompts, recipe.ppo({}), model.config));
  }
  return positions;
}

/** What a resumed run takes from here rather than from its run.json. */
function givenAnew({ args, identity }: Recipe, section: 'sft' | 'ppo'): ReadonlySet<string> {
  const said = changeable.filter((name) => name in (identity[section] as object));
  const limit = args.memoryLimit === undefined ? [] : ['memory-limit'];
  return new Set(['data', 'output', 'model', ...said, ...limit]);
}

/**
 * Trains one stage of a culture with one seed on the loaded base: skips it where its adapter is complete, goes on from a checkpoint where
 * there is one, and starts again where there is none. False where it was interrupted.
 */
export async function trainStage(
  { stage, seed }: Training,
  culture: StudyCulture,
  recipe: Recipe,
  base: LoadedBase,
): Promise<boolean> {
  const output = adapterPath(recipe, culture, { stage, seed });
  const title = `\n── ${culture.name}: ${stage}${recipe.seeds.length > 1 ? `, seed ${seed}` : ''}`;
  if (await isComplete(output)) {
    console.log(`${title}: complete, in ${output}`);
    return true;
  }
  const resume = await hasCheckpoint(output);
  if (!resume) await rm(output, { recursive: true, force: true });
  console.log(`${title}${resume ? ', from its newest checkpoint' : ''}`);
  const data = dataPaths(recipe.args.output, culture);
  const common = { output, ...(recipe.seeds.length > 1 ? { seed } : {}), ...(resume ? { resume: true } : {}) };
  if (stage === 'sft' || stage === 'sft-lists') {
    const args = recipe.sft({ ...common, data: stage === 'sft' ? data.sft : data.lists });
    const result = await runSft(args, resume ? givenAnew(recipe, 'sft') : new Set(), base);
    return result.outcome !== 'interrupted';
  }
  const start = stage === 'sft-ppo' ? { 'init-adapter': adapterPath(recipe, culture, { stage: 'sft', seed }) } : {};
  const result = await runPpo(
    recipe.ppo({ ...common, ...start, data: data.ranking }),
    resume ? givenAnew(recipe, 'ppo') : new Set(),
    base,
  );
  return result.outcome !== 'interrupted';
}

/** Whether a stage left its adapter and was not interrupted. */
async function isComplete(output: string): Promise<boolean> {
  if (!(await hasFile(output, 'adapter_model.safetensors')) || !(await hasFile(output, 'run.json'))) return false;
  const { finished, result } = await readRun(output);
  return finished !== undefined && (result as { outcome?: unknown } | undefined)?.outcome !== 'interrupted';
}

async function hasCheckpoint(output: string): Promise<boolean> {
  const names = await readdir(join(output, 'checkpoints')).catch(() => []);
  return names.some((name) => !/^\..*\.new$/.test(name));
}

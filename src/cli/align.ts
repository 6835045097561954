import { join } from 'node:path';
import yargs, { type ArgumentsCamelCase, type InferredOptionTypes, type Options } from 'yargs';
import type { Overlong } from '../batch/examples.js';
import { UsageError } from '../errors.js';
import { checkTypes } from './check-types.js';
import { readConfigFile } from './config-file.js';
import { findData, loadData } from './load-data.js';
import { loadReward } from './load-reward.js';
import type { Command } from './main.js';
import { configOption, modelOptions, sftOptions } from './options.js';
import { checkJson, jsonOption, writeJson } from './output-file.js';
import { checkAnswerRoom, runPpo } from './ppo.js';
import { checkPpoArguments, type PpoArguments, ppoTable, requirePpoArguments } from './ppo-arguments.js';
import { loadRankingData } from './ranking-data.js';
import { checkOutput } from './run-directory.js';
import { recordBase } from './run-record.js';
import { loadModel, type OpenModel, openDevice, openModel } from './session.js';
import { checkArguments, requireArguments, runSft, type SftArguments, sftTable } from './sft.js';

const options = {
  ...modelOptions,
  output: { type: 'string', demandOption: true, describe: 'Directory for sft/ and ppo/; must be new or empty' },
  seed: sftOptions.seed,
  ...jsonOption,
  config: { ...configOption.config, demandOption: true, describe: 'Recipe: a YAML file with sections sft and ppo' },
} as const satisfies Record<string, Options>;
type Arguments = ArgumentsCamelCase<InferredOptionTypes<typeof options>>;

export const alignCommand: Command = {
  command: 'align',
  describe: 'Run a recipe: SFT, then PPO from its adapter, on one loaded base',
  options,
  computes: true,
  run: (args, given) => runAlign(args as Arguments, given),
};

/** What the command line and the top of a recipe say for every stage. */
const common = [...Object.keys(modelOptions), 'seed'];

async function runAlign(args: Arguments, given: ReadonlySet<string>): Promise<number> {
  await checkJson(args.json, args.output);
  await checkOutput(args.output);
  const shared = Object.fromEntries(
    common.filter((name) => given.has(name)).map((name) => [name, (args as Record<string, unknown>)[name]]),
  );
  const places = { sft: join(args.output, 'sft'), ppo: join(args.output, 'ppo') };
  const sft = stage<SftArguments>(args.config, 'sft', sftTable, { ...shared, output: places.sft });
  const start = { output: places.ppo, 'init-adapter': places.sft };
  const ppo = stage<PpoArguments>(args.config, 'ppo', ppoTable, { ...shared, ...start });
  const model = await openModel(args);
  const maxPositions = await checkStages(sft.args, ppo.args, model);
  const open = await openDevice(args);
  try {
    await recordBase(model); // while its files are open: both runs record what base it was
    const base = { model, open, loaded: await loadModel(open, model, maxPositions) };
    console.log('\n── SFT');
    const tuned = await runSft(sft.args, sft.given, base);
    if (tuned.result.outcome === 'interrupted') {
      console.error(
        `Go on with lexalign sft --resume --output ${places.sft}, then lexalign ppo --config ${args.config} --init-adapter ${places.sft} --output ${places.ppo}.`,
      );
      return 130;
    }
    console.log('\n── PPO');
    const { adapter: _, ...aligned } = await runPpo(ppo.args, ppo.given, base);
    const { adapter: __, ...supervised } = tuned.result;
    await writeJson(args.json, { sft: supervised, ppo: aligned });
    if (aligned.outcome === 'finished') return 0;
    console.error(`Go on with lexalign ppo --resume --output ${places.ppo}.`);
    return 130;
  } finally {
    await open.close();
    await model.checkpoint.close();
  }
}

/** The arguments of a stage: its section and the top of the recipe, and what goes before them. */
function stage<StageArguments>(
  file: string,
  name: 'sft' | 'ppo',
  table: Readonly<Record<string, Options>>,
  first: Readonly<Record<string, unknown>>,
): { args: StageArguments; given: ReadonlySet<string> } {
  const read = readConfigFile(file, name, new Set(Object.keys(table)));
  for (const key of ['output', 'resume', ...(name === 'ppo' ? ['init-adapter'] : [])])
    if (key in read) throw new UsageError(`--config ${file}: ${name}.${key} is settled by align: leave it out.`);
  const values = { ...read, ...first };
  checkTypes(values, table);
  const args = yargs([]).config(values).options(table).exitProcess(false).parseSync() as unknown as StageArguments;
  return { args, given: new Set(Object.keys(read)) };
}

/** Refuses, before the device, what either stage would refuse; gives the longest sequence of both. */
async function checkStages(sft: SftArguments, ppo: PpoArguments, model: OpenModel): Promise<number> {
  const first = requireArguments(sft);
  checkArguments(first);
  const second = requirePpoArguments(ppo);
  checkPpoArguments(second, new Set());
  await loadReward(second.reward);
  const maxLength = Math.min(first.maxLength, model.config.maxPositions);
  const files = await findData(first.data, first.evalData);
  for (const file of [files.train, files.valid])
    if (file) await loadData(file, model, { maxLength, overlong: first.overlong as Overlong });
  const questions = await loadRankingData((await findData(second.data, undefined)).train, model);
  return Math.max(maxLength, checkAnswerRoom(questions, second.responseLength, model));
}

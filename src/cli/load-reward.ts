import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { InputError, UsageError } from '../errors.js';
import { moduleReward, namedReward, type Reward, rewardNames } from '../evaluate/rewards.js';

/** Whether `--reward` names one of ours, and no module. */
export function isNamedReward(name: string): boolean {
  return rewardNames.some((one) => one === name);
}

/** The reward of `--reward`: one by name, or the default export of the user's own ES module, which is run. */
export async function loadReward(name: string, settings: { coverageK: number }): Promise<Reward> {
  const known = rewardNames.find((one) => one === name);
  if (known) return namedReward(known, settings);
  if (!(await stat(name).catch(() => null))?.isFile()) {
    if (/[/\\.]/.test(name)) throw new InputError(`--reward ${name} is not a file.`);
    throw new UsageError(`--reward ${name} is none of ${rewardNames.join(', ')}, nor a module's file.`);
  }
  let module: { default?: unknown };
  try {
    module = await import(pathToFileURL(resolve(name)).href);
  } catch (error) {
    throw new InputError(`--reward ${name} cannot be loaded: ${(error as Error).message}`);
  }
  const { default: call } = module;
  if (typeof call !== 'function')
    throw new InputError(`--reward ${name} has no function as its default export: write export default (sample) => …`);
  return moduleReward(`--reward ${name}`, call as (sample: unknown) => unknown);
}

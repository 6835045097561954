import { join } from 'node:path';
import type { ModelConfig } from '../../models/config.js';
import { readModelConfig } from '../../models/index.js';
import { InputError } from '../errors.js';
import { hasFile, readJsonInside } from '../formats/files.js';
import { cachedSnapshot, parseHubModel } from '../formats/hub-cache.js';
import { readBaseName } from '../formats/peft.js';
import { lexiBase } from '../paths.js';
import { modelDirectory } from './hub.js';

/** The base model of an adapter: where it lies, and its config.json; weights are not looked at. */
export interface AdapterBase {
  readonly directory: string;
  readonly config: ModelConfig;
  /** As adapter_config.json names it; null where it names none. */
  readonly name: string | null;
}

/**
 * The base model of an adapter directory: `model` where it is given, fetched from the hub if need be, its weights where
 * they are `wanted`; else the one that adapter_config.json names, where that is the embedded lexi-base, a directory here or
 * in the hub's cache; else null. Throws InputError where `model` is not to be had or a config.json is not read.
 */
export async function findAdapterBase(
  adapter: string,
  model: string | undefined,
  wanted: { readonly weights: boolean },
): Promise<AdapterBase | null> {
  const name = await readBaseName(adapter);
  const given = model === undefined ? null : await modelDirectory(model, wanted);
  const directory = given ?? (name === null ? null : await directoryOf(name));
  if (directory === null) return null;
  const config = readModelConfig(await readJsonInside(directory, 'config.json'));
  return { directory, config, name };
}

/** As findAdapterBase; throws InputError where it is not here. */
export async function requireAdapterBase(
  adapter: string,
  model: string | undefined,
  wanted: { readonly weights: boolean },
): Promise<AdapterBase> {
  const base = await findAdapterBase(adapter, model, wanted);
  if (base) return base;
  const name = await readBaseName(adapter);
  const said =
    name === null
      ? 'names no base model'
      : `names ${name} as its base model, which is neither a directory here nor in the hub's cache`;
  throw new InputError(`${join(adapter, 'adapter_config.json')} ${said}: give its directory or name with --model.`);
}

async function directoryOf(name: string): Promise<string | null> {
  if (name === 'lexi-base') return lexiBase;
  if (await hasFile(name, 'config.json')) return name;
  const model = parseHubModel(name);
  return model && cachedSnapshot(model);
}

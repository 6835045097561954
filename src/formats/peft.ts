// LoRA adapters as directories of PEFT: https://huggingface.co/docs/peft/developer_guides/checkpoint

import { join } from 'node:path';
import { InputError } from '../errors.js';
import {
  type Adapter,
  type AdapterConfig,
  adapterRank,
  type LoraPair,
  peftConfigJson,
  peftTensorName,
  peftTensors,
} from './adapter.js';
import type { ByteSource } from './bytes.js';
import {
  hasFile,
  type JsonFile,
  makeDirectory,
  openFile,
  readJsonInside,
  resolveInside,
  writeFileAtomic,
} from './files.js';
import { isRecord } from './keys.js';
import { type FloatDtype, readHeader, readTensor, type SafetensorsHeader, toFloat32 } from './safetensors.js';
import { writeSafetensors } from './safetensors-file.js';

export const ADAPTER_CONFIG = 'adapter_config.json';
export const ADAPTER_WEIGHTS = 'adapter_model.safetensors';

/** Keys of LoraConfig that change what an adapter computes and that lexalign does not compute, with what they mean. */
const UNSUPPORTED: Readonly<Record<string, string>> = {
  alora_invocation_tokens: 'activated LoRA, which acts from certain tokens on',
  arrow_config: 'Arrow, a router over several adapters',
  fan_in_fan_out: 'base weights stored [in, out]',
  kasa_config: 'KaSA, which scales singular values',
  layer_replication: 'decoder layers that stand more than once',
  layers_pattern: 'adapters on some decoder layers only',
  layers_to_transform: 'adapters on some decoder layers only',
  lora_bias: 'a bias on lora_B',
  megatron_config: 'parallel layers of Megatron',
  modules_to_save: 'whole modules that were trained beside LoRA',
  monteclora_config: 'MonteCLoRA, which samples its matrices',
  target_parameters: 'LoRA on parameters that are no linear layers',
  trainable_token_indices: 'token embeddings that were trained',
  use_bdlora: 'block-diagonal LoRA',
  use_dora: 'DoRA, which trains magnitudes too',
  use_qalora: 'QA-LoRA, which pools the input',
};

/** Initialisations that leave the base model as it is; pissa, olora, corda and loftq do not. */
const PLAIN_INITIALISATIONS: unknown[] = [undefined, null, true, false, 'gaussian', 'eva', 'orthogonal'];

/**
 * Reads a PEFT LoRA adapter (adapter_config.json, adapter_model.safetensors of F32, F16 or BF16) for a model whose
 * linear layers are `modules`, by module path (`linearShapes` of models/tensors.ts). Throws InputError naming file and
 * key or tensor for what is not LoRA on those layers, or on some decoder layers only.
 */
export async function readAdapter(
  dir: string,
  modules: ReadonlyMap<string, { readonly out: number; readonly in: number }>,
): Promise<Adapter> {
  const file = await readJsonInside(dir, ADAPTER_CONFIG);
  const { targets, ranks, alphas, ...settings } = parseConfig(file);
  if (!(await hasFile(dir, ADAPTER_WEIGHTS))) {
    const pickled = await hasFile(dir, 'adapter_model.bin');
    throw new InputError(
      `${dir} has no ${ADAPTER_WEIGHTS}${pickled ? '; its adapter_model.bin must be converted to safetensors first' : ''}`,
    );
  }
  const source = await openFile(await resolveInside(dir, ADAPTER_WEIGHTS), join(dir, ADAPTER_WEIGHTS));
  try {
    const header = await readHeader(source);
    const paths = targets ? matchTargets(file.path, targets, [...modules.keys()]) : storedPaths(header);
    checkNames(source, header, paths, modules);
    const config: AdapterConfig = {
      ...settings,
      targetModules: moduleNames(file.path, paths, [...modules.keys()]),
      ...resolve('rankPattern', ranks, paths, settings.r),
      ...resolve('alphaPattern', alphas, paths, settings.alpha),
    };
    const tensors = new Map<string, LoraPair>();
    for (const path of paths) {
      const shape = modules.get(path)!;
      const r = adapterRank(config, path);
      const A = await readMatrix(source, header, peftTensorName(path, 'A'), [r, shape.in]);
      const B = await readMatrix(source, header, peftTensorName(path, 'B'), [shape.out, r]);
      tensors.set(path, { A, B });
    }
    return { config, tensors };
  } finally {
    await source.close();
  }
}

interface ParsedConfig extends Omit<AdapterConfig, 'targetModules' | 'rankPattern' | 'alphaPattern'> {
  /** Entries of `target_modules`; null where the stored tensors say which modules it means. */
  readonly targets: string[] | null;
  /** `rank_pattern` and `alpha_pattern`, in the order of the file: the first that matches counts. */
  readonly ranks: Pattern[];
  readonly alphas: Pattern[];
}

function parseConfig({ path, value: json }: JsonFile): ParsedConfig {
  if (!isRecord(json)) throw new InputError(`${path} is not a JSON object`);
  refuseMlx(path, json);
  const refuse = (key: string, must: string) =>
    new InputError(`${path}: ${key} is ${JSON.stringify(json[key]) ?? 'missing'}; it must be ${must}`);
  if (json.peft_type !== 'LORA') throw refuse('peft_type', '"LORA", the only adapters read');
  if ((json.bias ?? 'none') !== 'none') throw refuse('bias', '"none": trained biases are not read');
  const [unsupported] = unsupportedKeys(json);
  if (unsupported)
    throw new InputError(`${path}: ${unsupported[0]} is set: ${unsupported[1]}; such adapters are not read`);
  if (!PLAIN_INITIALISATIONS.includes(json.init_lora_weights))
    throw refuse('init_lora_weights', 'true: other initialisations change the base model');
  const { r = 8, lora_alpha: alpha = 8, lora_dropout: dropout = 0, use_rslora: useRslora = false } = json;
  const isRank = (rank: unknown): rank is number => Number.isSafeInteger(rank) && (rank as number) > 0;
  const isAlpha = (own: unknown): own is number => typeof own === 'number' && own > 0 && Number.isFinite(own);
  if (!isRank(r)) throw refuse('r', 'a positive integer');
  if (!isAlpha(alpha)) throw refuse('lora_alpha', 'a number above 0');
  if (typeof dropout !== 'number' || !(dropout >= 0 && dropout < 1))
    throw refuse('lora_dropout', 'a number from 0 to below 1');
  if (typeof useRslora !== 'boolean') throw refuse('use_rslora', 'true or false');
  return {
    r,
    alpha,
    dropout,
    useRslora,
    // Which modules are excluded the stored tensors say, too.
    targets: isOff(json.exclude_modules) ? parseTargets(json.target_modules, refuse) : null,
    ranks: parsePattern(path, 'rank_pattern', json.rank_pattern, isRank, 'a positive integer'),
    alphas: parsePattern(path, 'alpha_pattern', json.alpha_pattern, isAlpha, 'a number above 0'),
  };
}

interface Pattern {
  readonly modules: RegExp;
  readonly value: number;
}

/** Atoms of one character, perhaps repeated, and groups of alternatives, not repeated. */
const SAFE_PATTERN = /^\^?(?:(?:[\w-]|\\[.d]|\.|\[[\w-]+\])[*+?]?|\((?:\?:)?(?:[\w|-]|\\[.d]|\.)+\))+\$?$/;
const MAX_PATTERN_LENGTH = 256;
const MAX_CHOICES = 5;

/** Module paths that PEFT's regular expression of an untrusted file means; null for one that might backtrack for long. */
function modulePattern(pattern: string): RegExp | null {
  const choices = pattern.match(/[*+?(]/g)?.length ?? 0;
  if (pattern.length > MAX_PATTERN_LENGTH || choices > MAX_CHOICES || !SAFE_PATTERN.test(pattern)) return null;
  try {
    return new RegExp(`^(?:.*\\.)?(?:${pattern})$`);
  } catch {
    return null; // a range of characters that ends before it starts
  }
}

/** Keys are regular expressions that the end of a module path must match, as in PEFT; `^` ties one to its start. */
function parsePattern(
  file: string,
  key: string,
  patterns: unknown,
  isValid: (value: unknown) => boolean,
  must: string,
): Pattern[] {
  if (isOff(patterns)) return [];
  if (typeof patterns !== 'object' || Array.isArray(patterns))
    throw new InputError(`${file}: ${key} is not an object of module names and numbers`);
  return Object.entries(patterns as object).map(([name, value]) => {
    if (!isValid(value)) throw new InputError(`${file}: ${key} gives ${name} ${JSON.stringify(value)}, not ${must}`);
    const modules = modulePattern(name);
    if (!modules)
      throw new InputError(
        `${file}: ${key} has ${JSON.stringify(name)}, a regular expression of a kind that is not run; name the modules`,
      );
    return { modules, value };
  });
}

/** `key` with the modules whose value is not `otherwise`; nothing when there are none. */
function resolve<Key extends string>(
  key: Key,
  patterns: readonly Pattern[],
  paths: readonly string[],
  otherwise: number,
): { [key in Key]?: Record<string, number> } {
  const values = paths
    .map((path) => [path, patterns.find(({ modules }) => modules.test(path))?.value ?? otherwise] as const)
    .filter(([, value]) => value !== otherwise);
  return values.length > 0 ? ({ [key]: Object.fromEntries(values) } as { [key in Key]: Record<string, number> }) : {};
}

/** The keys of adapter_config.json that ask for what is not computed here, and what they mean. */
export function unsupportedKeys(json: Readonly<Record<string, unknown>>): [string, string][] {
  return Object.entries(UNSUPPORTED).filter(([key]) => !isOff(json[key]));
}

function isOff(value: unknown): boolean {
  return !value || (typeof value === 'object' && Object.keys(value).length === 0);
}

function parseTargets(targets: unknown, refuse: (key: string, must: string) => InputError): string[] | null {
  // A string is "all-linear" or a regular expression. An untrusted one isn't run: the stored tensors say the same.
  if (targets === undefined || targets === null || typeof targets === 'string') return null;
  if (!Array.isArray(targets) || targets.length === 0 || !targets.every((target) => typeof target === 'string'))
    throw refuse('target_modules', 'a list of module names or a string');
  return targets;
}

/**
 * The module paths that are a target or end in `.target`. As in PEFT, one of them must match: names of other
 * architectures (query_key_value) may stand in a list beside the model's own. `checkNames` refuses what was trained there.
 */
function matchTargets(file: string, targets: string[], paths: string[]): string[] {
  const matched = paths.filter((path) => targets.some((target) => path === target || path.endsWith(`.${target}`)));
  if (matched.length === 0)
    throw new InputError(`${file}: target_modules has ${targets.join(', ')}, none of the model's linear layers`);
  return matched;
}

const TENSOR_NAME = /^base_model\.model\.(.+)\.lora_[AB]\.weight$/;

function storedPaths({ tensors }: SafetensorsHeader): string[] {
  const paths = [...tensors.keys()].map((name) => TENSOR_NAME.exec(name)?.[1]);
  return [...new Set(paths.filter((path) => path !== undefined))];
}

function checkNames(
  source: ByteSource,
  { tensors }: SafetensorsHeader,
  paths: readonly string[],
  modules: ReadonlyMap<string, unknown>,
): void {
  if (paths.length === 0) throw new InputError(`${source.name} holds no LoRA tensors`);
  const known = new Set(paths.filter((path) => modules.has(path)));
  for (const name of tensors.keys()) {
    const path = TENSOR_NAME.exec(name)?.[1];
    if (path === undefined || !known.has(path))
      throw new InputError(`${source.name}: tensor ${name} belongs to no linear layer of the model that it may adapt`);
  }
}

async function readMatrix(
  source: ByteSource,
  { tensors }: SafetensorsHeader,
  name: string,
  [rows, columns]: readonly [number, number],
): Promise<Float32Array> {
  const info = tensors.get(name);
  if (!info) throw new InputError(`${source.name} lacks tensor ${name}`);
  if (info.shape.length !== 2 || info.shape[0] !== rows || info.shape[1] !== columns)
    throw new InputError(
      `${source.name}: tensor ${name} has shape [${info.shape.join(', ')}], model and r call for [${rows}, ${columns}]`,
    );
  if (!['F32', 'F16', 'BF16'].includes(info.dtype))
    throw new InputError(`${source.name}: tensor ${name} has dtype ${info.dtype}; only F32, F16 and BF16 are read`);
  return toFloat32(info.dtype, await readTensor(source, info));
}

/** Last names of the adapted modules, sorted; each must be adapted in every decoder layer. */
function moduleNames(file: string, adapted: readonly string[], all: readonly string[]): string[] {
  const lastName = (path: string) => path.slice(path.lastIndexOf('.') + 1);
  const names = new Set(adapted.map(lastName));
  const set = new Set(adapted);
  const bare = all.find((path) => names.has(lastName(path)) && !set.has(path));
  if (bare) throw new InputError(`${file}: ${bare} is not adapted; adapters on some decoder layers only are not read`);
  return [...names].sort();
}

function refuseMlx(path: string, json: unknown): void {
  if (isRecord(json) && isRecord(json.lora_parameters))
    throw new InputError(
      `${path}: lora_parameters is set, so it is an adapter of mlx-lm, which lexalign writes and does not read: give the PEFT directory that it was exported from`,
    );
}

/** The base model that adapter_config.json names: a hub id or a directory; null for none. Throws InputError. */
export async function readBaseName(dir: string): Promise<string | null> {
  const { path, value } = await readJsonInside(dir, ADAPTER_CONFIG);
  refuseMlx(path, value);
  const name = (value as { base_model_name_or_path?: unknown } | null)?.base_model_name_or_path;
  return typeof name === 'string' && name !== '' ? name : null;
}

/**
 * Writes an adapter that PEFT loads, in F32 by default, each file whole or not at all, weights before configuration; makes the
 * directory. `baseModelName` is the hub id or directory of the base model.
 */
export async function writeAdapter(
  dir: string,
  adapter: Adapter,
  baseModelName: string | null,
  dtype: FloatDtype = 'F32',
): Promise<void> {
  await makeDirectory(dir);
  await writeSafetensors(join(dir, ADAPTER_WEIGHTS), peftTensors(adapter, dtype));
  await writeFileAtomic(join(dir, ADAPTER_CONFIG), peftConfigJson(adapter.config, baseModelName));
}

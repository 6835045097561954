import { join } from 'node:path';
import { hasFile, openFile, readJsonInside, resolveInside } from './files.js';
import { isRecord } from './keys.js';
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS, unsupportedKeys } from './peft.js';
import { readHeader, readTensor, type TensorInfo, toFloat32 } from './safetensors.js';

/** A pair of A and B that belong together. */
export interface InspectedModule {
  readonly r: number;
  readonly out: number;
  readonly in: number;
}

/** What an adapter directory holds, and everything that is wrong with it. */
export interface AdapterInspection {
  readonly config: Readonly<Record<string, unknown>>;
  /** By module path. */
  readonly modules: ReadonlyMap<string, InspectedModule>;
  readonly dtypes: readonly string[];
  readonly parameters: number;
  /** Sentences: what is broken, for every runtime. */
  readonly errors: readonly string[];
  /** Sentences: what PEFT computes and lexalign does not. */
  readonly foreign: readonly string[];
  /** Sentences: what looks like a mistake. */
  readonly warnings: readonly string[];
}

const MATRIX = /^base_model\.model\.(.+)\.lora_([AB])\.weight$/;

/** What other tensors of an adapter file are. */
const OTHERS: readonly (readonly [RegExp, string])[] = [
  [/lora_magnitude_vector/, 'a magnitude of DoRA'],
  [/lora_embedding_[AB]/, 'LoRA on an embedding'],
  [/\.lora_[AB]\.bias$|\.bias$/, 'a trained bias'],
  [/lora_[AB]/, 'a LoRA matrix by another name than PEFT’s'],
  [/\.weight$/, 'a whole module that was trained'],
];

/**
 * Looks at every tensor of a PEFT LoRA directory and collects what is wrong; `modules` are the linear layers of the base
 * model by module path, null where it isn't here. Throws InputError where there is nothing to look at.
 */
export async function inspectAdapter(
  dir: string,
  modules: ReadonlyMap<string, { readonly out: number; readonly in: number }> | null,
): Promise<AdapterInspection> {
  const { value } = await readJsonInside(dir, ADAPTER_CONFIG);
  const config = isRecord(value) ? value : {};
  const errors: string[] = [];
  const foreign = unsupportedKeys(config).map(([key, meaning]) => `${key} is set: ${meaning}`);
  const warnings: string[] = [];
  if (config.peft_type !== 'LORA') foreign.unshift(`peft_type is ${JSON.stringify(config.peft_type)}, not "LORA"`);
  if ((config.bias ?? 'none') !== 'none') foreign.push(`bias is ${JSON.stringify(config.bias)}: trained biases`);
  const found = new Map<string, InspectedModule>();
  if (!(await hasFile(dir, ADAPTER_WEIGHTS))) {
    errors.push(`${ADAPTER_WEIGHTS} is missing`);
    return { config, modules: found, dtypes: [], parameters: 0, errors, foreign, warnings };
  }
  const source = await openFile(await resolveInside(dir, ADAPTER_WEIGHTS), join(dir, ADAPTER_WEIGHTS));
  try {
    const { tensors } = await readHeader(source);
    const pairs = new Map<string, { A?: TensorInfo; B?: TensorInfo }>();
    for (const info of tensors.values()) {
      const [, path, matrix] = MATRIX.exec(info.name) ?? [];
      if (path) pairs.set(path, { ...pairs.get(path), [matrix]: info });
      else foreign.push(`${info.name} is ${OTHERS.find(([name]) => name.test(info.name))?.[1] ?? 'no LoRA matrix'}`);
    }
    if (pairs.size === 0 && foreign.length === 0) errors.push(`${ADAPTER_WEIGHTS} holds no LoRA matrices`);
    for (const [path, pair] of pairs) {
      const module = joinPair(path, pair, errors);
      if (!module) continue;
      found.set(path, module);
      checkFit(path, module, modules, errors);
      for (const info of [pair.A!, pair.B!]) {
        if (!['F32', 'F16', 'BF16'].includes(info.dtype)) errors.push(`${info.name} is of type ${info.dtype}`);
        else checkValues(info, toFloat32(info.dtype, await readTensor(source, info)), errors, warnings);
      }
    }
    checkRanks(config, found, errors);
    const all = [...tensors.values()];
    const parameters = [...found.values()].reduce((sum, module) => sum + module.r * (module.in + module.out), 0);
    const dtypes = [...new Set(all.map(({ dtype }) => dtype))].sort();
    return { config, modules: found, dtypes, parameters, errors, foreign, warnings };
  } finally {
    await source.close();
  }
}

/** The module of A [r, in] and B [out, r]; null where they aren't a pair. */
function joinPair(
  path: string,
  { A, B }: { A?: TensorInfo; B?: TensorInfo },
  errors: string[],
): InspectedModule | null {
  if (!A || !B) {
    errors.push(`${path} has lora_${A ? 'A' : 'B'} but no lora_${A ? 'B' : 'A'}`);
    return null;
  }
  if (A.shape.length !== 2 || B.shape.length !== 2 || A.shape[0] !== B.shape[1]) {
    errors.push(`${path}: lora_A [${A.shape.join(', ')}] and lora_B [${B.shape.join(', ')}] differ in rank`);
    return null;
  }
  return { r: A.shape[0], out: B.shape[0], in: A.shape[1] };
}

function checkFit(
  path: string,
  module: InspectedModule,
  modules: ReadonlyMap<string, { readonly out: number; readonly in: number }> | null,
  errors: string[],
): void {
  if (!modules) return;
  const shape = modules.get(path);
  if (!shape) errors.push(`${path} is no linear layer of the base model`);
  else if (shape.out !== module.out || shape.in !== module.in)
    errors.push(`${path} adapts [${module.out}, ${module.in}], the base model has [${shape.out}, ${shape.in}]`);
}

function checkValues(info: TensorInfo, values: Float32Array, errors: string[], warnings: string[]): void {
  let bad = 0;
  let zeros = 0;
  for (const value of values) {
    if (!Number.isFinite(value)) bad++;
    if (value === 0) zeros++;
  }
  if (bad > 0) errors.push(`${info.name} has ${bad} values that are infinite or not numbers`);
  if (zeros === values.length && values.length > 0) warnings.push(`${info.name} is all zero: the module adds nothing`);
}

/** Ranks against `r`, where no pattern gives others. */
function checkRanks(config: Record<string, unknown>, modules: Map<string, InspectedModule>, errors: string[]): void {
  if (Object.keys((config.rank_pattern ?? {}) as object).length > 0) return; // readAdapter resolves patterns
  const r = config.r ?? 8;
  for (const [path, module] of modules)
    if (module.r !== r) errors.push(`${path} has rank ${module.r}, r is ${JSON.stringify(r)}`);
}

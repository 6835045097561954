import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../errors.js';
import type { ByteSource } from './bytes.js';
import { hasFile, type JsonFile, openFile, readJsonInside, resolveInside } from './files.js';
import { isRecord } from './keys.js';
import { readQuantisation } from './quantised.js';
import { readHeader } from './safetensors.js';
import type { FloatsToPack, StoredMatrix } from './stored-matrix.js';
import { type CheckpointTensor, FLOAT_DTYPES, StoredTensors } from './stored-tensors.js';

const WEIGHTS = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
const MAX_INDEX_BYTES = 64_000_000;

/** What a model asks of a checkpoint; `modelLayout` of models/index.ts makes one from config.json. */
export interface CheckpointLayout<Config> {
  readonly config: Config;
  /** Every tensor the model needs; when tied, `embedding` but not `head`. */
  readonly tensors: readonly { readonly name: string; readonly shape: readonly number[] }[];
  readonly embedding: string;
  readonly head: string;
  readonly tied: boolean;
}

export interface Checkpoint<Config, Packed = StoredMatrix> {
  readonly dir: string;
  readonly config: Config;
  /** By name: all the files hold, all the model needs among them. */
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
  /** The matrices that are stored quantised, by the name of their weight. */
  readonly packed: ReadonlyMap<string, Packed>;
  close(): Promise<void>;
}

/** A checkpoint of which floats may be quantised as they are loaded. */
export type LoadableCheckpoint<Config> = Checkpoint<Config, StoredMatrix | FloatsToPack>;

/**
 * Opens a Hugging Face model directory (config.json and model.safetensors, or model.safetensors.index.json and its
 * shards) and checks that each tensor the model needs is there, of a type that is read, and has its shape; reads
 * headers, and of quantised weights what says how they are packed. Throws InputError naming file and tensor or key.
 * `layoutOf` gets config.json and generation_config.json (null when there is none).
 */
export async function openCheckpoint<Config>(
  dir: string,
  layoutOf: (config: JsonFile, generation: JsonFile | null) => CheckpointLayout<Config>,
): Promise<Checkpoint<Config>> {
  await checkDirectory(dir);
  const config = await readJsonInside(dir, 'config.json');
  const generation = (await hasFile(dir, 'generation_config.json'))
    ? await readJsonInside(dir, 'generation_config.json')
    : null;
  const layout = layoutOf(config, generation);
  const quantisation = await readQuantisation(dir, config);
  const sources: ByteSource[] = [];
  const close = async () => {
    await Promise.all(sources.map((source) => source.close()));
  };
  try {
    const tensors = await openWeights(dir, sources);
    if (layout.tied) tie(dir, tensors, layout);
    const stored = new StoredTensors(dir, tensors);
    const packed = new Map<string, StoredMatrix>();
    for (const { name, shape } of layout.tensors) {
      const matrix = shape.length === 2 ? await quantisation?.find(stored, name, shape[0], shape[1]) : null;
      if (matrix) packed.set(name, matrix);
      else stored.require(name, FLOAT_DTYPES, shape);
    }
    return { dir, config: layout.config, tensors, packed, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function checkDirectory(dir: string): Promise<void> {
  const info = await stat(dir).catch(() => null);
  if (!info) throw new InputError(`model directory ${dir} does not exist`);
  if (!info.isDirectory()) throw new InputError(`${dir} is not a directory; give the one that holds config.json`);
  if (await hasFile(dir, 'config.json')) return;
  const hint = (await hasFile(dir, 'adapter_config.json')) ? '; it is an adapter, which goes on top of a model' : '';
  throw new InputError(`${dir} is not a model directory: it has no config.json${hint}`);
}

async function openWeights(dir: string, sources: ByteSource[]): Promise<Map<string, CheckpointTensor>> {
  const tensors = new Map<string, CheckpointTensor>();
  if (await hasFile(dir, WEIGHTS)) {
    for (const tensor of await openShard(dir, WEIGHTS, sources)) tensors.set(tensor.name, tensor);
    return tensors;
  }
  if (!(await hasFile(dir, INDEX))) {
    const pickled = (await hasFile(dir, 'pytorch_model.bin')) || (await hasFile(dir, 'pytorch_model.bin.index.json'));
    const hint = pickled ? '; its pytorch_model.bin must be converted to safetensors first' : '';
    throw new InputError(`${dir} has no weights: neither ${WEIGHTS} nor ${INDEX} is there${hint}`);
  }
  const index = await readIndex(dir);
  for (const [shard, names] of index) {
    const held = new Map((await openShard(dir, shard, sources)).map((tensor) => [tensor.name, tensor]));
    for (const name of names) {
      const tensor = held.get(name);
      if (!tensor) throw new InputError(`${join(dir, shard)} lacks tensor ${name}, which ${INDEX} says it holds`);
      tensors.set(name, tensor);
    }
  }
  return tensors;
}

/** The files that hold a directory's weights, there or only named by its index; null where it has neither. Throws InputError. */
export async function weightFiles(dir: string): Promise<string[] | null> {
  if (await hasFile(dir, WEIGHTS)) return [WEIGHTS];
  return (await hasFile(dir, INDEX)) ? [...(await readIndex(dir)).keys()] : null;
}

/** The names of the tensors of each shard. */
async function readIndex(dir: string): Promise<Map<string, string[]>> {
  const { path, value } = await readJsonInside(dir, INDEX, MAX_INDEX_BYTES);
  const weightMap = (value as { weight_map?: unknown } | null)?.weight_map;
  if (!isRecord(weightMap)) throw new InputError(`${path} has no weight_map`);
  const shards = new Map<string, string[]>();
  for (const [name, shard] of Object.entries(weightMap)) {
    if (typeof shard !== 'string') throw new InputError(`${path}: weight_map gives tensor ${name} no file name`);
    const names = shards.get(shard);
    if (names) names.push(name);
    else shards.set(shard, [name]);
  }
  return shards;
}

/** Tensors of one file, and those its metadata gives a second name (safetensors.torch.save_model does, of shared ones). */
async function openShard(dir: string, name: string, sources: ByteSource[]): Promise<CheckpointTensor[]> {
  const source = await openFile(await resolveInside(dir, name), join(dir, name));
  sources.push(source);
  const { tensors, metadata } = await readHeader(source);
  const found = [...tensors.values()].map((tensor) => ({ ...tensor, source }));
  for (const [alias, stored] of metadata) {
    const tensor = tensors.get(stored);
    if (tensor && !tensors.has(alias)) found.push({ ...tensor, name: alias, source });
  }
  return found;
}

/** A tied model may store either of its two tensors, or both. */
function tie<Config>(dir: string, tensors: Map<string, CheckpointTensor>, layout: CheckpointLayout<Config>): void {
  const { embedding, head } = layout;
  const tensor = tensors.get(embedding) ?? tensors.get(head);
  if (!tensor) throw new InputError(`${dir}: the weights hold neither ${embedding} nor ${head}`);
  tensors.set(embedding, tensor);
  tensors.set(head, tensor);
}

import { stat } from 'node:fs/promises';
import type { ModelConfig } from '../../models/config.js';
import { readModelConfig } from '../../models/index.js';
import { KNOWN_MODELS, knownModel } from '../../models/known.js';
import { tensorSpecs } from '../../models/tensors.js';
import { InputError } from '../errors.js';
import { weightFiles } from '../formats/checkpoint.js';
import { hasFile, type JsonFile, readJsonInside } from '../formats/files.js';
import { readQuantisation } from '../formats/quantised.js';
import { type QuantizedFormat, quantizedLayouts } from '../model/quantized-layouts.js';
import type { PackedLayouts } from '../model/weights.js';
import { lexiBase } from '../paths.js';
import { type Tokenizer, tryLoadTokenizer } from '../text/tokenizer.js';
import { modelDirectory } from './hub.js';
import { openModel } from './session.js';

/** A model as far as a plan needs it: its weights may be elsewhere. */
export interface PlannedModel {
  readonly name: string;
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer | null;
  readonly packed: PackedLayouts;
  readonly format: QuantizedFormat;
  /** Its files hold that format; else it is made while they are loaded. */
  readonly stored: boolean;
  readonly parameters: number;
}

/**
 * A directory of which config.json is enough, a model of the hub, or the name of a well-known model or of one of `others`.
 * `quantize` says how float weights are packed.
 */
export async function planModel(
  model: string | undefined,
  quantize: QuantizedFormat,
  others: ReadonlyMap<string, ModelConfig> = new Map(),
): Promise<PlannedModel> {
  const asked = model ?? lexiBase;
  const known = (await isDirectory(asked)) ? null : (others.get(asked) ?? knownModel(asked));
  if (known) return describe(asked, known, { format: 'none' }, quantize, null);
  const name = await modelDirectory(asked, { weights: false });
  if (!(await isDirectory(name)))
    throw new InputError(
      `--model ${name} is neither a directory with a config.json, nor a name of the hub (ORG/NAME), nor one of ${[...others.keys(), ...KNOWN_MODELS].join(', ')}.`,
    );
  if (!(await hasFile(name, 'config.json')))
    throw new InputError(`${name} is not a model directory: it has no config.json`);
  if (await hasWeights(name)) {
    const { checkpoint, config, tokenizer } = await openModel({ model: name });
    await checkpoint.close();
    const packed = checkpoint.packed.values().next().value;
    const stored: StoredFormat = { format: packed ? formatOf[packed.format] : 'none' };
    const described = describe(name, config, stored, quantize, tokenizer);
    return described.stored ? { ...described, packed: checkpoint.packed } : described;
  }
  const file = await readJsonInside(name, 'config.json');
  return describe(name, readModelConfig(file), await storedFormat(name, file), quantize, await tryLoadTokenizer(name));
}

/** Whether all of its weights are there, and not their index alone. */
async function hasWeights(directory: string): Promise<boolean> {
  const files = await weightFiles(directory);
  return files !== null && (await Promise.all(files.map((file) => hasFile(directory, file)))).every(Boolean);
}

async function isDirectory(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null))?.isDirectory() ?? false;
}

const formatOf = { nf4: 'nf4', affine4: 'int4', affine8: 'int8' } as const;

function describe(
  name: string,
  config: ModelConfig,
  { format, ...layout }: StoredFormat,
  quantize: QuantizedFormat,
  tokenizer: Tokenizer | null,
): PlannedModel {
  const stored = format !== 'none';
  if (stored && quantize !== 'none')
    throw new InputError(`--quantize ${quantize}: the weights of ${name} are quantised already, as ${format}.`);
  const wanted = stored ? format : quantize;
  return {
    name,
    config,
    tokenizer,
    packed: quantizedLayouts(config, wanted, layout),
    format: wanted,
    stored,
    parameters: tensorSpecs(config).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
  };
}

interface StoredFormat {
  readonly format: QuantizedFormat;
  readonly group?: number;
  readonly vocabularies?: boolean;
}

/** How weights that are elsewhere are quantised, by their settings alone. Throws InputError for formats that are not read. */
async function storedFormat(directory: string, config: JsonFile): Promise<StoredFormat> {
  const { method, settings } = (await readQuantisation(directory, config)) ?? {};
  if (!settings) return { format: 'none' };
  if (method === 'bitsandbytes') return { format: 'nf4', group: 64, vocabularies: false };
  const size = method === 'awq' && settings.has('w_bit') ? 'q_group_size' : 'group_size';
  // −1: one group a row, which takes about as little as this.
  const group = settings.get(size) === -1 ? 128 : settings.size(size);
  const bits = method === null ? settings.get('bits') : 4;
  return { format: bits === 8 ? 'int8' : 'int4', group, vocabularies: method === null };
}

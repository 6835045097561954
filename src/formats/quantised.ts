import { awq } from './awq.js';
import { bitsandbytes } from './bitsandbytes.js';
import { hasFile, type JsonFile, readJsonInside } from './files.js';
import { gptq } from './gptq.js';
import { Keys } from './keys.js';
import { mlx } from './mlx.js';
import type { MatrixReader, QuantisedReader } from './stored-matrix.js';

/** The formats of quantised checkpoints that are read; a new one is one file and one line here. */
const READERS: readonly QuantisedReader[] = [bitsandbytes, gptq, awq, mlx];

/** Older writers of GPTQ put the settings here and not into config.json. */
export const GPTQ_SETTINGS = 'quantize_config.json';

/** How config.json says that the weights are quantised; null where it names no format. Throws InputError naming file and key. */
export async function readQuantisation(
  dir: string,
  config: JsonFile,
): Promise<{ method: QuantisedReader['method']; settings: Keys; find: MatrixReader } | null> {
  const keys = new Keys(config.path, config.value);
  const settings = keys.object('quantization_config') ?? keys.object('quantization');
  if (!settings) {
    if (!(await hasFile(dir, GPTQ_SETTINGS))) return null;
    const { path, value } = await readJsonInside(dir, GPTQ_SETTINGS);
    const older = new Keys(path, value);
    return { method: gptq.method, settings: older, find: gptq.read(older) };
  }
  const method = settings.get('quant_method') ?? (settings.has('load_in_4bit') ? 'bitsandbytes' : null);
  const reader = READERS.find((reader) => reader.method === method);
  const names = READERS.flatMap((reader) => reader.method ?? []);
  if (!reader) throw settings.error('quant_method', `one of ${names.join(', ')}, or absent where MLX wrote the file`);
  return { method: reader.method, settings, find: reader.read(settings) };
}

import { largestTensor, type MatmulShape } from '../../bench/kernels/matmul.js';
import { type Tuned, tuneMatmul } from '../../bench/tune.js';
import { tuneAttention } from '../../bench/tune-attention.js';
import type { ModelConfig } from '../../models/config.js';
import { InputError } from '../errors.js';
import type { AttentionSettings } from '../ops/attention.js';
import { fewRows, type MatmulSettings } from '../ops/matmul-tile.js';
import { kernelSource } from './kernel-source.js';
import { formatBytes } from './memory.js';
import type { OpenDevice } from './session.js';
import { writeTuning } from './tuning-cache.js';

/** What to tune. */
export interface TuneRequest {
  readonly products: readonly MatmulShape[];
  /** Attention of these, over so many rows. */
  readonly models: readonly ModelConfig[];
  readonly rows: number;
}

/**
 * Looks for faster settings of each product m × n × k of a layer, forward ('nt') and backward ('nn', where n and k change
 * places), and of attention, and keeps what it finds at once: a search that is cut short loses nothing.
 */
export async function tune(open: OpenDevice, { products, models, rows }: TuneRequest): Promise<void> {
  const { device, tier } = open;
  const [matrix] = device.matrixUnits;
  if (!matrix || (tier !== 'tensor' && !device.features.cpu))
    throw new InputError(
      '--tune: this device has no matrix units that pass the self-test, so there is nothing to tune.',
    );
  if (!device.features.timestamps) throw new InputError('--tune: this device has no timestamps to measure by.');
  const source = kernelSource();
  let kept = 0;
  const keep = async (name: string, tuned: Tuned<MatmulSettings | AttentionSettings> | null) => {
    if (!tuned) {
      console.log(`${name}: the default stays`);
      return;
    }
    const file = await writeTuning(device.info, source, new Map([[tuned.class, tuned.settings]]));
    if (kept++ === 0) console.log(`Settings are kept in ${file}.`);
    const settings = typeof tuned.settings === 'string' ? tuned.settings : JSON.stringify(tuned.settings);
    console.log(
      `${name}: ${tuned.gain.toFixed(2)} times the default, ${tuned.gflops.toFixed(0)} GFLOP/s, ${tuned.tried} tried: ${settings}`,
    );
  };
  for (const forward of products) {
    // Few rows are those of decoding, which has no gradients.
    for (const form of forward.m <= fewRows ? (['nt'] as const) : (['nt', 'nn'] as const)) {
      const { packed } = forward;
      const shape = form === 'nt' ? forward : { ...forward, n: forward.k, k: forward.n };
      const name = `${shape.m}x${shape.n}x${shape.k} '${form}'${packed ? ` of ${packed}` : ''}`;
      const bytes = largestTensor({ ...shape, packed: null }, 'f16', 'f32');
      if (bytes > device.maxBinding) {
        console.log(`${name}: left out, ${formatBytes(bytes)} are more than this device binds at once`);
        continue;
      }
      const problem = { ...shape, form, packed: packed && { format: packed, ordered: true } };
      await keep(name, await tuneMatmul(open, matrix, problem));
    }
  }
  // Settings are those of all heads of a size.
  const shapes = new Map(models.map((config) => [config.headDim, config]));
  for (const { heads, kvHeads, headDim } of shapes.values()) {
    if (device.features.cpu) {
      console.log('attention: left out, because on a CPU it runs without matrix units');
      break;
    }
    const name = `attention of ${rows} rows, ${heads}/${kvHeads} heads of ${headDim}`;
    await keep(name, await tuneAttention(open, matrix, { heads, kvHeads, headDim, window: null }, rows));
  }
  console.log(`${kept} settings kept`);
}

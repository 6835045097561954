// bitsandbytes NF4: https://huggingface.co/docs/bitsandbytes, QLoRA (Dettmers et al. 2023). Beside a weight of packed
// bytes lie `weight.absmax`, `weight.quant_map` and a JSON blob, `weight.quant_state.bitsandbytes__nf4`.

import { parseJson } from './json.js';
import { Keys } from './keys.js';
import { NF4_LEVELS, STATE } from './nf4-writer.js';
import { readTensor } from './safetensors.js';
import type { QuantisedReader, StoredScales } from './stored-matrix.js';
import type { StoredTensors } from './stored-tensors.js';

const STORAGE = new Map([
  ['uint8', { dtype: 'U8', bytes: 1 }],
  ['float16', { dtype: 'F16', bytes: 2 }],
  ['bfloat16', { dtype: 'BF16', bytes: 2 }],
  ['float32', { dtype: 'F32', bytes: 4 }],
]);
const MAX_STATE_BYTES = 4096;

/** Matrices without a quant_state (`llm_int8_skip_modules`) are floats. */
export const bitsandbytes: QuantisedReader = {
  method: 'bitsandbytes',
  read(settings) {
    if (settings.boolean('load_in_8bit', false)) throw settings.error('load_in_8bit', 'false: 8-bit is not read');
    if (settings.get('bnb_4bit_quant_type') !== 'nf4')
      throw settings.error('bnb_4bit_quant_type', '"nf4": other 4-bit types are not read');
    const storage = STORAGE.get(settings.string('bnb_4bit_quant_storage', 'uint8'));
    if (!storage) throw settings.error('bnb_4bit_quant_storage', `one of ${[...STORAGE.keys()].join(', ')}`);
    return async (weights, name, n, k) => {
      const stateName = `${name}.${STATE}`;
      if (!weights.get(stateName)) {
        if (weights.get(name)?.dtype !== 'U8') return null;
        throw weights.error(name, `is packed, but the weights lack ${stateName}`);
      }
      const state = await readState(weights, stateName, [n, k]);
      const group = state.size('blocksize');
      if (group % 8 !== 0) throw state.error('blocksize', 'a multiple of 8');
      if (k % 8 !== 0)
        throw weights.error(name, `is packed with rows of ${k} numbers; rows of a multiple of 8 are read`);
      const codes = weights.require(name, [storage.dtype], [(n * k) / 2 / storage.bytes, 1]);
      const map = await weights.floats(`${name}.quant_map`, NF4_LEVELS.length);
      if (NF4_LEVELS.some((level, i) => Math.abs(map[i] - level) > 1e-6))
        throw weights.error(`${name}.quant_map`, 'does not hold the levels of NF4');
      const scales = readScales(weights, name, state, Math.ceil((n * k) / group));
      return { format: 'nf4', n, k, group, ordered: true, codes, order: 'bitsandbytes', scales, columnGroup: null };
    };
  },
};

async function readState(weights: StoredTensors, name: string, shape: readonly number[]): Promise<Keys> {
  const blob = weights.get(name)!;
  const length = blob.end - blob.begin;
  if (blob.dtype !== 'U8' || length > MAX_STATE_BYTES)
    throw weights.error(name, `is ${length} bytes of ${blob.dtype}, no quant_state`);
  let json: unknown;
  try {
    json = parseJson(new TextDecoder().decode(await readTensor(blob.source, blob)));
  } catch {
    throw weights.error(name, 'is not JSON');
  }
  const state = new Keys(`${blob.source.name}: tensor ${name}`, json);
  if (state.get('quant_type') !== 'nf4') throw state.error('quant_type', '"nf4"');
  const stored = state.get('shape');
  if (!Array.isArray(stored) || stored.length !== 2 || stored.some((size, i) => size !== shape[i]))
    throw state.error('shape', `[${shape.join(', ')}], as config.json calls for`);
  return state;
}

function readScales(weights: StoredTensors, name: string, state: Keys, blocks: number): StoredScales {
  const absmax = `${name}.absmax`;
  if (!state.has('nested_blocksize')) return { kind: 'plain', scales: weights.require(absmax, ['F32'], [blocks]) };
  const block = state.size('nested_blocksize');
  const offset = state.get('nested_offset');
  if (typeof offset !== 'number') throw state.error('nested_offset', 'a number');
  return {
    kind: 'nested',
    absmax: weights.require(absmax, ['U8'], [blocks]),
    map: weights.require(`${name}.nested_quant_map`, ['F32'], [256]),
    nestedAbsmax: weights.require(`${name}.nested_absmax`, ['F32'], [Math.ceil(blocks / block)]),
    block,
    offset,
  };
}

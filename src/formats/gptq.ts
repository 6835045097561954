// GPTQ (Frantar et al. 2022) in the layout of AutoGPTQ and GPTQModel: MODULE.qweight, .qzeros, .scales and .g_idx.

import { InputError } from '../errors.js';
import type { Keys } from './keys.js';
import { readTensor } from './safetensors.js';
import { checkGroup, type QuantisedReader } from './stored-matrix.js';
import { FLOAT_DTYPES, type StoredTensors } from './stored-tensors.js';

/** Int4 with zeros less one ("gptq") or as they are ("gptq_v2"), of any group size, with or without act-order. */
export const gptq: QuantisedReader = {
  method: 'gptq',
  read(settings) {
    if (settings.get('bits') !== 4) throw settings.error('bits', '4: other widths are not read');
    const groupSize = settings.get('group_size') === -1 ? null : settings.size('group_size');
    const layout = settings.string('checkpoint_format', 'gptq');
    if (layout !== 'gptq' && layout !== 'gptq_v2') throw settings.error('checkpoint_format', '"gptq" or "gptq_v2"');
    if (settings.boolean('is_marlin_format', false)) throw settings.error('is_marlin_format', 'false');
    if (settings.string('pack_dtype', 'int32') !== 'int32') throw settings.error('pack_dtype', '"int32"');
    const actOrder = settings.boolean('desc_act', false);
    checkDynamic(settings);
    return async (weights, name, n, k) => {
      const module = name.slice(0, -'.weight'.length);
      if (!weights.get(`${module}.qweight`)) return requireFloats(weights, name);
      const group = groupSize ?? k;
      checkGroup(settings, 'group_size', group, module, k);
      if (n % 8 !== 0) throw weights.error(`${module}.qweight`, `has ${n} rows; a multiple of 8 is read`);
      const groups = k / group;
      const codes = weights.require(`${module}.qweight`, ['I32'], [k / 8, n]);
      const zeros = weights.require(`${module}.qzeros`, ['I32'], [groups, n / 8]);
      const scales = weights.require(`${module}.scales`, FLOAT_DTYPES, [groups, n]);
      const columnGroup = await readOrder(weights, `${module}.g_idx`, { k, group, actOrder });
      return {
        format: 'affine4',
        n,
        k,
        group,
        ordered: columnGroup === null,
        codes,
        order: 'gptq',
        // GPTQModel goes from one convention to the other by this sum over whole words, carries and all.
        scales: { kind: 'zeroed', scales, zeros, order: 'gptq', add: layout === 'gptq' ? 0x11111111 : 0 },
        columnGroup,
      };
    };
  },
};

/** `dynamic` holds rules for modules by regular expressions, which are not run: none may change the layout. */
function checkDynamic(settings: Keys): void {
  const dynamic = settings.get('dynamic');
  for (const [pattern, rule] of Object.entries(dynamic ?? {})) {
    const { bits = 4, group_size: group = settings.get('group_size') } = (rule ?? {}) as Record<string, unknown>;
    if (!pattern.startsWith('-:') && (bits !== 4 || group !== settings.get('group_size')))
      throw settings.error('dynamic', 'without other bits or group_size for some modules');
  }
}

/** A module that was not converted. */
export function requireFloats(weights: StoredTensors, name: string): null {
  if (weights.get(name)) return null;
  const packed = `${name.slice(0, -'weight'.length)}qweight`;
  throw new InputError(
    `${weights.dir}: the weights lack tensor ${packed}, which config.json calls for, and ${name} too`,
  );
}

/**
 * Each column's group; null where columns lie in the order of their groups. All zero means that, too: some writers leave
 * g_idx empty where there is no act-order, and exllama takes it as none.
 */
async function readOrder(
  weights: StoredTensors,
  name: string,
  { k, group, actOrder }: { k: number; group: number; actOrder: boolean },
): Promise<Uint32Array<ArrayBuffer> | null> {
  if (!weights.get(name) && !actOrder) return null;
  const tensor = weights.require(name, ['I32'], [k]);
  const groups = new Uint32Array((await readTensor(tensor.source, tensor)).slice().buffer);
  const bad = groups.findIndex((of) => of >= k / group);
  if (bad >= 0)
    throw weights.error(name, `gives column ${bad} group ${groups[bad] | 0}; there are ${k / group} groups, from 0 on`);
  const inOrder = groups.every((of, column) => of === Math.floor(column / group));
  return inOrder || groups.every((of) => of === 0) ? null : groups;
}

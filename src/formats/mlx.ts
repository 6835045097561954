// MLX's affine quantisation: https://ml-explore.github.io/mlx (mlx.core.quantize). Beside a weight of packed words lie
// MODULE.scales and MODULE.biases.

import type { Keys } from './keys.js';
import { checkGroup, type QuantisedReader } from './stored-matrix.js';
import { FLOAT_DTYPES } from './stored-tensors.js';

/** 4 and 8 bits, of any group size; the settings of single modules stand under their names. */
export const mlx: QuantisedReader = {
  method: null,
  read(settings) {
    const general = readSettings(settings);
    return async (weights, name, n, k) => {
      const module = name.slice(0, -'.weight'.length);
      if (!weights.get(`${module}.scales`)) {
        if (weights.get(name)?.dtype !== 'U32') return null;
        throw weights.error(name, `is packed, but the weights lack ${module}.scales`);
      }
      const own = typeof settings.get(module) === 'object' ? settings.object(module) : null;
      const { bits, group } = own ? readSettings(own) : general;
      checkGroup(own ?? settings, 'group_size', group, module, k);
      const codes = weights.require(name, ['U32'], [n, (k * bits) / 32]);
      const scales = weights.require(`${module}.scales`, FLOAT_DTYPES, [n, k / group]);
      const biases = weights.require(`${module}.biases`, [scales.dtype], [n, k / group]);
      return {
        format: bits === 4 ? 'affine4' : 'affine8',
        n,
        k,
        group,
        ordered: true,
        codes,
        order: 'natural',
        scales: { kind: 'biased', scales, biases },
        columnGroup: null,
      };
    };
  },
};

function readSettings(settings: Keys): { bits: number; group: number } {
  const bits = settings.get('bits');
  if (bits !== 4 && bits !== 8) throw settings.error('bits', '4 or 8: other widths are not read');
  if (settings.string('mode', 'affine') !== 'affine')
    throw settings.error('mode', '"affine": other modes are not read');
  return { bits, group: settings.size('group_size') };
}

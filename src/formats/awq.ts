// AWQ (Lin et al. 2023) in AutoAWQ's GEMM layout: MODULE.qweight, .qzeros and .scales.

import { requireFloats } from './gptq.js';
import { checkGroup, type QuantisedReader } from './stored-matrix.js';
import { FLOAT_DTYPES } from './stored-tensors.js';

/** Int4 with zeros, of any group size; `modules_to_not_convert` are floats. */
export const awq: QuantisedReader = {
  method: 'awq',
  read(settings) {
    const [bits, size] = settings.has('w_bit') ? ['w_bit', 'q_group_size'] : ['bits', 'group_size'];
    if (settings.get(bits) !== 4) throw settings.error(bits, '4: other widths are not read');
    if (settings.string('version', 'gemm').toLowerCase() !== 'gemm')
      throw settings.error('version', '"gemm": other layouts are not read');
    if (!settings.boolean('zero_point', true)) throw settings.error('zero_point', 'true');
    const groupSize = settings.get(size) === -1 ? null : settings.size(size);
    return async (weights, name, n, k) => {
      const module = name.slice(0, -'.weight'.length);
      if (!weights.get(`${module}.qweight`)) return requireFloats(weights, name);
      const group = groupSize ?? k;
      checkGroup(settings, size, group, module, k);
      if (n % 8 !== 0) throw weights.error(`${module}.qweight`, `has ${n} rows; a multiple of 8 is read`);
      const codes = weights.require(`${module}.qweight`, ['I32'], [k, n / 8]);
      const zeros = weights.require(`${module}.qzeros`, ['I32'], [k / group, n / 8]);
      const scales = weights.require(`${module}.scales`, FLOAT_DTYPES, [k / group, n]);
      return {
        format: 'affine4',
        n,
        k,
        group,
        ordered: true,
        codes,
        order: 'awq',
        scales: { kind: 'zeroed', scales, zeros, order: 'awq', add: 0 },
        columnGroup: null,
      };
    };
  },
};

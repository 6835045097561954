// Affine 4- and 8-bit checkpoints as mlx-lm writes them (quantize_model and save_model of mlx_lm.utils):
// https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/utils.py

import type { QuantisedFormat } from './quantised-format.js';
import { fromFloat32 } from './safetensors.js';

/** MLX's affine codes of 4 or 8 bits, scales and biases in the matrix's own type; embedding and head are quantised too. */
export function mlxFormat(bits: 4 | 8, group: 32 | 64 | 128): QuantisedFormat {
  const quantization = { group_size: group, bits };
  return {
    packing: bits === 4 ? 'int4' : 'int8',
    group,
    metadata: { format: 'mlx' },
    tensors({ name, shape: [rows, columns], dtype }) {
      const groups = [rows, columns / group];
      return [
        { name, dtype: 'U32', shape: [rows, (columns * bits) / 32] },
        { name: sibling(name, 'scales'), dtype, shape: groups },
        { name: sibling(name, 'biases'), dtype, shape: groups },
      ];
    },
    pack: (codes) => codes,
    *scales({ name, dtype }, pairs) {
      for (const [i, tensor] of ['scales', 'biases'].entries())
        yield {
          name: sibling(name, tensor),
          bytes: fromFloat32(
            dtype,
            pairs.filter((_, at) => at % 2 === i),
            sibling(name, tensor),
          ),
        };
    },
    config: () => ({ quantization, quantization_config: quantization }),
  };
}

function sibling(name: string, tensor: string): string {
  return name.replace(/weight$/, tensor);
}

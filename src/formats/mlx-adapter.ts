// LoRA adapters as mlx-lm loads them (`--adapter-path`): adapters.safetensors and adapter_config.json.
// https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/tuner/utils.py

import { join } from 'node:path';
import { type Adapter, adapterRank, adapterScale } from './adapter.js';
import { makeDirectory, writeFileAtomic } from './files.js';
import { type FloatDtype, fromFloat32, type TensorData } from './safetensors.js';
import { writeSafetensors } from './safetensors-file.js';

/**
 * The tensors of adapters.safetensors: lora_a = Aᵀ [in, rank], lora_b = Bᵀ [rank, out]. mlx-lm has one rank and one
 * scale: smaller ranks are padded with zeros up to the largest, and B makes up for a module's own scale.
 */
function mlxTensors(adapter: Adapter, dtype: FloatDtype): TensorData[] {
  const rank = largestRank(adapter);
  const scale = adapterScale(adapter.config);
  return [...adapter.tensors].flatMap(([path, { A, B }]) => {
    const own = adapterRank(adapter.config, path);
    const factor = adapterScale(adapter.config, path) / scale;
    const [inputs, out] = [A.length / own, B.length / own];
    const a = new Float32Array(inputs * rank);
    for (let k = 0; k < own; k++) for (let i = 0; i < inputs; i++) a[i * rank + k] = A[k * inputs + i];
    const b = new Float32Array(rank * out);
    for (let k = 0; k < own; k++) for (let i = 0; i < out; i++) b[k * out + i] = B[i * own + k] * factor;
    const tensor = (name: string, shape: readonly number[], values: Float32Array): TensorData => {
      return { name, dtype, shape, data: fromFloat32(dtype, values, name) };
    };
    return [tensor(`${path}.lora_a`, [inputs, rank], a), tensor(`${path}.lora_b`, [rank, out], b)];
  });
}

/** The text of adapter_config.json: what mlx-lm reads, and the base model. */
function mlxConfigJson(adapter: Adapter, baseModelName: string | null): string {
  const modules = [...adapter.tensors.keys()].map((path) => /^model\.layers\.(\d+)\.(.+)$/.exec(path)!);
  const json = {
    fine_tune_type: 'lora',
    model: baseModelName,
    num_layers: Math.max(...modules.map(([, layer]) => Number(layer))) + 1,
    lora_parameters: {
      rank: largestRank(adapter),
      scale: adapterScale(adapter.config),
      dropout: adapter.config.dropout,
      keys: [...new Set(modules.map(([, , key]) => key))].sort(),
    },
  };
  return `${JSON.stringify(json, null, 2)}\n`;
}

function largestRank({ config, tensors }: Adapter): number {
  return Math.max(...[...tensors.keys()].map((path) => adapterRank(config, path)));
}

/** Writes both files, each whole or not at all; makes the directory. */
export async function writeMlxAdapter(
  dir: string,
  adapter: Adapter,
  baseModelName: string | null,
  dtype: FloatDtype,
): Promise<void> {
  await makeDirectory(dir);
  await writeSafetensors(join(dir, 'adapters.safetensors'), mlxTensors(adapter, dtype), {});
  await writeFileAtomic(join(dir, 'adapter_config.json'), mlxConfigJson(adapter, baseModelName));
}

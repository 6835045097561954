import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type Adapter, adapterScale } from '../../src/formats/adapter.js';
import { openFile } from '../../src/formats/files.js';
import { writeMlxAdapter } from '../../src/formats/mlx-adapter.js';
import { readHeader, readTensor, toFloat32 } from '../../src/formats/safetensors.js';
import { randomNormal, relativeError } from '../reference/random.js';
import { temporaryDirectory } from './helpers.js';

const [IN, OUT] = [6, 10];
const MODULES = ['model.layers.0.self_attn.q_proj', 'model.layers.1.self_attn.q_proj', 'model.layers.1.mlp.up_proj'];

function makeAdapter(ranks: readonly number[], patterns: Partial<Adapter['config']>): Adapter {
  const pair = (r: number, seed: number) => ({
    A: Float32Array.from(randomNormal(r * IN, seed)),
    B: Float32Array.from(randomNormal(OUT * r, seed + 1)),
  });
  return {
    config: { r: 2, alpha: 3, dropout: 0.25, targetModules: ['q_proj', 'up_proj'], useRslora: false, ...patterns },
    tensors: new Map(MODULES.map((path, i) => [path, pair(ranks[i], 10 * i)])),
  };
}

/** s·B·A [out, in] of PEFT's matrices. */
function product({ A, B }: { A: ArrayLike<number>; B: ArrayLike<number> }, r: number, scale: number): number[] {
  return Array.from({ length: OUT * IN }, (_, at) => {
    const [row, column] = [Math.floor(at / IN), at % IN];
    return Array.from({ length: r }, (_, k) => scale * B[row * r + k] * A[k * IN + column]).reduce((a, b) => a + b, 0);
  });
}

test.each<[string, readonly number[], Partial<Adapter['config']>]>([
  ['one rank', [2, 2, 2], {}],
  ['rsLoRA', [2, 2, 2], { useRslora: true }],
  [
    'ranks and alphas of modules',
    [2, 5, 1],
    { rankPattern: { [MODULES[1]]: 5, [MODULES[2]]: 1 }, alphaPattern: { [MODULES[1]]: 7 } },
  ],
])('what mlx-lm computes from the files is what PEFT computes: %s', async (_, ranks, patterns) => {
  const adapter = makeAdapter(ranks, patterns);
  const dir = join(await temporaryDirectory(), 'mlx');
  await writeMlxAdapter(dir, adapter, 'some/base', 'F32');
  const config = JSON.parse(await readFile(join(dir, 'adapter_config.json'), 'utf8'));
  const rank = Math.max(...ranks);
  expect(config).toEqual({
    fine_tune_type: 'lora',
    model: 'some/base',
    num_layers: 2,
    lora_parameters: {
      rank,
      scale: patterns.useRslora ? 3 / Math.sqrt(2) : 1.5,
      dropout: 0.25,
      keys: ['mlp.up_proj', 'self_attn.q_proj'],
    },
  });
  const source = await openFile(join(dir, 'adapters.safetensors'));
  const { tensors, metadata } = await readHeader(source);
  expect(metadata.size).toBe(0);
  expect([...tensors.keys()].sort()).toEqual(MODULES.flatMap((path) => [`${path}.lora_a`, `${path}.lora_b`]).sort());
  for (const [i, path] of MODULES.entries()) {
    const read = async (name: string, shape: number[]) => {
      const info = tensors.get(`${path}.${name}`)!;
      expect(info.shape).toEqual(shape);
      return toFloat32(info.dtype, await readTensor(source, info));
    };
    const a = await read('lora_a', [IN, rank]);
    const b = await read('lora_b', [rank, OUT]);
    // mlx-lm's fuse: W + ((scale · lora_bᵀ) @ lora_aᵀ).
    const theirs = Array.from({ length: OUT * IN }, (_, at) => {
      const [row, column] = [Math.floor(at / IN), at % IN];
      const terms = Array.from(
        { length: rank },
        (_, k) => config.lora_parameters.scale * b[k * OUT + row] * a[column * rank + k],
      );
      return terms.reduce((sum, term) => sum + term, 0);
    });
    const ours = product(adapter.tensors.get(path)!, ranks[i], adapterScale(adapter.config, path));
    expect(relativeError(theirs, ours)).toBeLessThan(1e-6);
  }
  await source.close();
});

test('in 16 bits, where asked for', async () => {
  const dir = await temporaryDirectory();
  await writeMlxAdapter(dir, makeAdapter([2, 2, 2], {}), null, 'BF16');
  const source = await openFile(join(dir, 'adapters.safetensors'));
  expect(new Set([...(await readHeader(source)).tensors.values()].map(({ dtype }) => dtype))).toEqual(
    new Set(['BF16']),
  );
  await source.close();
});

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GGMLQuantizationType, gguf } from '@huggingface/gguf';
import { describe, expect, it, test } from 'vitest';
import type { ModelConfig } from '../../models/config.js';
import { ggufAdapter, ggufRows } from '../../models/gguf.js';
import { readModelConfig } from '../../models/index.js';
import { type LinearModule, linearShape, linearShapes } from '../../models/tensors.js';
import { type Adapter, adapterScale, type LoraPair } from '../../src/formats/adapter.js';
import { writeFileAtomic } from '../../src/formats/files.js';
import { encodeGguf, type GgufType } from '../../src/formats/gguf.js';
import { bfloat16ToFloat32, float16ToFloat32 } from '../../src/formats/half.js';
import { readAdapter } from '../../src/formats/peft.js';
import { GOLDEN, temporaryDirectory } from '../formats/helpers.js';
import { matmulNT } from '../reference/matmul.js';
import { randomNormal, relativeError } from '../reference/random.js';
import { rope, ropeTable } from '../reference/rope.js';

async function golden(name: string): Promise<{ config: ModelConfig; adapter: Adapter }> {
  const path = join(GOLDEN, name, 'model/config.json');
  const config = readModelConfig({ path, value: JSON.parse(await readFile(path, 'utf8')) });
  return { config, adapter: await readAdapter(join(GOLDEN, name, 'adapter'), linearShapes(config)) };
}

/** Written, and read back by Hugging Face's reader; the values by the definition of their types. */
async function exported(config: ModelConfig, adapter: Adapter, type: GgufType) {
  const file = join(await temporaryDirectory(), 'adapter.gguf');
  const { metadata, tensors } = ggufAdapter(config, adapter, type, { adapter: 'test', base: 'some/base' });
  await writeFileAtomic(file, encodeGguf(metadata, tensors));
  const parsed = await gguf(file, { allowLocalFile: true });
  const bytes = await readFile(file);
  const read = new Map(
    parsed.tensorInfos.map(({ name, shape, dtype, offset }) => {
      const at = Number(parsed.tensorDataOffset) + Number(offset);
      expect(at % 32).toBe(0);
      const sizes = shape.map(Number);
      return [name, { dtype, sizes, values: decode(dtype, bytes.subarray(at), sizes[0] * sizes[1]) }];
    }),
  );
  return { metadata: parsed.metadata as Record<string, unknown>, tensors: read };
}

function decode(dtype: GGMLQuantizationType, bytes: Uint8Array, count: number): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const half = (at: number) => view.getUint16(at, true);
  const halves = () => Uint16Array.from({ length: count }, (_, i) => half(2 * i));
  if (dtype === GGMLQuantizationType.F32)
    return Float32Array.from({ length: count }, (_, i) => view.getFloat32(4 * i, true));
  if (dtype === GGMLQuantizationType.F16) return float16ToFloat32(halves());
  if (dtype === GGMLQuantizationType.BF16) return bfloat16ToFloat32(halves());
  expect(dtype).toBe(GGMLQuantizationType.Q8_0);
  return Float32Array.from({ length: count }, (_, i) => {
    const at = Math.floor(i / 32) * 34;
    return float16ToFloat32(Uint16Array.of(half(at)))[0] * view.getInt8(at + 2 + (i % 32));
  });
}

const NAMES: Record<string, [string, LinearModule]> = {
  'self_attn.q_proj': ['attn_q', 'q_proj'],
  'self_attn.k_proj': ['attn_k', 'k_proj'],
  'self_attn.v_proj': ['attn_v', 'v_proj'],
  'self_attn.o_proj': ['attn_output', 'o_proj'],
  'mlp.gate_proj': ['ffn_gate', 'gate_proj'],
  'mlp.up_proj': ['ffn_up', 'up_proj'],
  'mlp.down_proj': ['ffn_down', 'down_proj'],
};

/** torch's w.reshape(heads, 2, headDim / 2, columns).swapaxes(1, 2).reshape(w.shape), which llama.cpp's converter does. */
function swapaxes(w: Float32Array, heads: number, headDim: number, columns: number): Float32Array {
  const out = new Float32Array(w.length);
  let to = 0;
  for (let head = 0; head < heads; head++)
    for (let i = 0; i < headDim / 2; i++)
      for (let half = 0; half < 2; half++)
        for (let column = 0; column < columns; column++)
          out[to++] = w[((head * 2 + half) * (headDim / 2) + i) * columns + column];
  return out;
}

describe.each([
  ['llama-llama3-rope', 'llama', true],
  ['mistral', 'llama', true],
  ['qwen2', 'qwen2', false],
  ['qwen3', 'qwen3', false],
] as const)('the adapter of golden %s', (name, architecture, paired) => {
  it.each(['F32', 'F16', 'BF16', 'Q8_0'] as const)('comes back from GGUF, %s', async (type) => {
    const { config, adapter } = await golden(name);
    const { metadata, tensors } = await exported(config, adapter, type);
    const { r, alpha, useRslora } = adapter.config;
    expect(metadata).toMatchObject({
      version: 3,
      'general.architecture': architecture,
      'general.type': 'adapter',
      'adapter.type': 'lora',
      'adapter.lora.alpha': Math.fround(useRslora ? alpha * Math.sqrt(r) : alpha),
      'general.base_model.0.name': 'some/base',
      'general.file_type': { F32: 0, F16: 1, BF16: 32, Q8_0: 7 }[type],
      'general.quantization_version': 2,
    });
    expect(tensors.size).toBe(2 * adapter.tensors.size);
    for (const [path, { A, B }] of adapter.tensors) {
      const [, layer, rest] = /^model\.layers\.(\d+)\.(.+)$/.exec(path)!;
      const [short, module] = NAMES[rest];
      const shape = linearShape(config, module);
      const heads = module === 'q_proj' ? config.heads : module === 'k_proj' && config.kvHeads;
      const rows = heads && paired ? swapaxes(B, heads, config.headDim, r) : B;
      const [a, b] = ['a', 'b'].map((matrix) => tensors.get(`blk.${layer}.${short}.weight.lora_${matrix}`)!);
      expect([a.sizes, b.sizes]).toEqual([
        [shape.in, r],
        [r, shape.out],
      ]);
      // Ranks below 32 fill no block of Q8_0.
      const types = type === 'Q8_0' ? [shape.in % 32 ? 'F16' : 'Q8_0', 'F16'] : [type, type];
      expect([a.dtype, b.dtype].map((dtype) => GGMLQuantizationType[dtype])).toEqual(types);
      const tolerance = { F32: 0, F16: 2 ** -11, BF16: 2 ** -8, Q8_0: 1 / 127 };
      expect(relativeError(a.values, A)).toBeLessThanOrEqual(tolerance[types[0] as GgufType]);
      expect(relativeError(b.values, rows)).toBeLessThanOrEqual(tolerance[types[1] as GgufType]);
    }
  });
});

test('an adapter of several ranks and scales has the same products under llama.cpp’s scale, alpha / rank', async () => {
  const { config, adapter } = await golden('qwen2');
  const [path] = adapter.tensors.keys();
  const shape = linearShapes(config).get(path)!;
  const pair: LoraPair = {
    A: Float32Array.from(randomNormal(5 * shape.in, 1)),
    B: Float32Array.from(randomNormal(shape.out * 5, 2)),
  };
  const uneven: Adapter = {
    config: { ...adapter.config, useRslora: true, rankPattern: { [path]: 5 }, alphaPattern: { [path]: 7 } },
    tensors: new Map([...adapter.tensors, [path, pair]]),
  };
  const { metadata, tensors } = await exported(config, uneven, 'F32');
  const alpha = metadata['adapter.lora.alpha'] as number;
  const b = tensors.get('blk.0.attn_q.weight.lora_b')!;
  expect(path).toBe('model.layers.0.self_attn.q_proj');
  expect(b.sizes).toEqual([5, shape.out]);
  const theirs = b.values.map((value) => (value * alpha) / 5);
  expect(adapterScale(uneven.config, path)).toBe(7 / Math.sqrt(5));
  expect(
    relativeError(
      theirs,
      pair.B.map((value) => (value * 7) / Math.sqrt(5)),
    ),
  ).toBeLessThan(1e-6);
  const other = tensors.get('blk.1.attn_v.weight.lora_b')!;
  expect(other.values).toEqual(adapter.tensors.get('model.layers.1.self_attn.v_proj')!.B);
  expect(alpha / adapter.config.r).toBeCloseTo(adapterScale(uneven.config), 6);
});

/** llama.cpp's rotation of its llama architecture: element 2i with element 2i + 1 of each head. */
function ropeOfNeighbours(x: Float64Array, heads: number, headDim: number, config: ModelConfig): Float64Array {
  const table = ropeTable(config.rope, headDim, x.length / (heads * headDim));
  const y = new Float64Array(x.length);
  for (let at = 0; at < x.length; at += 2) {
    const position = Math.floor(at / (heads * headDim));
    const pair = (position * headDim + (at % headDim)) / 2;
    y[at] = x[at] * table.cos[pair] - x[at + 1] * table.sin[pair];
    y[at + 1] = x[at + 1] * table.cos[pair] + x[at] * table.sin[pair];
  }
  return y;
}

test('reordered rows under a rotation of neighbours give the attention scores of the rows as they were', async () => {
  const { config } = await golden('llama-llama3-rope');
  const { heads, kvHeads, headDim, hiddenSize } = config;
  const positions = 9;
  const x = randomNormal(positions * hiddenSize, 1);
  const scores = (q: Float64Array, k: Float64Array) => {
    const all: number[] = [];
    for (let head = 0; head < heads; head++)
      for (let i = 0; i < positions; i++)
        for (let j = 0; j <= i; j++) {
          let sum = 0;
          const key = Math.floor((head * kvHeads) / heads);
          for (let d = 0; d < headDim; d++)
            sum += q[(i * heads + head) * headDim + d] * k[(j * kvHeads + key) * headDim + d];
          all.push(sum);
        }
    return all;
  };
  /** W + 2·B·A, rows of W and B as given by `rows`; times x. */
  const project = (module: 'q_proj' | 'k_proj', rows: (w: Float32Array, columns: number) => Float32Array) => {
    const { out } = linearShape(config, module);
    const seed = module === 'q_proj' ? 10 : 20;
    const W = rows(Float32Array.from(randomNormal(out * hiddenSize, seed)), hiddenSize);
    const B = rows(Float32Array.from(randomNormal(out * 3, seed + 1)), 3);
    const A = randomNormal(3 * hiddenSize, seed + 2);
    const merged = Float64Array.from(W, (w, i) => {
      const [row, column] = [Math.floor(i / hiddenSize), i % hiddenSize];
      return w + 2 * [0, 1, 2].reduce((sum, k) => sum + B[row * 3 + k] * A[k * hiddenSize + column], 0);
    });
    return matmulNT(x, merged, positions, out, hiddenSize);
  };
  const table = ropeTable(config.rope, headDim, positions);
  const at = Int32Array.from({ length: positions }, (_, i) => i);
  const theirs = scores(
    ropeOfNeighbours(
      project('q_proj', (w, columns) => ggufRows(config, 'q_proj', w, columns)),
      heads,
      headDim,
      config,
    ),
    ropeOfNeighbours(
      project('k_proj', (w, columns) => ggufRows(config, 'k_proj', w, columns)),
      kvHeads,
      headDim,
      config,
    ),
  );
  const ours = scores(
    rope(
      project('q_proj', (w) => w),
      at,
      heads,
      headDim,
      table,
    ),
    rope(
      project('k_proj', (w) => w),
      at,
      kvHeads,
      headDim,
      table,
    ),
  );
  expect(relativeError(theirs, ours)).toBeLessThan(1e-12);
  const unordered = scores(
    ropeOfNeighbours(
      project('q_proj', (w) => w),
      heads,
      headDim,
      config,
    ),
    ropeOfNeighbours(
      project('k_proj', (w) => w),
      kvHeads,
      headDim,
      config,
    ),
  );
  expect(relativeError(unordered, ours)).toBeGreaterThan(0.1);
});

test('a value that F16 has not is refused, naming the tensor', async () => {
  const { config, adapter } = await golden('qwen2');
  const [path, { A, B }] = [...adapter.tensors][0];
  const large: Adapter = { ...adapter, tensors: new Map([...adapter.tensors, [path, { A, B: B.map(() => 7e4) }]]) };
  await expect(exported(config, large, 'F16')).rejects.toThrow(
    'tensor blk.0.attn_q.weight.lora_b holds values over 65,504, which F16 has not: take BF16 or F32',
  );
});

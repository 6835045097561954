import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ModelConfig } from '../../models/config.js';
import { modelLayout } from '../../models/index.js';
import { type Checkpoint, type LoadableCheckpoint, openCheckpoint } from '../../src/formats/checkpoint.js';
import { openFile } from '../../src/formats/files.js';
import { mlxFormat } from '../../src/formats/mlx-writer.js';
import { nf4Format } from '../../src/formats/nf4-writer.js';
import type { QuantisedFormat } from '../../src/formats/quantised-format.js';
import { readHeader, readTensor, toFloat32 } from '../../src/formats/safetensors.js';
import { writeShards } from '../../src/formats/safetensors-writer.js';
import { loadWeights } from '../../src/model/load-weights.js';
import { planQuantised, Quantizer, quantisedPieces, quantiseOnLoad } from '../../src/model/quantize-weights.js';
import { weightTensors } from '../../src/model/weights.js';
import { temporaryDirectory } from '../formats/helpers.js';
import { type goldenCases, loadGolden } from '../golden.js';
import { openTestGpu, type TestGpu } from '../gpu.js';
import { expectCodes, quantizeAffine, quantizeBlockwise, quantizeNf4 } from '../reference/quantize.js';
import { relativeError } from '../reference/random.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

interface Stored {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** Quantises a golden model into a directory and reads what is written. */
async function quantised(name: (typeof goldenCases)[number], format: QuantisedFormat) {
  const checkpoint = await openCheckpoint(join(loadGolden(name).directory, 'model'), modelLayout);
  const plan = planQuantised(checkpoint, format);
  const quantizer = new Quantizer(gpu.device, gpu.kernels, plan.layout);
  const directory = await temporaryDirectory();
  let read = 0;
  const pieces = quantisedPieces(plan, quantizer, (bytes) => {
    read += bytes;
  });
  await writeShards(
    directory,
    plan.tensors.map(({ written }) => written),
    pieces,
    { metadata: format.metadata },
  );
  quantizer.destroy();
  expect(read).toBe(plan.sourceBytes);
  const source = await openFile(join(directory, 'model.safetensors'));
  const { tensors } = await readHeader(source);
  const stored = new Map<string, Stored>();
  for (const [tensor, info] of tensors) stored.set(tensor, { ...info, bytes: await readTensor(source, info) });
  await source.close();
  const config = JSON.parse(await readFile(join(checkpoint.dir, 'config.json'), 'utf8'));
  await writeFile(join(directory, 'config.json'), JSON.stringify({ ...config, ...format.config(plan.dtype) }));
  return { checkpoint, stored, directory };
}

/** Numbers of a matrix as they stand in the checkpoint. */
async function original(checkpoint: Checkpoint<ModelConfig>, name: string) {
  const tensor = checkpoint.tensors.get(name)!;
  return { ...tensor, bytes: await readTensor(tensor.source, tensor) };
}

const floats = ({ dtype, bytes }: Stored) => toFloat32(dtype as 'F32', bytes);
const text = ({ bytes }: Stored) => new TextDecoder().decode(bytes);
const matrices = (stored: Map<string, Stored>) => [...stored.keys()].filter((name) => name.endsWith('_proj.weight'));

describe('checkpoints in NF4', () => {
  it.each([
    ['llama', false],
    ['llama-llama3-rope', true],
    ['mistral', true],
  ] as const)('%s, double quantisation %s', async (name, doubleQuant) => {
    const { checkpoint, stored } = await quantised(name, nf4Format(doubleQuant));
    expect(matrices(stored)).toHaveLength(7 * checkpoint.config.layers);
    for (const matrix of matrices(stored)) {
      const source = await original(checkpoint, matrix);
      const expected = quantizeNf4(floats(source));
      const { dtype, shape, bytes } = stored.get(matrix)!;
      expect({ dtype, shape }).toEqual({ dtype: 'U8', shape: [expected.codes.length / 2, 1] });
      expectCodes(expected, 1e-6, (i) => (i % 2 ? bytes[i >> 1] & 15 : bytes[i >> 1] >> 4));
      const part = (suffix: string) => stored.get(`${matrix}.${suffix}`)!;
      expect([...floats(part('quant_map'))].slice(7, 9)).toEqual([0, Math.fround(0.07958029955625534)]);
      const state = JSON.parse(text(part('quant_state.bitsandbytes__nf4')));
      const torchType = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' }[source.dtype as 'F32'];
      expect(state).toMatchObject({ quant_type: 'nf4', blocksize: 64, dtype: torchType, shape: source.shape });
      if (!doubleQuant) {
        expect(floats(part('absmax'))).toEqual(Float32Array.from(expected.scales));
        expect(Object.keys(state)).toHaveLength(4);
        continue;
      }
      const mean = expected.scales.reduce((sum, x) => sum + x, 0) / expected.scales.length;
      expect(state.nested_offset).toBeCloseTo(mean, 7);
      expect(state).toMatchObject({ nested_blocksize: 256, nested_dtype: 'float32' });
      const nested = quantizeBlockwise(expected.scales, state.nested_offset, floats(part('nested_quant_map')));
      expect(floats(part('nested_absmax'))[0] / nested.scales[0]).toBeCloseTo(1, 6);
      expectCodes(nested, 1e-5, (i) => part('absmax').bytes[i]);
    }
    await expectOthersUntouched(checkpoint, stored, (tensor) => tensor.includes('_proj.weight'));
    await checkpoint.close();
  });
});

describe("checkpoints in MLX's codes", () => {
  it.each([
    [4, 64],
    [8, 32],
  ] as const)('%i bits, groups of %i', async (bits, group) => {
    const { checkpoint, stored } = await quantised('llama', mlxFormat(bits, group));
    const names = [...matrices(stored), 'model.embed_tokens.weight', 'lm_head.weight'];
    for (const matrix of names) {
      const source = await original(checkpoint, matrix);
      const [rows, columns] = source.shape;
      const expected = quantizeAffine(floats(source), group, bits);
      const { dtype, shape, bytes } = stored.get(matrix)!;
      expect({ dtype, shape }).toEqual({ dtype: 'U32', shape: [rows, (columns * bits) / 32] });
      const code = (i: number) => (bits === 8 ? bytes[i] : i % 2 ? bytes[i >> 1] >> 4 : bytes[i >> 1] & 15);
      expectCodes(expected, 2e-6, code);
      const scales = stored.get(matrix.replace('weight', 'scales'))!;
      const biases = stored.get(matrix.replace('weight', 'biases'))!;
      for (const tensor of [scales, biases])
        expect(tensor).toMatchObject({ dtype: 'BF16', shape: [rows, columns / group] });
      floats(scales).forEach((scale, g) => {
        // Extremes of equal magnitude put zero between two codes.
        if (expected.margins.subarray(g * group, (g + 1) * group).every((margin) => margin < 2e-6)) return;
        expect(Math.abs(scale / expected.scales[g] - 1)).toBeLessThan(2 ** -8);
      });
      expect(floats(biases)).toEqual(Float32Array.from(expected.offsets));
    }
    await expectOthersUntouched(
      checkpoint,
      stored,
      (tensor) => /\.(scales|biases)$/.test(tensor) || names.includes(tensor),
    );
    await checkpoint.close();
  });

  it('stores scales of F16 weights in F16', () => {
    const pairs = Float32Array.of(0.25, -1.5, 2 ** -24, 65504);
    const matrix = { name: 'a.weight', dtype: 'F16', shape: [2, 64] } as const;
    const pieces = [...mlxFormat(4, 64).scales(matrix, pairs)];
    expect(pieces.map(({ name, bytes }) => [name, ...new Uint16Array(bytes.buffer)])).toEqual([
      ['a.scales', 0x3400, 0x0001],
      ['a.biases', 0xbe00, 0x7bff],
    ]);
  });
});

async function expectOthersUntouched(
  checkpoint: Checkpoint<ModelConfig>,
  stored: Map<string, Stored>,
  isQuantised: (name: string) => boolean,
): Promise<void> {
  const others = [...stored.keys()].filter((name) => !isQuantised(name));
  expect(others).toContain('model.norm.weight');
  for (const name of others) {
    const { dtype, shape, bytes } = await original(checkpoint, name);
    expect(stored.get(name)).toMatchObject({ dtype, shape, bytes });
  }
}

it('leaves matrices that groups do not divide as they are, and refuses to leave all', async () => {
  const { checkpoint, stored } = await quantised('mistral', mlxFormat(4, 64));
  const names = [...stored.keys()].filter((name) => name.endsWith('.scales'));
  expect(names).toEqual([0, 1].map((layer) => `model.layers.${layer}.mlp.down_proj.scales`));
  await expectOthersUntouched(checkpoint, stored, (tensor) => tensor.includes('down_proj'));
  expect(() => planQuantised(checkpoint, mlxFormat(4, 128))).toThrow(/model: no matrix has rows .* groups of 128/);
  await checkpoint.close();
});

/** Bytes of every tensor of a model on the device, by name. */
async function load(checkpoint: LoadableCheckpoint<ModelConfig>): Promise<Map<string, ArrayBuffer>> {
  const weights = await loadWeights(gpu.device, gpu.kernels, checkpoint, 'f32');
  const bytes = new Map<string, ArrayBuffer>();
  for (const { label, buffer } of weightTensors(weights)) {
    bytes.set(label, await gpu.device.read(buffer!));
    gpu.device.destroyBuffer(buffer!);
  }
  await checkpoint.close();
  return bytes;
}

describe('quantising while loading gives what writing and reading gives', () => {
  it.each([
    ['nf4', nf4Format(false)],
    ['int4', mlxFormat(4, 64)],
    ['int8', mlxFormat(8, 64)],
  ] as const)('%s', async (packing, format) => {
    const { checkpoint, directory } = await quantised('llama', format);
    const written = await load(await openCheckpoint(directory, modelLayout));
    const quantisedOnLoad = await load(quantiseOnLoad(checkpoint, packing));
    expect([...quantisedOnLoad.keys()]).toEqual([...written.keys()]);
    expect([...written.keys()].filter((label) => label.endsWith('.codes')).length).toBe(packing === 'nf4' ? 14 : 16);
    for (const [label, bytes] of quantisedOnLoad)
      expect(Buffer.from(bytes).equals(Buffer.from(written.get(label)!)), label).toBe(true);
  });

  it('double quantisation keeps the codes and moves the scales by under a hundredth', async () => {
    const { checkpoint, directory } = await quantised('llama', nf4Format(true));
    const written = await load(await openCheckpoint(directory, modelLayout));
    for (const [label, bytes] of await load(quantiseOnLoad(checkpoint, 'nf4'))) {
      const stored = written.get(label)!;
      if (!label.endsWith('.scales')) expect(Buffer.from(bytes).equals(Buffer.from(stored)), label).toBe(true);
      else expect(relativeError(new Float32Array(stored), new Float32Array(bytes)), label).toBeLessThan(0.01);
    }
  });
});

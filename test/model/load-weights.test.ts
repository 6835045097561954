import { copyFile, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { modelLayout } from '../../models/index.js';
import { layerTensorName } from '../../models/tensors.js';
import { type Checkpoint, openCheckpoint } from '../../src/formats/checkpoint.js';
import { openFile, writeFileAtomic } from '../../src/formats/files.js';
import { mlxFormat } from '../../src/formats/mlx-writer.js';
import { nf4Format } from '../../src/formats/nf4-writer.js';
import type { QuantisedFormat } from '../../src/formats/quantised-format.js';
import { readHeader, readTensor, type TensorData, toFloat32 } from '../../src/formats/safetensors.js';
import { writeSafetensors } from '../../src/formats/safetensors-file.js';
import { writeShards } from '../../src/formats/safetensors-writer.js';
import { BatchUniform } from '../../src/gpu/batch.js';
import { BufferPool, Recorder } from '../../src/gpu/program.js';
import { createTensor, Tensor } from '../../src/gpu/tensor.js';
import { LanguageModel } from '../../src/model/language-model.js';
import { loadWeights } from '../../src/model/load-weights.js';
import { planQuantised, Quantizer, quantisedPieces } from '../../src/model/quantize-weights.js';
import { type Weights, weightBytes, weightsStandIn, weightTensors } from '../../src/model/weights.js';
import { dequantize, type Matrix } from '../../src/ops/dequantize.js';
import { temporaryDirectory } from '../formats/helpers.js';
import { floatCases, type GoldenCase, loadGolden, quantisedCases, readJson } from '../golden.js';
import { openTestGpu, type TestGpu } from '../gpu.js';
import { packAwq, packGptq, packNatural } from '../reference/packing.js';
import { randomSource, relativeError } from '../reference/random.js';
import { needsTier } from '../skip.js';
import { promptLogits } from './prompt-logits.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

/** Every matrix of a model by the name of its weight; of vocabularies the first part. */
function matrices({ embedding, head, layers }: Weights): Map<string, Matrix> {
  const found = new Map<string, Matrix>([['model.embed_tokens.weight', embedding.parts[0].weight]]);
  if (head !== embedding) found.set('lm_head.weight', head.parts[0].weight);
  for (const [i, { linear }] of layers.entries())
    for (const [module, { weight }] of Object.entries(linear))
      found.set(layerTensorName(i, module as keyof typeof linear), weight);
  return found;
}

/** What the kernels see of a matrix, unpacked to a type. */
async function unpack(matrix: Matrix, dtype: 'f16' | 'f32'): Promise<Float64Array> {
  const { device, kernels } = gpu;
  const halves = (bytes: ArrayBuffer) =>
    Float64Array.from(toFloat32(dtype === 'f16' ? 'F16' : 'F32', new Uint8Array(bytes)));
  if (matrix instanceof Tensor) return halves(await device.read(matrix.buffer!, 0, matrix.elements * 4));
  const y = createTensor(device, 'y', dtype, [matrix.n, matrix.k]);
  const recorder = new Recorder(kernels);
  dequantize({ recorder, operand: dtype, cpu: false }, matrix, y);
  const batch = new BatchUniform(device);
  const program = await recorder.realise(device, new BufferPool(device), batch.buffer);
  program.run();
  const values = halves(await device.read(y.buffer!, 0, y.elements * (dtype === 'f16' ? 2 : 4)));
  for (const buffer of [y.buffer!, batch.buffer]) device.destroyBuffer(buffer);
  program.destroy();
  return values;
}

function free(weights: Weights): void {
  for (const { buffer } of weightTensors(weights)) gpu.device.destroyBuffer(buffer!);
}

describe.each(quantisedCases)('quantised %s', (name) => {
  // So small that every tensor goes in pieces through all buffers.
  it.each([4096, undefined])('unpacks to its truth within an ulp of f16, staging %s', async (stagingBytes) => {
    const { directory, model } = loadGolden(name);
    const checkpoint = await openCheckpoint(join(directory, 'model'), modelLayout);
    let told = 0;
    const progress = (done: number) => {
      expect(done).toBeGreaterThan(told);
      told = done;
    };
    const before = gpu.device.allocatedBytes;
    const weights = await loadWeights(gpu.device, gpu.kernels, checkpoint, 'f32', { stagingBytes, progress });
    await checkpoint.close();
    expect(told).toBeGreaterThan(10_000);
    const planned = weightsStandIn(checkpoint.config, 'f32', gpu.device.maxBinding, checkpoint.packed);
    expect(gpu.device.allocatedBytes - before).toBe(weightBytes(planned));
    let packed = 0;
    for (const [matrix, weight] of matrices(weights)) {
      if (!(weight instanceof Tensor)) packed++;
      const truth = model.tensors.get(matrix)!;
      expect(relativeError(await unpack(weight, 'f32'), truth), matrix).toBeLessThan(1e-6);
      if (weight instanceof Tensor || !gpu.device.features.f16) continue;
      const ulps = (await unpack(weight, 'f16')).map((value, i) => Math.abs(value - truth[i]) / ulp(truth[i]));
      expect(Math.max(...ulps), matrix).toBeLessThanOrEqual(1);
    }
    expect(packed).toBe(7 * model.config.layers);
    free(weights);
  });
});

/** Of f16. */
function ulp(x: number): number {
  return 2 ** (Math.max(-14, Math.floor(Math.log2(Math.abs(x) || 2 ** -24))) - 10);
}

it('leaves nothing on the device where a file ends early', async () => {
  needsTier(gpu.device, 'f16');
  const from = join(loadGolden('nf4-double').directory, 'model');
  const directory = await temporaryDirectory();
  for (const file of ['config.json', 'model.safetensors']) await copyFile(join(from, file), join(directory, file));
  const checkpoint = await openCheckpoint(directory, modelLayout);
  await truncate(join(directory, 'model.safetensors'), 40_000);
  const before = gpu.device.allocatedBytes;
  const loading = loadWeights(gpu.device, gpu.kernels, checkpoint, 'f16', { stagingBytes: 4096 });
  await expect(loading).rejects.toThrow(/model\.safetensors is truncated: bytes \d+ to \d+ wanted/);
  expect(gpu.device.allocatedBytes).toBe(before);
  await checkpoint.close();
});

describe.each(floatCases)('plain %s', (name) => {
  it('comes as it is, in pieces', async () => {
    const { directory, model } = loadGolden(name);
    const checkpoint = await openCheckpoint(join(directory, 'model'), modelLayout);
    const weights = await loadWeights(gpu.device, gpu.kernels, checkpoint, 'f32', { stagingBytes: 1000 });
    await checkpoint.close();
    for (const [matrix, weight] of matrices(weights)) {
      const values = await unpack(weight, 'f32');
      const truth = model.tensors.get(matrix)!;
      expect(values.subarray(0, truth.length), matrix).toEqual(truth);
      expect(values.subarray(truth.length).every((value) => value === 0)).toBe(true);
    }
    free(weights);
  });
});

/** A golden model in a quantised format, as `lexalign quantize` writes it. */
async function quantised(name: GoldenCase, format: QuantisedFormat, settings: object = {}): Promise<string> {
  const source = join(loadGolden(name).directory, 'model');
  const checkpoint = await openCheckpoint(source, modelLayout);
  const plan = planQuantised(checkpoint, format);
  const quantizer = new Quantizer(gpu.device, gpu.kernels, plan.layout);
  const directory = await temporaryDirectory();
  const pieces = quantisedPieces(plan, quantizer, () => {});
  const { metadata } = format;
  await writeShards(
    directory,
    plan.tensors.map(({ written }) => written),
    pieces,
    { metadata },
  );
  quantizer.destroy();
  await checkpoint.close();
  const config = { ...readJson(join(source, 'config.json')), ...format.config(plan.dtype), ...settings };
  await writeFileAtomic(join(directory, 'config.json'), JSON.stringify(config));
  return directory;
}

/** Bytes of a tensor as floats or words. */
async function stored(checkpoint: Checkpoint<unknown>, name: string): Promise<ArrayLike<number>> {
  const tensor = checkpoint.tensors.get(name)!;
  const bytes = await readTensor(tensor.source, tensor);
  return tensor.dtype === 'U32' ? new Uint32Array(bytes.buffer) : toFloat32(tensor.dtype, bytes);
}

describe('what is written is read', () => {
  it.each([
    [4, 64],
    [8, 32],
  ] as const)("MLX's codes and scales, embedding and head too, %i bits", async (bits, group) => {
    const checkpoint = await openCheckpoint(await quantised('llama', mlxFormat(bits, group)), modelLayout);
    const weights = await loadWeights(gpu.device, gpu.kernels, checkpoint, 'f16', { stagingBytes: 3000 });
    for (const [name, weight] of matrices(weights)) {
      if (weight instanceof Tensor) throw new Error(`${name} is not packed`);
      const codes = new Uint32Array(await gpu.device.read(weight.codes.buffer!, 0, weight.codes.elements * 4));
      const words = await stored(checkpoint, name);
      expect(codes.subarray(0, words.length), name).toEqual(words);
      const pairs = new Float32Array(await gpu.device.read(weight.scales.buffer!, 0, weight.scales.elements * 4));
      const module = name.replace(/weight$/, '');
      const scales = await stored(checkpoint, `${module}scales`);
      const biases = await stored(checkpoint, `${module}biases`);
      expect(pairs.subarray(0, 2 * scales.length)).toEqual(
        Float32Array.from({ length: 2 * scales.length }, (_, i) => (i % 2 ? biases : scales)[i >> 1]),
      );
    }
    await checkpoint.close();
    free(weights);
  });

  it.each([false, true])("NF4's numbers are near the model's own, double quantisation %s", async (doubleQuant) => {
    needsTier(gpu.device, 'f16');
    const directory = await quantised('mistral', nf4Format(doubleQuant));
    const checkpoint = await openCheckpoint(directory, modelLayout);
    const weights = await loadWeights(gpu.device, gpu.kernels, checkpoint, 'f16', { stagingBytes: 4096 });
    const { tensors } = loadGolden('mistral').model;
    for (const [name, weight] of matrices(weights)) {
      if (weight instanceof Tensor) continue;
      // NF4 of normal numbers is off by about a tenth.
      const error = relativeError(await unpack(weight, 'f32'), tensors.get(name)!);
      expect(error, name).toBeLessThan(0.15);
      expect(error, name).toBeGreaterThan(0.02);
    }
    await checkpoint.close();
    free(weights);
  });
});

describe('a packed vocabulary larger than one binding', () => {
  it('is loaded, embedded and predicted in parts', async () => {
    const directory = await quantised('llama', mlxFormat(8, 32));
    const load = async () => {
      const checkpoint = await openCheckpoint(directory, modelLayout);
      const model = await LanguageModel.load(gpu.device, gpu.kernels, checkpoint, { tier: 'f32', maxPositions: 64 });
      await checkpoint.close();
      return model;
    };
    const whole = await load();
    const { hiddenSize, intermediateSize, vocabSize } = whole.config;
    const limit = hiddenSize * Math.max(intermediateSize, vocabSize / 3) * 4;
    Object.defineProperty(gpu.device, 'maxBinding', { value: Math.floor(limit / 256) * 256, configurable: true });
    onTestFinished(() => {
      Reflect.deleteProperty(gpu.device, 'maxBinding');
    });
    const parted = await load();
    for (const { parts } of [parted.weights.head, parted.weights.embedding]) expect(parts.length).toBeGreaterThan(1);
    const ids = [0, 1, 100, 200, vocabSize - 1];
    expect(await promptLogits(parted, null, ids)).toEqual(await promptLogits(whole, null, ids));
  });

  it.each(['gptq', 'awq'] as const)('is taken apart from what is stored column by column, %s', async (order) => {
    const name = order === 'gptq' ? 'gptq-v2-asym' : 'awq';
    const from = join(loadGolden(name).directory, 'model');
    const directory = await temporaryDirectory();
    const [n, k, groups] = [96, 64, 2];
    const random = randomSource(7);
    const draw = (count: number) => Uint8Array.from({ length: count }, () => Math.floor(16 * random()));
    const [codes, zeros, scale] = [draw(n * k), draw(n * groups), 2 ** -7];
    const source = await openFile(join(from, 'model.safetensors'));
    const tensors: TensorData[] = [];
    for (const info of (await readHeader(source)).tensors.values())
      tensors.push({ ...info, data: await readTensor(source, info) });
    await source.close();
    const bytes = (words: Uint32Array) => new Uint8Array(words.buffer);
    const transposed = Uint8Array.from(zeros, (_, i) => zeros[(i % groups) * n + Math.floor(i / groups)]);
    const [qweight, qzeros, shape] =
      order === 'gptq'
        ? [packGptq(codes, n, k), packNatural(zeros), [k / 8, n]]
        : [packAwq(codes, n, k), packAwq(transposed, n, groups), [k, n / 8]];
    const scales = new Uint8Array(new Float32Array(n * groups).fill(scale).buffer);
    tensors.push(
      { name: 'lm_head.qweight', dtype: 'I32', shape, data: bytes(qweight) },
      { name: 'lm_head.qzeros', dtype: 'I32', shape: [groups, n / 8], data: bytes(qzeros) },
      { name: 'lm_head.scales', dtype: 'F32', shape: [groups, n], data: scales },
    );
    await writeSafetensors(join(directory, 'model.safetensors'), tensors);
    const config = { ...readJson(join(from, 'config.json')), tie_word_embeddings: false };
    await writeFileAtomic(join(directory, 'config.json'), JSON.stringify(config));
    const checkpoint = await openCheckpoint(directory, modelLayout);
    Object.defineProperty(gpu.device, 'maxBinding', { value: 64 * 64 * 4, configurable: true });
    onTestFinished(() => {
      Reflect.deleteProperty(gpu.device, 'maxBinding');
    });
    const weights = await loadWeights(gpu.device, gpu.kernels, checkpoint, 'f32', { stagingBytes: 2048 });
    await checkpoint.close();
    const expected = Float64Array.from(codes, (code, i) => {
      const [row, group] = [Math.floor(i / k), Math.floor((i % k) / (k / groups))];
      return (code - zeros[group * n + row]) * scale;
    });
    expect(weights.head.parts.map(({ first, rows }) => [first, rows])).toEqual([
      [0, 64],
      [64, 32],
    ]);
    for (const { first, rows, weight } of weights.head.parts)
      expect(await unpack(weight, 'f32')).toEqual(expected.subarray(first * k, (first + rows) * k));
    free(weights);
  });

  it('a linear layer that is larger than that as it is packed is refused, not one that is so unpacked', async () => {
    needsTier(gpu.device, 'f16');
    const checkpoint = await openCheckpoint(join(loadGolden('nf4-double').directory, 'model'), modelLayout);
    const bind = (value: number) => Object.defineProperty(gpu.device, 'maxBinding', { value, configurable: true });
    onTestFinished(() => {
      Reflect.deleteProperty(gpu.device, 'maxBinding');
    });
    bind(64 * 64 * 2 - 256);
    free(await loadWeights(gpu.device, gpu.kernels, checkpoint, 'f16'));
    const before = gpu.device.allocatedBytes;
    bind(64 * 32 - 256);
    await expect(loadWeights(gpu.device, gpu.kernels, checkpoint, 'f16')).rejects.toThrow(
      'model.layers.0.self_attn.q_proj.weight needs 2048 bytes packed, more than the 1792 this device binds at once.',
    );
    expect(gpu.device.allocatedBytes).toBe(before);
    await checkpoint.close();
  });
});

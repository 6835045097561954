import { afterAll, beforeAll, expect, it } from 'vitest';
import { modelLayout } from '../../models/index.js';
import { linearShapes } from '../../models/tensors.js';
import { buildTrie } from '../../src/batch/trie.js';
import type { Adapter } from '../../src/formats/adapter.js';
import { openCheckpoint } from '../../src/formats/checkpoint.js';
import { readAdapter } from '../../src/formats/peft.js';
import { LanguageModel } from '../../src/model/language-model.js';
import { LossPrograms } from '../../src/model/loss-program.js';
import { Optimizer } from '../../src/train/optimizer.js';
import { type Golden, loadGolden } from '../golden.js';
import { openTestGpu, type TestGpu } from '../gpu.js';
import { loraName } from '../reference/decoder.js';
import { randomNormal, relativeError } from '../reference/random.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

/** [rows, from] with columns of zeros up to `to`. */
const widen = (values: Float32Array, from: number, to: number) =>
  Float32Array.from({ length: (values.length / from) * to }, (_, i) =>
    i % to < from ? values[Math.floor(i / to) * from + (i % to)] : 0,
  );

it('an adapter whose modules differ in rank and alpha: loss and gradients of the same adapter of one rank', async () => {
  const golden: Golden = loadGolden('llama');
  const checkpoint = await openCheckpoint(`${golden.directory}/model`, modelLayout);
  const model = await LanguageModel.load(gpu.device, gpu.kernels, checkpoint, { tier: 'f32', maxPositions: 64 });
  await checkpoint.close();
  const shapes = linearShapes(model.config);
  const uniform = await readAdapter(`${golden.directory}/adapter`, shapes);
  const { r, alpha } = uniform.config;
  const [q, v] = ['model.layers.0.self_attn.q_proj', 'model.layers.1.self_attn.v_proj'];
  // q of layer 0: rank 4 within 11, whose other columns of B are zero; v of layer 1: half of B at twice the scale.
  const wide = uniform.tensors.get(q)!;
  const halved = uniform.tensors.get(v)!;
  const more = Float32Array.from(randomNormal((11 - r) * shapes.get(q)!.in, 3));
  const adapter: Adapter = {
    config: { ...uniform.config, rankPattern: { [q]: 11 }, alphaPattern: { [q]: (alpha / r) * 11, [v]: 2 * alpha } },
    tensors: new Map([
      ...uniform.tensors,
      [q, { A: Float32Array.from([...wide.A, ...more]), B: widen(wide.B, r, 11) }],
      [v, { A: halved.A, B: halved.B.map((b) => b / 2) }],
    ]),
  };
  const weights = await model.addAdapter(adapter, { trainable: true });
  expect(await weights.download()).toEqual(adapter);
  const programs = new LossPrograms(model, { adapter: weights, backward: true });
  const trie = buildTrie(golden.batch);
  const { batch, program } = await programs.prepare(trie);
  const total = trie.edgeWeight.reduce((a, b) => a + b, 0);
  const logprobs = await program.run(batch, { gradScale: 1 / total, dropout: 0, seed: 0 });
  const loss = -logprobs.reduce((sum, logprob, i) => sum + logprob * trie.edgeWeight[i], 0) / total;
  expect(Math.abs(loss / golden.loss - 1)).toBeLessThan(1e-5);

  const gradients = await weights.downloadGradients();
  const expected = (path: string, matrix: 'A' | 'B') => {
    const [, layer, module] = /^model\.layers\.(\d+)\.(.*)$/.exec(path)!;
    return golden.gradients.get(loraName(Number(layer), module, matrix))!;
  };
  for (const [path, { A, B }] of gradients) {
    const rank = path === q ? 11 : r;
    const columns = Float64Array.from(B.filter((_, i) => i % rank < r));
    expect(
      relativeError(Float64Array.from(A.subarray(0, expected(path, 'A').length)), expected(path, 'A')),
    ).toBeLessThan(1e-4);
    const gradient = expected(path, 'B').map((value) => (path === v ? 2 * value : value));
    expect(relativeError(columns, gradient)).toBeLessThan(1e-4);
  }
  const { A, B } = gradients.get(q)!;
  expect(A.subarray(r * shapes.get(q)!.in).every((value) => value === 0)).toBe(true);
  expect(B.filter((_, i) => i % 11 >= r).some((value) => value !== 0)).toBe(true);

  // A step makes the operands of what it changed with each module's own scale, as they are made of what is uploaded.
  const adam = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, maxGradNorm: 0, loraPlusRatio: 1 };
  const optimizer = await Optimizer.create(model, weights.chunks, adam);
  expect((await optimizer.step(1e-2, 1)).finite).toBe(true);
  const after = await program.run(batch, { gradScale: 0, dropout: 0, seed: 0 });
  expect(after).not.toEqual(logprobs);
  const stepped = await weights.download();
  expect(stepped.config).toEqual(adapter.config);
  expect([...stepped.tensors.get(q)!.A].slice(-4)).toEqual([...more].slice(-4)); // B's columns were zero, no gradient
  await model.setAdapter(weights, stepped);
  expect(await program.run(batch, { gradScale: 0, dropout: 0, seed: 0 })).toEqual(after);
  optimizer.destroy();
  weights.destroy();
});

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openFile } from '../../src/formats/files.js';
import { readHeader, readTensor } from '../../src/formats/safetensors.js';
import { quantizeAffine, quantizeBlockwise, quantizeNf4 } from './quantize.js';

/** Bytes of every tensor of a golden case's model, and of its dequantised truth. */
async function load(name: string) {
  const directory = fileURLToPath(new URL(`../fixtures/golden/${name}`, import.meta.url));
  const read = async (path: string) => {
    const source = await openFile(path);
    const { tensors } = await readHeader(source);
    const bytes = new Map<string, Uint8Array>();
    for (const [tensor, info] of tensors) bytes.set(tensor, await readTensor(source, info));
    await source.close();
    return bytes;
  };
  const model = await read(`${directory}/model/model.safetensors`);
  const truth = await read(`${directory}/truth/model.safetensors`);
  return { model, truth, matrices: [...truth.keys()].filter((tensor) => tensor.endsWith('_proj.weight')) };
}

const floats = (bytes: Uint8Array) => new Float32Array(bytes.slice().buffer);
const nibble = (bytes: Uint8Array, i: number, highFirst: boolean) =>
  (i % 2 === 0) === highFirst ? bytes[i >> 1] >> 4 : bytes[i >> 1] & 15;
const state = (bytes: Uint8Array) => JSON.parse(new TextDecoder().decode(bytes));

describe('the reference quantisers give the codes of golden checkpoints back', () => {
  it.each(['nf4-plain', 'nf4-double'])('%s', async (name) => {
    const golden = await load(name);
    for (const matrix of golden.matrices) {
      const { codes, scales, margins } = quantizeNf4(floats(golden.truth.get(matrix)!));
      const stored = golden.model.get(matrix)!;
      expect(Math.min(...margins)).toBeGreaterThan(0.01);
      expect(codes).toEqual(Uint8Array.from(codes, (_, i) => nibble(stored, i, true)));
      const absmax = golden.model.get(`${matrix}.absmax`)!;
      if (name === 'nf4-plain') {
        expect(Float32Array.from(scales)).toEqual(floats(absmax));
        continue;
      }
      const { nested_offset } = state(golden.model.get(`${matrix}.quant_state.bitsandbytes__nf4`)!);
      const levels = floats(golden.model.get(`${matrix}.nested_quant_map`)!);
      const nested = quantizeBlockwise(scales, nested_offset, levels);
      expect(nested.codes).toEqual(absmax);
      const [largest] = floats(golden.model.get(`${matrix}.nested_absmax`)!);
      // The largest magnitude lies at 1, or at −0.99297, the lowest level.
      expect(nested.scales[0] / largest).toBeGreaterThan(0.9929);
      expect(nested.scales[0] / largest).toBeLessThan(1 + 1e-6);
    }
  });

  it('mlx, in groups that use the first and the last code', async () => {
    const golden = await load('mlx');
    let whole = 0;
    for (const matrix of golden.matrices) {
      const { codes, offsets } = quantizeAffine(floats(golden.truth.get(matrix)!), 64, 4);
      const packed = golden.model.get(matrix)!;
      const biases = golden.model.get(matrix.replace('weight', 'biases'))!;
      const widened = Uint32Array.from(new Uint16Array(biases.slice().buffer), (half) => half << 16);
      const stored = Uint8Array.from(codes, (_, i) => nibble(packed, i, false));
      offsets.forEach((offset, g) => {
        const of = stored.subarray(64 * g, 64 * g + 64);
        // Else the group spans less than its codes do, and quantised again it gets a finer scale.
        if (!of.includes(0) || !of.includes(15)) return;
        whole++;
        expect(codes.subarray(64 * g, 64 * g + 64)).toEqual(of);
        expect(offset).toBe(new Float32Array(widened.buffer)[g]);
      });
    }
    expect(whole).toBeGreaterThan(200);
  });
});

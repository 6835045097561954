import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type StagedRead, Staging } from '../../src/gpu/staging.js';
import { createTensor } from '../../src/gpu/tensor.js';
import { convert } from '../../src/ops/convert.js';
import { openTestGpu, type TestGpu } from '../gpu.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

/** Words first, first + 1, …, after some milliseconds. */
function wordsFrom(first: number, count: number, late: number): StagedRead {
  const read = async (into: Uint8Array) => {
    await delay(late);
    new Uint32Array(into.buffer, into.byteOffset, count).forEach((_, i, words) => {
      words[i] = first + i;
    });
  };
  return { bytes: 4 * count, read };
}

describe('staging', () => {
  it.each([1, 3])('brings every piece to its place, whichever read ends first; %i buffers', async (slots) => {
    const { device, kernels } = gpu;
    const before = device.allocatedBytes;
    const staging = new Staging(device, kernels, slots, 2000);
    const count = 3000;
    const copied = createTensor(device, 'copied', 'u32', [count]);
    const converted = createTensor(device, 'converted', 'f32', [2 * count]);
    for (let at = 0, turn = 0; at < count; turn++) {
      const words = Math.min(count - at, 1 + ((turn * 37) % 110));
      await staging.copy(wordsFrom(at, words, (turn * 7) % 5), copied, 4 * at);
      // The second range of each piece: words as pairs of f16.
      const reads = [wordsFrom(0, 1, 1), wordsFrom(at, words, (turn * 5) % 4)];
      const first = 2 * at;
      await staging.convert(reads, (recorder, [, raw]) =>
        convert({ recorder, operand: 'f32', cpu: false }, { raw, y: converted, from: 'f16', count: 2 * words, first }),
      );
      at += words;
    }
    await staging.finish();
    await staging.close();
    expect(device.allocatedBytes - before).toBe(copied.bytes + converted.bytes);
    const words = new Uint32Array(await device.read(copied.buffer!));
    expect(words.findIndex((word, i) => word !== i)).toBe(-1);
    // Small words are subnormal halves.
    const halves = new Float32Array(await device.read(converted.buffer!)).filter((_, i) => i % 2 === 0);
    expect(halves.findIndex((value, i) => i < 1024 && value !== i * 2 ** -24)).toBe(-1);
    expect(halves[2999]).toBeGreaterThan(halves[2998]);
    device.destroyBuffer(copied.buffer!);
    device.destroyBuffer(converted.buffer!);
  });

  it('says how much room is left', async () => {
    const staging = new Staging(gpu.device, gpu.kernels, 2, 1000);
    const tensor = createTensor(gpu.device, 'tensor', 'u32', [200]);
    expect(staging.room(1)).toBe(1024);
    await staging.copy(wordsFrom(0, 65, 0), tensor, 0);
    expect([staging.room(512), staging.room(513)]).toEqual([512, 1024]);
    await expect(staging.copy(wordsFrom(0, 257, 0), tensor, 0)).rejects.toThrow(/1024 bytes: 1280 bytes asked for/);
    await staging.finish();
    await staging.close();
  });

  it('throws what a read threw, and waits for the others', async () => {
    const before = gpu.device.allocatedBytes;
    const staging = new Staging(gpu.device, gpu.kernels, 2, 1024);
    const tensor = createTensor(gpu.device, 'tensor', 'u32', [256]);
    let [begun, ended] = [0, 0];
    const load = async () => {
      for (let turn = 0; turn < 8; turn++) {
        const { bytes, read } = wordsFrom(0, 128, 20);
        const failing = async (into: Uint8Array) => {
          begun++;
          await read(into);
          ended++;
          if (turn === 1) throw new Error('the disk is gone');
        };
        await staging.copy({ bytes, read: failing }, tensor, 0);
      }
      await staging.finish();
    };
    await expect(load()).rejects.toThrow('the disk is gone');
    await staging.close();
    expect(begun).toBeGreaterThan(1);
    expect(ended).toBe(begun);
    gpu.device.destroyBuffer(tensor.buffer!);
    expect(gpu.device.allocatedBytes).toBe(before);
  });
});

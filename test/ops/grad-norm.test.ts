import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gradNorm } from '../../src/ops/grad-norm.js';
import { OpRun, openTestGpu, rounded, type TestGpu } from '../gpu.js';
import * as reference from '../reference/grad-norm.js';
import { randomNormal } from '../reference/random.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

async function run(chunks: readonly Float64Array[], unscale = 1): Promise<Float64Array> {
  const op = new OpRun(gpu, 'f32');
  const norm = op.output('norm', 'f32', [2]);
  gradNorm(op.ctx, { gradients: chunks.map((chunk) => op.input('gradients', 'f32', [chunk.length], chunk)), norm });
  await op.run({ unscale });
  return op.read(norm);
}

const relative = (actual: number, expected: number) => Math.abs(actual / expected - 1);

describe('grad-norm', () => {
  it.each([[[64]], [[4096]], [[4160, 64, 8192]], [[320 * 1024]]])(
    'is the L2 norm of chunks of %j elements without the loss scale',
    async (sizes) => {
      const chunks = sizes.map((size, i) => rounded('f32', randomNormal(size, i + 1, 10)));
      const [norm, bad] = await run(chunks, 1 / 1024);
      expect(relative(norm, reference.gradNorm(chunks) / 1024)).toBeLessThan(1e-5);
      expect(bad).toBe(0);
    },
  );

  it('is zero for zeros', async () => {
    expect([...(await run([new Float64Array(64)]))]).toEqual([0, 0]);
  });

  it('squares gradients as large as a loss scale of 2^24 makes them without overflow', async () => {
    const chunk = rounded('f32', randomNormal(4096, 1, 1e24));
    const [norm, bad] = await run([chunk], 2 ** -24);
    expect(relative(norm, reference.gradNorm([chunk]) * 2 ** -24)).toBeLessThan(1e-5);
    expect(bad).toBe(0);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    'flags one %d wherever it stands',
    async (poison) => {
      const clean = rounded('f32', randomNormal(4160, 1));
      for (const at of [0, 63, 4095, 4159]) {
        for (const chunk of [0, 1]) {
          const chunks = [clean.slice(), clean.slice()];
          chunks[chunk][at] = poison;
          expect((await run(chunks))[1], `element ${at} of chunk ${chunk}`).toBe(1);
        }
      }
    },
  );

  it('flags a norm whose square is past f32', async () => {
    expect((await run([new Float64Array(64).fill(1e20)]))[1]).toBe(1);
  });
});

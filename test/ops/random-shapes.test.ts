import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { MatmulProblem } from '../../src/ops/matmul-tile.js';
import { OpRun, openTestGpu, type TestGpu, tiers } from '../gpu.js';
import { makeHostile } from '../hostile-workgroups.js';
import { relativeError } from '../reference/random.js';
import { noMatrices, skip } from '../skip.js';
import { attentions } from './random-shapes/attention.js';
import { decodings } from './random-shapes/decoding.js';
import { Draw } from './random-shapes/draw.js';
import { others } from './random-shapes/others.js';
import { packing } from './random-shapes/packing.js';
import { ppo } from './random-shapes/ppo.js';
import { products, smallTile } from './random-shapes/products.js';

const randomCases = { ...products, ...attentions, ...decodings, ...others, ...packing, ...ppo };

/** Shapes of each kernel: LEXALIGN_SHAPES=5000 tries more. */
const shapes = Number(process.env.LEXALIGN_SHAPES ?? 200);

/** Without and, with bounds checks, in hostile workgroups: every other shape. */
let devices: TestGpu[];
beforeAll(async () => {
  devices = [await openTestGpu(), await openTestGpu({ debug: true })];
  makeHostile(devices[1]);
});
afterAll(async () => {
  for (const device of devices) await device.close();
});

it('knows every kernel', () => {
  const kernels = readdirSync('kernels').filter((file) => file.endsWith('.wgsl'));
  expect(kernels.map((file) => file.replace('.wgsl', '')).filter((name) => !(name in randomCases))).toEqual([]);
});

describe.each(Object.keys(randomCases))('%s at random shapes', (name) => {
  const { kernel = name, form, record, tiers: wanted = tiers } = randomCases[name];

  it(`${shapes} of them, within the tolerance and nowhere else`, { timeout: 20_000 + 1000 * shapes }, async () => {
    const matrix = devices[0].device.matrixUnits[0];
    if (form === 'matrices' && !matrix) skip(noMatrices);
    const taken = wanted.filter((tier) => tier === 'f32' || devices[0].device.features.f16);
    if (taken.length === 0) skip('this device has no f16 tier');
    const forms = (seed: number) => ({
      cpu: form === 'direct',
      subgroups: form === 'rows',
      matrix: form === 'matrices' ? matrix : undefined,
      tuned: (problem: MatmulProblem) => {
        const turned = problem.form === 'nn' && !problem.packed && seed % 4 > 1;
        return form === 'rows'
          ? 'rows'
          : ({ ...smallTile, UNPACK: problem.packed ? 1 : 0, TURN: turned ? 1 : 0 } as const);
      },
    });
    for (let seed = 1; seed <= shapes; seed++) {
      const tier = taken[seed % taken.length];
      const gpu = devices[Math.floor(seed / taken.length) % 2];
      const op = new OpRun(gpu, tier, forms(seed));
      const { batch, checks } = record(op, tier, new Draw(seed));
      expect([...op.kernels]).toContain(kernel);
      // Packed weights that matrix units unpack themselves are not unpacked before.
      if (kernel === 'matmul-tensor') expect(op.kernels.has('dequantize')).toBe(false);
      await op.run(batch);
      for (const { tensor, expected, limit } of checks) {
        const actual = await op.read(tensor);
        const where = `seed ${seed}, ${tier}, ${tensor.label} [${tensor.shape}]`;
        if (expected.length)
          expect(relativeError(actual.subarray(0, expected.length), expected), where).toBeLessThan(limit);
        expect(actual.subarray(expected.length).every(Number.isNaN), `${where}, past the end`).toBe(true);
      }
      op.destroy();
    }
  });
});

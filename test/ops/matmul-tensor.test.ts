import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { matmul } from '../../src/ops/matmul.js';
import type { TensorTile } from '../../src/ops/matmul-tile.js';
import { OpRun, openTestGpu, type TestGpu } from '../gpu.js';
import { noMatrices, skip } from '../skip.js';
import { testTensorMatmul } from './matmul-tensor-check.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

/** Small settings, together using every one of the generator's ways. */
const settings: Record<string, TensorTile> = {
  'matrices loaded from the tensors': {
    GM: 1,
    GN: 2,
    TM: 2,
    TN: 1,
    BK: 8,
    PAD: 0,
    STAGES: 0,
    GROUP: 2,
    UNPACK: 0,
    TURN: 0,
  },
  'one buffer, padded': { GM: 2, GN: 1, TM: 1, TN: 2, BK: 16, PAD: 1, STAGES: 1, GROUP: 3, UNPACK: 0, TURN: 0 },
  'x·w with w turned': { GM: 1, GN: 3, TM: 2, TN: 1, BK: 16, PAD: 1, STAGES: 2, GROUP: 1, UNPACK: 0, TURN: 1 },
  'two buffers, a tile no multiple of the threads': {
    GM: 1,
    GN: 3,
    TM: 1,
    TN: 1,
    BK: 8,
    PAD: 0,
    STAGES: 2,
    GROUP: 1,
    UNPACK: 0,
    TURN: 0,
  },
};
describe.each(Object.keys(settings))('matmul on matrix units, %s', (name) => {
  const tile = settings[name];
  const start = () => {
    const [matrix] = gpu.device.matrixUnits;
    return matrix ? new OpRun(gpu, 'f16', { cpu: false, matrix, tuned: () => tile }) : skip(noMatrices);
  };

  testTensorMatmul(start, { staged: tile.STAGES > 0 });
});

it('refuses a transposed x where there are no matrix units', () => {
  const op = new OpRun(gpu, 'f16');
  const make = (shape: number[]) => op.output('t', 'f16', shape);
  const wrong = () =>
    matmul(op.ctx, {
      label: 'test',
      form: 'tn',
      x: make([9, 8]),
      w: make([9, 16]),
      c: make([8, 16]),
      n: 16,
      k: 9,
      count: 'batch.rows',
    });
  expect(wrong).toThrow(/8x16x9 .*'tn'.*no kernel takes this shape/);
});

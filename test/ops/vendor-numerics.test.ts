import { afterAll, beforeAll, describe, it } from 'vitest';
import type { MatrixUnits } from '../../src/gpu/device.js';
import { defaultTensorTile, type MatmulProblem, type TensorTile } from '../../src/ops/matmul-tile.js';
import { OpRun, openTestGpu, type TestGpu } from '../gpu.js';
import { makeHostile } from '../hostile-workgroups.js';
import { checkAttention, tries } from './attention-check.js';
import { emulateOn } from './emulated-matrices.js';
import { testTensorMatmul } from './matmul-tensor-check.js';
import { vendorUnits } from './vendor-units.js';

/** Widths of heads; each is compiled for 5 s to a minute, so every maker has one. */
const headDims: Readonly<Record<string, number>> = { NVIDIA: 96, AMD: 32, Intel: 64, 'Intel Arc A': 96, Apple: 16 };

// The software driver's matrices are 8x8x8 in subgroups of 8 lanes. Here kernels compute with the shapes and subgroups of
// real cards, emulated in plain WGSL: where rows, columns and depth differ, what confuses them comes out wrong.
let gpu: TestGpu;
let matrix: MatrixUnits;
beforeAll(async () => {
  gpu = await openTestGpu();
  makeHostile(gpu);
  emulateOn(gpu, () => matrix.subgroup);
});
afterAll(() => gpu.close());

describe.each(Object.entries(vendorUnits))('on %s', (name, units) => {
  const tile = (problem: MatmulProblem): TensorTile => {
    const { TURN } = defaultTensorTile(units, false, problem);
    return { GM: 2, GN: 1, TM: 1, TN: 2, BK: 2 * units.k, PAD: 1, STAGES: 1, GROUP: 2, UNPACK: 0, TURN };
  };
  const start = () => {
    matrix = units;
    return new OpRun(gpu, 'f16', { cpu: false, matrix, tuned: tile });
  };
  testTensorMatmul(start, { staged: true, brief: units.m === units.n });

  const headDim = headDims[name.split(':')[0]];
  it(`attention with heads of ${headDim}, forward and backward`, { timeout: 600_000 }, async () => {
    matrix = units;
    const shape = { heads: 4, kvHeads: 2, headDim, window: null };
    await checkAttention(gpu, { tier: 'f16', cpu: false, matrix: () => units }, tries['random prefixes'], shape);
  });
});

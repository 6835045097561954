import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Recorder } from '../../src/gpu/program.js';
import { type DType, standIn } from '../../src/gpu/tensor.js';
import { loraGradient } from '../../src/ops/lora-gradient.js';
import type { TensorTile } from '../../src/ops/matmul-tile.js';
import { OpRun, openTestGpu, rounded, type TestGpu, tiers } from '../gpu.js';
import { matmulTN } from '../reference/matmul.js';
import { randomNormal, relativeError } from '../reference/random.js';
import { vendorUnits } from './vendor-units.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

/** `rows` of `capacity` are live; splits: one per 64 rows of capacity, as many as keep the device busy. */
const shapes = [
  { rows: 1, capacity: 1, rank: 4, columns: 4 },
  { rows: 17, capacity: 24, rank: 24, columns: 132 },
  { rows: 201, capacity: 333, rank: 12, columns: 36 },
  { rows: 3, capacity: 256, rank: 20, columns: 260 },
  { rows: 300, capacity: 333, rank: 16, columns: 72 },
  { rows: 5, capacity: 5, rank: 8, columns: 8 },
  { rows: 500, capacity: 600, rank: 136, columns: 8 }, // a rank beyond which parts are longer
];

const small: TensorTile = { GM: 1, GN: 2, TM: 1, TN: 1, BK: 16, PAD: 1, STAGES: 1, GROUP: 1, UNPACK: 0, TURN: 0 };

describe.each(tiers)('lora-gradient, %s', (tier) => {
  describe.each(['direct', 'registers', ...(tier === 'f16' ? ['matrices'] : [])])('%s', (form) => {
    const cpu = form === 'direct';
    const matrix = () => (form === 'matrices' ? gpu.device.matrixUnits[0] : undefined);
    /** Matrix units want multiples of 8. */
    const taken = shapes.filter(({ rank, columns }) => form !== 'matrices' || (rank % 8 === 0 && columns % 8 === 0));

    it.each(taken)('adds alpha · Σ skinny ⊗ wide in both layouts: %o', async ({ rows, capacity, rank, columns }) => {
      const unused = (width: number) => new Array((capacity - rows) * width).fill(Number.NaN);
      const skinny = rounded(tier, [...randomNormal(rows * rank, 1), ...unused(rank)]);
      const wide = rounded(tier, [...randomNormal(rows * columns, 2), ...unused(columns)]);
      const start = rounded('f32', randomNormal(rank * columns, 3));
      const op = new OpRun(gpu, tier, { cpu, matrix: matrix(), tuned: () => small });
      const tensors = {
        skinny: op.input('skinny', tier, [capacity, rank], skinny),
        wide: op.input('wide', tier, [capacity, columns], wide),
      };
      const a = op.input('a', 'f32', [rank, columns], start);
      const b = op.input('b', 'f32', [columns, rank], start);
      const common = { label: 'test', rank, columns, alpha: 0.25, ...tensors };
      loraGradient(op.ctx, { ...common, layout: 'a', gradient: a });
      loraGradient(op.ctx, { ...common, layout: 'b', gradient: b });
      expect(op.kernels.has('matmul-tensor')).toBe(matrix() !== undefined);
      await op.run({ rows });
      const [s, w] = [skinny.subarray(0, rows * rank), wide.subarray(0, rows * columns)];
      const add = (product: Float64Array) => product.map((value, i) => 0.25 * value + start[i]);
      // Sums are f32 whatever the operands.
      expect(relativeError(await op.read(a), add(matmulTN(s, w, rows, rank, columns)))).toBeLessThan(1e-5);
      expect(relativeError(await op.read(b), add(matmulTN(w, s, rows, columns, rank)))).toBeLessThan(1e-5);
    });
  });
});

it('takes no more memory for parts of a sum than for what is summed, whatever the rank', () => {
  const [rows, rank, columns] = [4096, 512, 64];
  const recorder = new Recorder(gpu.kernels);
  const matrix = vendorUnits['NVIDIA: 16x16x16, 32 lanes'];
  const wide = standIn('wide', 'f16', [rows, columns]);
  const common = { label: 'test', skinny: standIn('skinny', 'f16', [rows, rank]), wide, rank, columns, alpha: 1 };
  const ctx = { recorder, operand: 'f16', cpu: false, matrix } as const;
  loraGradient(ctx, { ...common, layout: 'a', gradient: standIn('a', 'f32', [rank, columns]) });
  loraGradient(ctx, { ...common, layout: 'b', gradient: standIn('b', 'f32', [columns, rank]) });
  expect(recorder.plan().slots).toEqual([wide.bytes]);
});

describe('lora-gradient of mixed types', () => {
  it.each([
    ['f16', 'f32'],
    ['f32', 'f16'],
  ] as [DType, DType][])('skinny %s, wide %s', async (skinnyType, wideType) => {
    const [rows, rank, columns] = [33, 8, 20];
    const skinny = rounded(skinnyType, randomNormal(rows * rank, 1));
    const wide = rounded(wideType, randomNormal(rows * columns, 2));
    const op = new OpRun(gpu, 'f16');
    const gradient = op.input('gradient', 'f32', [rank, columns], new Float64Array(rank * columns));
    loraGradient(op.ctx, {
      label: 'test',
      layout: 'a',
      skinny: op.input('skinny', skinnyType, [rows, rank], skinny),
      wide: op.input('wide', wideType, [rows, columns], wide),
      gradient,
      rank,
      columns,
      alpha: 1,
    });
    await op.run({ rows });
    expect(relativeError(await op.read(gradient), matmulTN(skinny, wide, rows, rank, columns))).toBeLessThan(1e-5);
  });
});

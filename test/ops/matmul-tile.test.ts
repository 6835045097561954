import { expect, it } from 'vitest';
import { defaultTensorTile, type MatmulProblem, rowsTile, tensorTile } from '../../src/ops/matmul-tile.js';
import { vendorUnits } from './vendor-units.js';

const problem: MatmulProblem = { form: 'nt', dtype: 'f16', m: 64, n: 256, k: 128, rank: 16, packed: null };
const nf4: MatmulProblem = { ...problem, packed: { format: 'nf4', ordered: true } };

it('leaves room for the levels of NF4 beside the tiles', () => {
  const units = vendorUnits['NVIDIA: 16x16x16, 32 lanes'];
  const settings = { ...defaultTensorTile(units, false, nf4), UNPACK: 1 } as const;
  const tile = tensorTile(units, nf4, settings)!;
  const { BM, BN, BK, PAD } = tile.defines as Record<string, number>;
  const workgroupBytes = 16 * (BM + BN) * (BK / 8 + PAD);
  expect(tensorTile({ ...units, workgroupBytes }, problem, { ...settings, UNPACK: 0 })).not.toBeNull();
  expect(tensorTile({ ...units, workgroupBytes: workgroupBytes + 63 }, nf4, settings)).toBeNull();
  expect(tensorTile({ ...units, workgroupBytes: workgroupBytes + 64 }, nf4, settings)).not.toBeNull();
});

it('gives the form of few rows no more columns than a dispatch has workgroups for', () => {
  expect(rowsTile({ ...problem, m: 8, n: 4 * 65_535 })).not.toBeNull();
  expect(rowsTile({ ...problem, m: 8, n: 4 * 65_536 })).toBeNull();
});

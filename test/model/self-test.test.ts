import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { kernelSource } from '../../src/cli/kernel-source.js';
import { KernelCache } from '../../src/gpu/kernels.js';
import { candidates, checkCandidate } from '../../src/model/self-test.js';
import { openTestGpu, type TestGpu } from '../gpu.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

/** The kernels with one piece of text replaced. */
const corrupted = (from: string, to: string) =>
  new KernelCache(gpu.device, (path) => kernelSource()(path).replaceAll(from, to));

it('passes every tier and shape of matrices that the device offers', async () => {
  const offered = candidates(gpu.device);
  expect(offered.at(-1)).toEqual({ tier: 'f32' });
  for (const candidate of offered)
    expect(await checkCandidate(gpu.device, gpu.kernels, candidate)).toMatchObject({ ...candidate, ok: true });
});

it('passes the forms without matrix units in the thorough test too, which CPUs are spared otherwise', async () => {
  for (const tier of ['f16', 'f32'] as const)
    expect(await checkCandidate(gpu.device, gpu.kernels, { tier }, true)).toMatchObject({ tier, ok: true });
});

describe('names what computes wrongly', () => {
  it.each([
    ['var value = sum * p.alpha;', 'var value = sum * 1.01;', /matmul 'nt' is off by 1\.0e-2/],
    ['exp(', 'exp(1.05 * ', /attention o at head_dim 64 is off by/],
    ['(dp', '(1.1 * dp', /attention d\w at head_dim 64 is off by/],
  ])('%s turned into %s', async (from, to, detail) => {
    const check = await checkCandidate(gpu.device, corrupted(from, to), { tier: 'f32' });
    expect(check).toMatchObject({ ok: false, detail: expect.stringMatching(detail) });
  });

  it("an adapter's share, in the thorough test", async () => {
    const wrong = () => corrupted("'p.k' : 'p.r'", "'p.k' : '4u'");
    const check = await checkCandidate(gpu.device, wrong(), { tier: 'f32' }, true);
    expect(check).toMatchObject({ ok: false, detail: expect.stringMatching(/whole tile of matmul 'nt' is off by/) });
    expect(await checkCandidate(gpu.device, wrong(), { tier: 'f32' }, false)).toMatchObject({ ok: true });
  });

  it('in matrix units', async () => {
    const [matrix] = gpu.device.matrixUnits;
    if (!matrix) return console.log('skipped: this device has no matrix units with f32 sums');
    const wrong = corrupted('subgroupMatrixLoad<Right, col_major>', 'subgroupMatrixLoad<Right, row_major>');
    const check = await checkCandidate(gpu.device, wrong, { tier: 'tensor', matrix });
    expect(check).toMatchObject({ name: 'tensor on matrices of 8x8x8 of f16', ok: false });
    expect(check.detail).toMatch(/matmul 'nt' is off by/);
  });

  it('a kernel that does not compile', async () => {
    const broken = new KernelCache(gpu.device, (path) => `${kernelSource()(path)}\nfn`);
    const check = await checkCandidate(gpu.device, broken, { tier: 'f32' });
    expect(check).toMatchObject({ ok: false, detail: expect.stringMatching(/does not compile/) });
  });
});

it('leaves out matrix units that were dropped', () => {
  const [matrix] = gpu.device.matrixUnits;
  if (!matrix) return console.log('skipped: this device has no matrix units with f32 sums');
  const before = candidates(gpu.device).length;
  gpu.device.dropMatrix(matrix);
  expect(gpu.device.matrixUnits).not.toContainEqual(matrix);
  expect(candidates(gpu.device)).toHaveLength(before - 1);
});

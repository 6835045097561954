import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { kernelSource } from '../../src/cli/kernel-source.js';
import { KernelCache } from '../../src/gpu/kernels.js';
import { candidates, checkCandidate, gradient, long, packed } from '../../src/model/self-test.js';
import { Check, gradientError, matmulError } from '../../src/model/self-test-parts.js';
import { openTestGpu, type TestGpu } from '../gpu.js';
import { needsTier, noMatrices, skip } from '../skip.js';

let gpu: TestGpu;
/** Takes the forms that GPUs get. */
let asOnGpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
  asOnGpu = await openTestGpu({ cpu: false });
});
afterAll(async () => {
  await gpu.close();
  await asOnGpu.close();
});

/** The kernels with one piece of text replaced. */
const corrupted = (from: string, to: string, { device } = gpu) =>
  new KernelCache(device, (path) => kernelSource()(path).replaceAll(from, to));

it('passes every tier and shape of matrices that the device offers', async () => {
  const offered = candidates(gpu.device);
  expect(offered.at(-1)).toEqual({ tier: 'f32' });
  for (const candidate of offered)
    expect(await checkCandidate(gpu.device, gpu.kernels, candidate)).toMatchObject({ ...candidate, ok: true });
});

it('passes the forms without matrix units in the thorough test too, which CPUs are spared otherwise', async () => {
  needsTier(gpu.device, 'f16');
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

  it.each([
    ['value += bias[p.cColumn / 4u + quad];', '', /matmul with a long sum, adapter and bias is off/],
    ['level[1] * unit.scale.x', 'level[0] * unit.scale.x', /matmul 'nt' of nf4 weights is off/],
    ['fma(level[1], vec4f(s.x), vec4f(s.y))', 'level[1] * s.x', /matmul 'nt' of affine4 weights is off/],
    ['vec4f(unpack2x16float(a.z), unpack2x16float(a.w))', 'vec4f()', /matmul of few rows of nf4 weights is off/],
    ['p.rowsPerSplit; m < end', 'p.rowsPerSplit + 1u; m < end', /gradient of lora_A is off/],
  ])('%s turned into %s, in the thorough test', async (from, to, detail) => {
    needsTier(asOnGpu.device, 'f16');
    const wrong = () => corrupted(from, to, asOnGpu);
    const check = await checkCandidate(asOnGpu.device, wrong(), { tier: 'f16' });
    expect(check).toMatchObject({ ok: false, detail: expect.stringMatching(detail) });
    expect(await checkCandidate(asOnGpu.device, wrong(), { tier: 'f16' }, false)).toMatchObject({ ok: true });
  });

  // One by one: a CPU driver takes long to compile all that a GPU has in this tier.
  it.each<[string, string, string, number, (check: Check) => Promise<number>]>([
    [
      'unpacks as it stages',
      'unpack(unit)',
      'unpack(Packed(unit.codes, 1.01 * unit.scale))',
      1e-3,
      (check) => matmulError(check, 'nt', { ...packed, packed: 'nf4' }),
    ],
    ['splits a sum', "'select(0u, p.r, wg.z == 0u)'", "'p.r'", 1e-5, (check) => matmulError(check, 'nt', long)],
    [
      'sums gradients',
      'min(first + p.split, live)',
      'min(first + p.split, live + 1u)',
      1e-5,
      (check) => gradientError(check, 'b', gradient),
    ],
  ])('where a kernel of matrix units %s', async (_, from, to, allowed, measure) => {
    const [matrix] = asOnGpu.device.matrixUnits;
    if (!matrix) skip(noMatrices);
    const error = async (kernels: KernelCache) => {
      const check = new Check(asOnGpu.device, kernels, { tier: 'tensor', matrix });
      onTestFinished(() => check.destroy());
      return measure(check);
    };
    expect(await error(asOnGpu.kernels)).toBeLessThan(allowed);
    expect(await error(corrupted(from, to, asOnGpu))).toBeGreaterThan(2 * allowed);
  });

  it('in matrix units', async () => {
    const [matrix] = gpu.device.matrixUnits;
    if (!matrix) skip(noMatrices);
    const wrong = corrupted('subgroupMatrixLoad<Right, col_major>', 'subgroupMatrixLoad<Right, row_major>');
    const check = await checkCandidate(gpu.device, wrong, { tier: 'tensor', matrix });
    expect(check).toMatchObject({ name: 'tensor on matrices of 8x8x8 of f16', ok: false });
    expect(check.detail).toMatch(/matmul 'nt' is off by/);
  });

  it('a kernel that does not compile', async () => {
    const broken = new KernelCache(gpu.device, (path) => `${kernelSource()(path)}\nfn`);
    const check = await checkCandidate(gpu.device, broken, { tier: 'f32' });
    expect(check).toMatchObject({ ok: false, detail: expect.stringMatching(/does not compile/) });
    // What the device has to say of it is not held against another candidate.
    expect(await checkCandidate(gpu.device, gpu.kernels, { tier: 'f32' })).toMatchObject({ ok: true });
  });
});

it('leaves out matrix units that were dropped', () => {
  const [matrix] = gpu.device.matrixUnits;
  if (!matrix) skip(noMatrices);
  const before = candidates(gpu.device).length;
  gpu.device.dropMatrix(matrix);
  expect(gpu.device.matrixUnits).not.toContainEqual(matrix);
  expect(candidates(gpu.device)).toHaveLength(before - 1);
});

it('leaves out matrix units too where subgroups were dropped, and has no forms without them to try then', async () => {
  needsTier(gpu.device, 'f16');
  const own = await openTestGpu({ cpu: false });
  onTestFinished(() => own.close());
  const without = candidates(own.device).filter(({ subgroups }) => subgroups === false);
  expect(without.map(({ tier }) => tier)).toEqual(['f16', 'f32']);
  own.device.dropSubgroups();
  expect(own.device.matrixUnits).toEqual([]);
  expect(candidates(own.device)).toEqual([{ tier: 'f16' }, { tier: 'f32' }]);
});

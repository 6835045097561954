import { afterAll, beforeAll, expect, it } from 'vitest';
import { kernelSource } from '../../src/cli/kernel-source.js';
import { KernelCache } from '../../src/gpu/kernels.js';
import { checkTier, offeredTiers } from '../../src/model/self-test.js';
import { openTestGpu, type TestGpu } from '../gpu.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

it('passes every tier that the device offers', async () => {
  const tiers = offeredTiers(gpu.device);
  expect(tiers).toContain('f32');
  for (const tier of tiers) expect(await checkTier(gpu.device, gpu.kernels, tier)).toMatchObject({ tier, ok: true });
});

it('names a kernel that computes wrongly, and one that does not compile', async () => {
  const wrong = new KernelCache(gpu.device, (path) =>
    kernelSource()(path).replace('var value = sum * p.alpha;', 'var value = sum * 1.01;'),
  );
  expect(await checkTier(gpu.device, wrong, 'f32')).toMatchObject({
    ok: false,
    detail: expect.stringMatching(/'nt'.* off by 1\.0e-2/),
  });
  const broken = new KernelCache(gpu.device, (path) => `${kernelSource()(path)}\nfn`);
  expect(await checkTier(gpu.device, broken, 'f32')).toMatchObject({
    ok: false,
    detail: expect.stringMatching(/does not compile/),
  });
});

import { afterAll, beforeAll, expect, it, onTestFinished, vi } from 'vitest';
import { benchKernels } from '../../src/cli/bench-kernels.js';
import { type OpenDevice, openDevice } from '../../src/cli/session.js';
import { needsTier } from '../skip.js';

let open: OpenDevice;
beforeAll(async () => {
  open = await openDevice({ device: 'auto', tier: 'auto' });
});
afterAll(() => open.close());

it('measures a packed matrix that is unpacked in parts, and names the plain one that nothing binds', async () => {
  needsTier(open.device, 'f16');
  // Of 256 × 64 halves, so 64 rows a part.
  Object.defineProperty(open.device, 'maxBinding', { value: 8 << 10, configurable: true });
  const log = vi.spyOn(console, 'log').mockImplementation(() => {});
  onTestFinished(() => {
    Reflect.deleteProperty(open.device, 'maxBinding');
    log.mockRestore();
  });
  const measure = async (packed: 'nf4' | null) => {
    const shapes = [{ m: 16, n: 256, k: 64, packed }];
    const request = { models: null, quantize: 'none', rows: null, batches: null, lengths: null, shapes } as const;
    const ceilings = { copy_gbps: 1, f32_gflops: 1, f16_gflops: null, matrix_gflops: {} };
    const { rows } = await benchKernels(open, { ...request, only: new Set(['matmul']) }, { tier: 'f16' }, ceilings);
    return rows.map(({ shape, variant }) => `${shape} ${variant}`);
  };
  expect(await measure('nf4')).toEqual(['16x256x64 nt nf4', '16x256x64 nn nf4']);
  expect(log).not.toHaveBeenCalled();
  expect(await measure(null)).toEqual([]);
  expect(log).toHaveBeenCalledWith(expect.stringMatching(/^matmul 16x256x64 in tier f16: left out, 32\.0 KiB/));
});

import { BatchUniform } from '../gpu/batch.js';
import type { Device } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernels.js';
import { BufferPool, Recorder } from '../gpu/program.js';
import { createTensor, type Tensor, upload } from '../gpu/tensor.js';
import { matmul } from '../ops/matmul.js';
import { opContext, type Tier } from './language-model.js';

/** Result of checking a tier's kernels on this device. */
export interface TierCheck {
  readonly tier: Tier;
  readonly ok: boolean;
  readonly detail: string;
}

// More than one tile each way, none whole.
const [m, n, k] = [21, 72, 40];
/** Operands are small multiples of 1/8, exact in f16, and so are their sums in f32: any real fault is far above this. */
const tolerance = 1e-5;

/** Tiers that the device offers, best first. */
export function offeredTiers(device: Device): Tier[] {
  const tiers: Tier[] = ['f32'];
  if (device.features.f16) tiers.unshift('f16');
  if (device.features.f16 && device.matrixUnits.length > 0) tiers.unshift('tensor');
  return tiers;
}

/**
 * Multiplies two small matrices in a tier, forward and backward form, and compares them with the host's: drivers with
 * broken subgroup matrices or f16 exist.
 */
export async function checkTier(device: Device, kernels: KernelCache, tier: Tier): Promise<TierCheck> {
  const [matrix] = tier === 'tensor' ? device.matrixUnits : [];
  const name = matrix ? `matmul ${matrix.m}x${matrix.n}x${matrix.k}` : 'matmul';
  try {
    for (const form of ['nt', 'nn'] as const) {
      const error = await matmulError(device, kernels, tier, form);
      if (!(error < tolerance))
        return { tier, ok: false, detail: `${name} ('${form}') is off by ${error.toExponential(1)}` };
    }
    return { tier, ok: true, detail: `${name} equals the CPU's` };
  } catch (error) {
    return { tier, ok: false, detail: `${name}: ${(error as Error).message.split('\n')[0]}` };
  }
}

/** Largest difference of a small product from the host's, over the largest element. */
async function matmulError(device: Device, kernels: KernelCache, tier: Tier, form: 'nt' | 'nn'): Promise<number> {
  const recorder = new Recorder(kernels);
  const ctx = opContext(device, recorder, tier);
  const owned: Tensor[] = [];
  const make = (label: string, dtype: 'f16' | 'f32', values: Float64Array) => {
    const tensor = createTensor(device, label, dtype, [values.length]);
    upload(device, tensor, dtype === 'f32' ? Float32Array.from(values) : Uint16Array.from(values, eighthToHalf));
    owned.push(tensor);
    return tensor;
  };
  const x = eighths(m * k, 1);
  const w = eighths(n * k, 2);
  const c = createTensor(device, 'c', 'f32', [m, n]);
  owned.push(c);
  matmul(ctx, {
    label: 'self_test',
    form,
    x: make('x', ctx.operand, x),
    w: make('w', ctx.operand, w),
    c,
    n,
    k,
    count: 'batch.rows',
  });
  const batch = new BatchUniform(device);
  const pool = new BufferPool(device);
  const program = await recorder.realise(device, pool, batch.buffer);
  batch.write({ rows: m });
  program.run();
  const actual = new Float32Array(await device.read(c.buffer!, 0, m * n * 4));
  program.destroy();
  for (const tensor of owned) device.destroyBuffer(tensor.buffer!);
  device.destroyBuffer(batch.buffer);
  let worst = 0;
  let largest = 0;
  for (let row = 0; row < m; row++) {
    for (let column = 0; column < n; column++) {
      let sum = 0;
      for (let i = 0; i < k; i++) sum += x[row * k + i] * (form === 'nt' ? w[column * k + i] : w[i * n + column]);
      const difference = Math.abs(actual[row * n + column] - sum);
      worst = Math.max(worst, difference); // a NaN stays
      largest = Math.max(largest, Math.abs(sum));
    }
  }
  return worst / largest;
}

/** Multiples of 1/8 from −7/8 to 7/8. */
function eighths(count: number, seed: number): Float64Array {
  let state = seed;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return ((state >>> 16) % 15) / 8 - 7 / 8;
  });
}

/** The f16 bits of a multiple of 1/8 below 1. */
function eighthToHalf(value: number): number {
  if (value === 0) return 0;
  const size = Math.abs(value);
  const exponent = Math.floor(Math.log2(size));
  return (value < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | Math.round((size / 2 ** exponent - 1) * 1024);
}

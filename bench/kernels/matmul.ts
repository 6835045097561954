import { BatchUniform } from '../../src/gpu/batch.js';
import type { Device } from '../../src/gpu/device.js';
import type { KernelCache } from '../../src/gpu/kernels.js';
import { BufferPool, Recorder } from '../../src/gpu/program.js';
import { createTensor, type Tensor } from '../../src/gpu/tensor.js';
import { matmul } from '../../src/ops/matmul.js';
import type { PeerMatmul } from '../peer-tfjs.js';
import { type BenchRow, median, spread } from '../rows.js';

export interface MatmulShape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

export interface BenchDevice {
  readonly device: Device;
  readonly kernels: KernelCache;
}

export type BenchTier = 'tensor' | 'f16' | 'f32';

/** Seconds that one side of a comparison is measured for, at least. */
const least = 0.4;
const repetitions = 7;

/**
 * Times c = x·wᵀ ('nt') or x·w ('nn') of operand type by whole runs (submit to done), alternating with the peer's so
 * that both meet the same machine. Two sets of operands take turns, so that nothing but the caches of a real step helps.
 */
export async function benchMatmul(
  { device, kernels }: BenchDevice,
  tier: BenchTier,
  form: 'nt' | 'nn',
  shape: MatmulShape,
  peer: { name: string; matmul: PeerMatmul } | null,
): Promise<BenchRow> {
  const { m, n, k } = shape;
  const recorder = new Recorder(kernels);
  const operand = tier === 'f32' ? 'f32' : 'f16';
  const [matrix] = tier === 'tensor' ? device.matrixUnits : [];
  const owned: Tensor[] = [];
  const random = (label: string, dtype: 'f16' | 'f32', dims: readonly number[]) => {
    const tensor = createTensor(device, label, dtype, dims);
    fillRandom(device, tensor);
    owned.push(tensor);
    return tensor;
  };
  for (let set = 0; set < 2; set++) {
    const c = createTensor(device, 'c', operand, [m, n]);
    owned.push(c);
    matmul(
      { recorder, operand, cpu: device.features.cpu, matrix },
      {
        label: 'bench',
        form,
        x: random('x', operand, [m, k]),
        w: random('w', operand, form === 'nt' ? [n, k] : [k, n]),
        c,
        n,
        k,
        count: 'batch.rows',
      },
    );
  }
  const batch = new BatchUniform(device);
  const pool = new BufferPool(device);
  const program = await recorder.realise(device, pool, batch.buffer);
  batch.write({ rows: m });
  const ours = async (times: number) => {
    for (let i = 0; i < times; i++) program.run();
    await device.finish();
  };
  const theirs = peer ? await peer.matmul(m, n, k) : null;
  const oursTimes = await calibrate(ours);
  const theirTimes = theirs ? await calibrate((times) => theirs.run(times)) : 0;
  const ms: number[] = [];
  const peerMs: number[] = [];
  for (let i = 0; i < repetitions; i++) {
    ms.push((await clock(() => ours(oursTimes))) / oursTimes / 2);
    if (theirs) peerMs.push((await clock(() => theirs.run(theirTimes))) / theirTimes);
  }
  theirs?.dispose();
  program.destroy();
  pool.destroy();
  for (const tensor of owned) device.destroyBuffer(tensor.buffer!);
  device.destroyBuffer(batch.buffer);
  const flops = 2 * m * n * k;
  const bytes = (m * k + n * k + m * n) * (operand === 'f16' ? 2 : 4);
  const peerGflops = theirs ? flops / median(peerMs) / 1e6 : null;
  const gflops = flops / median(ms) / 1e6;
  return {
    operation: 'matmul',
    shape: `${m}x${n}x${k}`,
    tier,
    variant: form,
    median_ms: median(ms),
    spread: spread(ms),
    gflops,
    gbps: bytes / median(ms) / 1e6,
    peer: theirs ? peer!.name : null,
    peer_gflops: peerGflops,
    ratio: peerGflops === null ? null : gflops / peerGflops,
  };
}

/** How many runs take about `least / repetitions` seconds, after one to warm up. */
async function calibrate(run: (times: number) => Promise<void>): Promise<number> {
  await run(1);
  const one = await clock(() => run(1));
  return Math.max(1, Math.ceil((least * 1000) / repetitions / one));
}

async function clock(run: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await run();
  return performance.now() - start;
}

function fillRandom(device: Device, tensor: Tensor): void {
  const words = new Uint32Array(tensor.bytes / 4);
  let state = 1;
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    // Two halves, or one float, of size 0.5 to 1 and either sign.
    words[i] = tensor.dtype === 'f16' ? (state & 0x83ff83ff) | 0x38003800 : (state & 0x807fffff) | 0x3f000000;
  }
  for (let at = 0; at < words.length; at += 1 << 20) {
    device.gpu.queue.writeBuffer(tensor.buffer!, at * 4, words, at, Math.min(1 << 20, words.length - at));
  }
}

import { BatchUniform } from '../src/gpu/batch.js';
import type { Device } from '../src/gpu/device.js';
import type { KernelCache } from '../src/gpu/kernels.js';
import { BufferPool, type Program, Recorder } from '../src/gpu/program.js';
import { createTensor, type DType, type Tensor } from '../src/gpu/tensor.js';
import { opContext, type Tier } from '../src/model/language-model.js';
import type { OpContext } from '../src/ops/context.js';
import { layOutPacked, type Matrix, type PackedLayout } from '../src/ops/dequantize.js';
import type { Tuning } from '../src/ops/tuning.js';
import { median, spread } from './rows.js';

export interface BenchDevice {
  readonly device: Device;
  readonly kernels: KernelCache;
  readonly tuning?: Tuning;
}

/** Seconds that one side of a comparison is measured for, at least. */
const least = 0.4;
const repetitions = 7;
/** Milliseconds of work in one submission, at least: a submission alone costs up to 50 µs. */
const leastRun = 2;

/** Tensors of one measurement, all given back together. */
export class Operands {
  readonly #device: Device;
  readonly #owned: Tensor[] = [];

  constructor(device: Device) {
    this.#device = device;
  }

  /** Random numbers of size 0.5 to 1 and either sign. */
  random(dtype: 'f16' | 'f32', shape: readonly number[]): Tensor {
    const tensor = this.empty(dtype, shape);
    fillRandom(this.#device, tensor);
    return tensor;
  }

  /** A matrix of `random` numbers, or packed: of arbitrary codes in groups of 64 with scales of such size. */
  matrix([n, k]: readonly [number, number], kind: 'f16' | 'f32' | PackedLayout['format']): Matrix {
    if (kind === 'f16' || kind === 'f32') return this.random(kind, [n, k]);
    const make = (_: string, dtype: 'u32' | 'f32', shape: readonly number[]) => {
      const tensor = this.empty(dtype, shape);
      fillRandom(this.#device, tensor);
      return tensor;
    };
    return layOutPacked({ format: kind, n, k, group: 64, ordered: true }, 'bench', make);
  }

  empty(dtype: DType, shape: readonly number[]): Tensor {
    const tensor = createTensor(this.#device, 'bench', dtype, shape);
    this.#owned.push(tensor);
    return tensor;
  }

  numbers(values: Uint32Array): Tensor {
    const tensor = this.empty('u32', [Math.max(1, values.length)]);
    this.#device.gpu.queue.writeBuffer(tensor.buffer!, tensor.offset, values as Uint32Array<ArrayBuffer>);
    return tensor;
  }

  destroy(): void {
    for (const tensor of this.#owned) this.#device.destroyBuffer(tensor.buffer!);
  }
}

/** Another's way to do the same: settles when it has run so many times. */
export interface PeerRun {
  run(times: number): Promise<void>;
  dispose(): void;
}

export interface Measured {
  readonly ms: number;
  readonly spread: number;
  readonly peerMs: number | null;
}

/**
 * Times what `record` records by whole submissions (submit to done), in turns with the peer so that both meet the same
 * machine. It is recorded over two sets of operands in turns, so that nothing but the caches of a real step helps.
 */
export async function measure(
  bench: BenchDevice,
  tier: Tier,
  rows: number,
  record: (ctx: OpContext, set: 0 | 1) => void,
  peer: PeerRun | null = null,
): Promise<Measured> {
  const { device, kernels, tuning } = bench;
  const batch = new BatchUniform(device);
  const pool = new BufferPool(device);
  batch.write({ rows });
  const make = (rounds: number): Promise<Program> => {
    const recorder = new Recorder(kernels);
    const ctx = opContext(device, recorder, tier, tuning);
    for (let round = 0; round < rounds; round++) {
      record(ctx, 0);
      record(ctx, 1);
    }
    return recorder.realise(device, pool, batch.buffer);
  };
  const runs = (program: Program) => async (times: number) => {
    for (let i = 0; i < times; i++) program.run();
    await device.finish();
  };
  let rounds = 1;
  let program = await make(rounds);
  await runs(program)(1);
  const alone = (await clock(() => runs(program)(4))) / 4;
  if (alone < leastRun) {
    program.destroy();
    rounds = Math.min(64, Math.ceil(leastRun / alone));
    program = await make(rounds);
  }
  const ours = runs(program);
  const oursTimes = await calibrate(ours);
  const theirTimes = peer ? await calibrate((times) => peer.run(times)) : 0;
  const ms: number[] = [];
  const peerMs: number[] = [];
  for (let i = 0; i < repetitions; i++) {
    ms.push((await clock(() => ours(oursTimes))) / oursTimes / 2 / rounds);
    if (peer) peerMs.push((await clock(() => peer.run(theirTimes))) / theirTimes);
  }
  program.destroy();
  pool.destroy();
  device.destroyBuffer(batch.buffer);
  return { ms: median(ms), spread: spread(ms), peerMs: peer ? median(peerMs) : null };
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

const chunk = 1 << 20;
let words: Uint32Array | null = null;

/** Random numbers of size 0.5 to 1 and either sign; big tensors repeat them. */
function fillRandom(device: Device, tensor: Tensor): void {
  if (!words) {
    words = new Uint32Array(chunk);
    let state = 1;
    for (let i = 0; i < chunk; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      words[i] = state;
    }
  }
  // Two halves, or one float.
  const filled = words.map((w) =>
    tensor.dtype === 'f16' ? (w & 0x83ff83ff) | 0x38003800 : (w & 0x807fffff) | 0x3f000000,
  );
  const total = tensor.bytes / 4;
  // Shifted a little each time, so that rows differ.
  for (let at = 0; at < total; at += chunk - 1024) {
    const count = Math.min(chunk - 1024, total - at);
    device.gpu.queue.writeBuffer(tensor.buffer!, tensor.offset + at * 4, filled, (at / (chunk - 1024)) % 1024, count);
  }
}

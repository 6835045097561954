import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { BatchUniform } from '../../src/gpu/batch.js';
import {
  BufferPool,
  type Dispatch,
  durations,
  type BufferPool as Pool,
  type Program,
  Recorder,
} from '../../src/gpu/program.js';
import { createTensor, type Tensor, upload } from '../../src/gpu/tensor.js';
import type { OpContext } from '../../src/ops/context.js';
import { gatherRows } from '../../src/ops/gather-rows.js';
import { loraGradient } from '../../src/ops/lora-gradient.js';
import { openTestGpu, type TestGpu } from '../gpu.js';

let gpu: TestGpu;
let batch: BatchUniform;
beforeAll(async () => {
  gpu = await openTestGpu();
  batch = new BatchUniform(gpu.device);
});
afterAll(() => gpu.close());
afterEach(() => vi.restoreAllMocks());

function record(): { recorder: Recorder; ctx: OpContext } {
  const recorder = new Recorder(gpu.kernels);
  return { recorder, ctx: { recorder, operand: 'f32', cpu: gpu.device.features.cpu } };
}

function persistent(dtype: 'f32' | 'u32', values: readonly number[], shape: readonly number[]): Tensor {
  const tensor = createTensor(gpu.device, 'test', dtype, shape);
  upload(gpu.device, tensor, dtype === 'f32' ? Float32Array.from(values) : Uint32Array.from(values));
  return tensor;
}

const floats = async (program: Program, tensor: Tensor) => [...new Float32Array(await program.read(tensor))];

/** x's rows in reverse, through a transient tensor, so twice: y = x. */
function recordTwoGathers(ctx: OpContext, x: Tensor, y: Tensor): Tensor {
  const index = persistent('u32', [2, 1, 0], [3]);
  const reversed = ctx.recorder.tensor('reversed', 'f32', [3, 4]);
  gatherRows(ctx, { index, x, y: reversed });
  gatherRows(ctx, { index, x: reversed, y });
  return reversed;
}

describe('a program', () => {
  const numbers = Array.from({ length: 12 }, (_, i) => i + 0.5);

  it('replays on what its inputs and the batch hold by then', async () => {
    const { ctx, recorder } = record();
    const x = persistent('f32', numbers, [3, 4]);
    const y = persistent('f32', new Array(12).fill(-1), [3, 4]);
    const reversed = recorder.keep(recordTwoGathers(ctx, x, y));
    const program = await recorder.realise(gpu.device, new BufferPool(gpu.device), batch.buffer);
    batch.write({ logitRows: 3 });
    program.run();
    expect(await floats(program, y)).toEqual(numbers);
    expect(await floats(program, reversed)).toEqual([8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3].map((i) => numbers[i]));

    upload(
      gpu.device,
      x,
      Float32Array.from(numbers, (n) => 10 * n),
    );
    batch.write({ logitRows: 2 });
    program.run();
    // Row 0 of y is row 2 of `reversed`, which two live rows leave from the first run.
    expect(await floats(program, y)).toEqual([
      ...numbers.slice(0, 4),
      ...numbers.slice(4, 8).map((n) => 10 * n),
      ...numbers.slice(8),
    ]);
    expect(program.dispatches.map((d) => d.label)).toEqual(['gather_rows', 'gather_rows']);
  });

  it('clears before what it accumulates, every time', async () => {
    const { ctx, recorder } = record();
    const gradient = persistent('f32', new Array(16).fill(7), [4, 4]);
    recorder.clear(gradient);
    const ones = persistent('f32', new Array(8).fill(1), [2, 4]);
    const tensors = { skinny: ones, wide: persistent('f32', new Array(8).fill(3), [2, 4]), gradient };
    loraGradient(ctx, { label: 'test', layout: 'a', rank: 4, columns: 4, alpha: 0.5, ...tensors });
    const program = await recorder.realise(gpu.device, new BufferPool(gpu.device), batch.buffer);
    batch.write({ rows: 2 });
    for (let i = 0; i < 2; i++) {
      program.run();
      expect(await floats(program, gradient)).toEqual(new Array(16).fill(3));
    }
  });

  it('times every dispatch', async () => {
    if (!gpu.device.features.timestamps) return;
    const { ctx, recorder } = record();
    recordTwoGathers(ctx, persistent('f32', numbers, [3, 4]), persistent('f32', numbers, [3, 4]));
    const program = await recorder.realise(gpu.device, new BufferPool(gpu.device), batch.buffer);
    batch.write({ logitRows: 3 });
    const before = gpu.device.allocatedBytes;
    const times = await program.time();
    expect(times).toHaveLength(2);
    for (const time of times) expect(time).toBeGreaterThan(0);
    for (const time of times) expect(time).toBeLessThan(1e9);
    expect(gpu.device.allocatedBytes).toBe(before);
  });

  it('counts a dispatch from the end of the one before, where its beginning was taken while that still ran', () => {
    const ticks = BigUint64Array.from([100n, 160n, 110n, 200n, 250n, 300n]);
    expect(durations(ticks)).toEqual([60, 40, 50]);
    // Nothing is left of one that ended before the one before it did.
    expect(durations(BigUint64Array.from([100n, 160n, 120n, 150n, 130n, 170n]))).toEqual([60, 0, 10]);
  });

  it('raises an invalid dispatch as an error of the step, once', async () => {
    const { ctx, recorder } = record();
    const x = persistent('f32', numbers, [3, 4]);
    // One buffer read and written by one dispatch is against WebGPU's rules.
    gatherRows(ctx, { index: persistent('u32', [0, 1, 2], [3]), x, y: x });
    const program = await recorder.realise(gpu.device, new BufferPool(gpu.device), batch.buffer);
    program.run();
    await expect(gpu.device.finish()).rejects.toThrow(/^WebGPU: /);
    await expect(gpu.device.finish()).resolves.toBeUndefined();
  });

  it('raises a kernel that does not compile where the program is made, with its line', async () => {
    const { recorder } = record();
    const x = persistent('f32', numbers, [3, 4]);
    recorder.dispatch({
      kernel: 'swiglu',
      pass: 'forward',
      defines: { TYPE: 'f33' },
      label: 'test',
      tensors: { gate: x, up: x, h: x },
      params: { dim: 4, scale: 1 },
      workgroups: [1],
    });
    await expect(recorder.realise(gpu.device, new BufferPool(gpu.device), batch.buffer)).rejects.toThrow(
      /^kernel swiglu\/forward .* does not compile: \d+: .*f33/,
    );
    await gpu.device.finish().catch(() => {}); // the broken module reports itself as well
  });
});

describe('a program of much work', () => {
  const numbers = Array.from({ length: 12 }, (_, i) => i + 0.5);

  /** Turns x's rows round five times, sums of which each is cleared first; dispatches say that they cost `each`. */
  async function record5(each: Pick<Dispatch, 'flops' | 'bytes'>): Promise<{ program: Program; y: Tensor }> {
    const { ctx, recorder } = record();
    const dispatch = recorder.dispatch.bind(recorder);
    recorder.dispatch = (recorded) => dispatch({ ...recorded, flops: undefined, bytes: undefined, ...each });
    const index = persistent('u32', [2, 1, 0], [3]);
    const y = persistent('f32', new Array(12).fill(-1), [3, 4]);
    const between = Array.from({ length: 4 }, (_, i) => recorder.tensor(`turn ${i}`, 'f32', [3, 4]));
    const tensors = [persistent('f32', numbers, [3, 4]), ...between, y];
    for (let i = 0; i < 5; i++) {
      recorder.clear(tensors[i + 1]);
      gatherRows(ctx, { index, x: tensors[i], y: tensors[i + 1] });
    }
    batch.write({ logitRows: 3 });
    const program = await recorder.realise(gpu.device, new BufferPool(gpu.device), batch.buffer);
    return { program, y };
  }

  const turned = [8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3].map((i) => numbers[i]);

  it.each([
    ['nothing', {}, 1],
    ['0.09 TFLOP', { flops: 9e10 }, 1],
    ['0.2 TFLOP', { flops: 2e11 }, 3],
    ['0.2 TFLOP and few bytes', { flops: 2e11, bytes: 1e9 }, 3],
    ['16 GB', { flops: 1e9, bytes: 16e9 }, 5],
    // Each by itself, and so each clear.
    ['10 TFLOP', { flops: 1e13 }, 10],
  ])('is submitted in parts: dispatches of %s', async (_, each, submissions) => {
    const { program, y } = await record5(each);
    const submit = vi.spyOn(gpu.device.gpu.queue, 'submit');
    program.run();
    expect(submit).toHaveBeenCalledTimes(submissions);
    expect(await floats(program, y)).toEqual(turned);
  });

  it('is timed in the same parts', async () => {
    if (!gpu.device.features.timestamps) return;
    const { program, y } = await record5({ flops: 2e11 });
    const submit = vi.spyOn(gpu.device.gpu.queue, 'submit');
    const times = await program.time();
    // Behind them the timestamps are resolved, then copied.
    expect(submit).toHaveBeenCalledTimes(3 + 2);
    expect(times).toHaveLength(5);
    for (const time of times) expect(time).toBeGreaterThan(0);
    expect(await floats(program, y)).toEqual(turned);
  });
});

describe('recording', () => {
  const dispatch = () => {
    const t = persistent('f32', [1, 2, 3, 4], [1, 4]);
    return {
      kernel: 'gather-rows',
      pass: 'forward',
      defines: {},
      label: 'test',
      tensors: { index: t, x: t, y: t } as Record<string, Tensor>,
      params: { dim: 4 } as Record<string, number>,
      workgroups: [1] as [number, number?],
    };
  };

  it.each([
    ['a binding without a tensor', 'no tensor for y', { tensors: { index: null, x: null } }],
    ['a tensor without a binding', 'has no binding z', { tensors: { index: null, x: null, y: null, z: null } }],
    ['a parameter without a value', 'no value for parameter dim', { params: {} }],
    ['a parameter that is not a number', 'no value for parameter dim', { params: { dim: Number.NaN } }],
    ['too many workgroups', 'more than 65535 workgroups', { workgroups: [1, 65536] as [number, number] }],
  ])('refuses %s', (_, message, change) => {
    const good = dispatch();
    const fill = (tensors: object) => Object.fromEntries(Object.keys(tensors).map((name) => [name, good.tensors.x]));
    const bad = { ...good, ...change, tensors: 'tensors' in change ? fill(change.tensors) : good.tensors };
    expect(() => new Recorder(gpu.kernels).dispatch(bad)).toThrow(message);
  });
});

describe('BufferPool', () => {
  const sizes = (pool: Pool, slots: number[]) => pool.acquire(slots).map((buffer) => buffer.size);

  it('gives a later program the buffers of an earlier one, and grows only by what is missing', () => {
    const { device } = gpu;
    const before = device.allocatedBytes;
    const pool = new BufferPool(device);
    const first = pool.acquire([64, 4096, 1024]);
    expect(pool.bytes).toBe(64 + 4096 + 1024);
    expect(new Set(pool.acquire([16, 2048, 1024]))).toEqual(new Set(first));
    // The smallest that fits: 1024 for 500, so that 4096 stays for 3000.
    expect(sizes(pool, [500, 3000])).toEqual([1024, 4096]);
    expect(pool.bytes).toBe(64 + 4096 + 1024);
    expect(sizes(pool, [4096, 4096])).toEqual([4096, 4096]);
    expect(pool.bytes).toBe(64 + 2 * 4096 + 1024);
    expect(device.allocatedBytes - before).toBe(pool.bytes);
    pool.destroy();
    expect(device.allocatedBytes).toBe(before);
  });

  it('never gives one program a buffer twice', () => {
    const pool = new BufferPool(gpu.device);
    pool.acquire([256, 256, 256, 64]);
    for (const slots of [
      [256, 256, 64],
      [16, 16, 16, 16],
      [1024, 16, 256, 256, 64],
    ]) {
      expect(new Set(pool.acquire(slots)).size).toBe(slots.length);
    }
    pool.destroy();
  });
});

describe('a device that goes away', () => {
  it('waits for compilations under way when it is closed', async () => {
    const own = await openTestGpu();
    let compiled = false;
    const kernel = own.kernels.get({ kernel: 'swiglu', pass: 'forward', defines: { TYPE: 'f32' } });
    const compilation = kernel.compile().then(() => {
      compiled = true;
    });
    await own.close();
    await Promise.race([compilation, new Promise((resolve) => setTimeout(resolve))]);
    expect(compiled).toBe(true);
  });

  it('fails the step with a sentence that says how to go on', async () => {
    const own = await openTestGpu();
    const lost = own.device.gpu.lost;
    const buffer = own.device.createBuffer(64, 'data');
    own.device.gpu.destroy();
    await lost;
    await expect(own.device.read(buffer)).rejects.toThrow(
      /device was lost .*watchdog.*last checkpoint with --resume.*less --micro-batch-tokens/,
    );
    await own.close();
  });
});

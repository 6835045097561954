import { openAdapter } from '../src/cli/gpu.js';
import { kernelSource } from '../src/cli/kernel-source.js';
import { float16ToFloat32, float32ToFloat16 } from '../src/formats/half.js';
import { BatchUniform, type BatchValues } from '../src/gpu/batch.js';
import { Device } from '../src/gpu/device.js';
import { KernelCache } from '../src/gpu/kernels.js';
import { BufferPool, Recorder } from '../src/gpu/program.js';
import { createTensor, type DType, type Tensor, upload } from '../src/gpu/tensor.js';
import type { OpContext } from '../src/ops/context.js';
import { needsTier } from './skip.js';

export type Tier = 'f32' | 'f16';
/** Element types of operands, each with forms of its kernels. */
export const tiers: readonly Tier[] = ['f32', 'f16'];
/** Tiers of whole models. */
export const modelTiers = ['f32', 'f16', 'tensor'] as const;
/** Largest relative L2 error of one operation against float64 (DESIGN §2). */
export const tolerance: Readonly<Record<Tier, number>> = { f32: 1e-5, f16: 2e-3 };

export interface TestGpu {
  readonly device: Device;
  readonly kernels: KernelCache;
  close(): Promise<void>;
}

/** Workgroup memory that WebGPU promises of every device, bytes. */
export const leastWorkgroupBytes = 16_384;

/**
 * The device as users get it; `debug` keeps robustness on, `cpu: false` takes every form that GPUs get, `workgroupBytes` is
 * all the workgroup memory that it has.
 */
export async function openTestGpu(
  options: { debug?: boolean; cpu?: boolean; workgroupBytes?: number } = {},
): Promise<TestGpu> {
  const { workgroupBytes } = options;
  const opened = await openAdapter(options);
  const adapter = workgroupBytes === undefined ? opened.adapter : withWorkgroupMemory(opened.adapter, workgroupBytes);
  const device = await Device.open(adapter, { cpu: options.cpu ?? opened.kind === 'cpu' });
  const kernels = new KernelCache(device, kernelSource());
  return {
    device,
    kernels,
    async close() {
      await device.close();
      opened.release();
    },
  };
}

/** An adapter that has no more workgroup memory. */
function withWorkgroupMemory(adapter: GPUAdapter, bytes: number): GPUAdapter {
  const limits = new Proxy(adapter.limits, {
    get: (all, name) => (name === 'maxComputeWorkgroupStorageSize' ? bytes : all[name as keyof GPUSupportedLimits]),
  });
  const { features, info } = adapter;
  return { features, info, limits, requestDevice: (wanted) => adapter.requestDevice(wanted) } as GPUAdapter;
}

/** One operation on given numbers: inputs rounded to their type, outputs poisoned with NaN before the run. */
export class OpRun {
  readonly ctx: OpContext;
  /** Names of the kernels recorded so far. */
  readonly kernels = new Set<string>();
  readonly #gpu: TestGpu;
  readonly #recorder: Recorder;
  readonly #owned: { destroy(): void }[] = [];

  constructor(
    gpu: TestGpu,
    tier: Tier,
    options: Partial<Pick<OpContext, 'cpu' | 'subgroups' | 'matrix' | 'tuned' | 'tunedAttention'>> = {},
  ) {
    needsTier(gpu.device, tier);
    this.#gpu = gpu;
    this.#recorder = new Recorder(gpu.kernels);
    const record = this.#recorder.dispatch.bind(this.#recorder);
    this.#recorder.dispatch = (dispatch) => {
      this.kernels.add(dispatch.kernel);
      record(dispatch);
    };
    this.ctx = {
      recorder: this.#recorder,
      operand: tier,
      cpu: options.cpu ?? gpu.device.features.cpu,
      subgroups: options.subgroups,
      matrix: options.matrix,
      tuned: options.tuned,
      tunedAttention: options.tunedAttention,
    };
  }

  /** A tensor holding `values` rounded to `dtype`. Round the reference's input alike with `rounded`. */
  input(label: string, dtype: DType, shape: readonly number[], values: ArrayLike<number>): Tensor {
    const tensor = this.#create(label, dtype, shape);
    upload(this.#gpu.device, tensor, encode(dtype, values));
    return tensor;
  }

  /** A tensor full of NaN. */
  output(label: string, dtype: DType, shape: readonly number[]): Tensor {
    const tensor = this.#create(label, dtype, shape);
    upload(this.#gpu.device, tensor, new Uint32Array(tensor.bytes / 4).fill(0x7fff7fff));
    return tensor;
  }

  #create(label: string, dtype: DType, shape: readonly number[]): Tensor {
    const tensor = createTensor(this.#gpu.device, label, dtype, shape);
    this.#owned.push({ destroy: () => this.#gpu.device.destroyBuffer(tensor.buffer!) });
    return tensor;
  }

  /** Plans, poisons the transient buffers, runs, and throws what WebGPU reported. */
  async run(batch: Partial<BatchValues>): Promise<void> {
    const { device } = this.#gpu;
    const uniform = new BatchUniform(device);
    const pool = new BufferPool(device);
    for (const buffer of pool.acquire(this.#recorder.plan().slots)) {
      device.gpu.queue.writeBuffer(buffer, 0, new Uint32Array(buffer.size / 4).fill(0x7fff7fff));
    }
    const program = await this.#recorder.realise(device, pool, uniform.buffer);
    this.#owned.push(pool, program, { destroy: () => device.destroyBuffer(uniform.buffer) });
    uniform.write(batch);
    program.run();
    await device.finish();
  }

  async read(tensor: Tensor): Promise<Float64Array> {
    const bytes = await this.#gpu.device.read(
      tensor.buffer!,
      tensor.offset,
      tensor.elements * (tensor.dtype === 'f16' ? 2 : 4),
    );
    return decode(tensor.dtype, bytes);
  }

  /** Gives back every buffer, for tests of very many runs. */
  destroy(): void {
    for (const thing of this.#owned) thing.destroy();
  }
}

/** Values as the device sees them once stored in `dtype`. */
export function rounded(dtype: DType, values: ArrayLike<number>): Float64Array {
  const data = encode(dtype, values);
  return decode(dtype, data.buffer as ArrayBuffer);
}

function encode(dtype: DType, values: ArrayLike<number>) {
  if (dtype === 'u32') return Uint32Array.from(values);
  if (dtype === 'i32') return Int32Array.from(values);
  const floats = Float32Array.from(values);
  return dtype === 'f32' ? floats : float32ToFloat16(floats);
}

function decode(dtype: DType, bytes: ArrayBuffer): Float64Array {
  if (dtype === 'u32') return Float64Array.from(new Uint32Array(bytes));
  if (dtype === 'i32') return Float64Array.from(new Int32Array(bytes));
  return Float64Array.from(dtype === 'f32' ? new Float32Array(bytes) : float16ToFloat32(new Uint16Array(bytes)));
}

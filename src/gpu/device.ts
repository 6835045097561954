import { InputError } from '../errors.js';

/** What a device offers, as kernels and programs choose by it. */
export interface DeviceFeatures {
  readonly f16: boolean;
  readonly timestamps: boolean;
  readonly subgroups: boolean;
  /** Native vector lanes run one after another on cores: prefer few big invocations over shared tiles. */
  readonly cpu: boolean;
}

/** Makers of GPUs that lexalign has default settings for. */
export type GpuFamily = 'nvidia' | 'amd' | 'intel' | 'apple' | 'other';

/** A shape of subgroup matrices with f32 results: m × k times k × n. */
export interface MatrixUnits {
  readonly family: GpuFamily;
  /** Type of its operands; where it is f32, f16 tensors are converted on their way. */
  readonly operand: 'f16' | 'f32';
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Lanes of a subgroup; pinned where the device has several sizes. */
  readonly subgroup: number;
  readonly pin: boolean;
  /** Memory and invocations that a workgroup may have. */
  readonly workgroupBytes: number;
  readonly maxInvocations: number;
}

/** Of Dawn's GPUAdapterInfo, which the WebGPU types do not know yet. */
export interface MatrixInfo {
  readonly subgroupMatrixConfigs?: Iterable<{
    readonly componentType: string;
    readonly resultComponentType: string;
    readonly M: number;
    readonly N: number;
    readonly K: number;
  }>;
}

const wantedFeatures = [
  'shader-f16',
  'subgroups',
  'subgroup-size-control',
  'timestamp-query',
  'chromium-experimental-subgroup-matrix',
];

const wantedLimits = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
] as const;

/**
 * A GPUDevice that keeps count of its buffers and turns what WebGPU reports out of band (uncaptured errors, device
 * loss) into errors of the step: call `check()` after waiting for work.
 */
export class Device {
  readonly gpu: GPUDevice;
  readonly info: GPUAdapterInfo;
  /** Bytes of all live buffers made through this device. */
  allocatedBytes = 0;
  #features: DeviceFeatures;
  readonly #dropped = new Set<string>();
  readonly #pending = new Set<Promise<unknown>>();
  #error: Error | null = null;
  #destroyed = false;

  private constructor(gpu: GPUDevice, info: GPUAdapterInfo, cpu: boolean) {
    this.gpu = gpu;
    this.info = info;
    this.#features = {
      f16: gpu.features.has('shader-f16'),
      timestamps: gpu.features.has('timestamp-query'),
      subgroups: gpu.features.has('subgroups' as GPUFeatureName),
      cpu,
    };
    gpu.addEventListener('uncapturederror', (event) => {
      this.#error ??= describeError((event as GPUUncapturedErrorEvent).error);
    });
    gpu.lost.then((lost) => {
      if (!this.#destroyed)
        this.#error ??= new InputError(
          `The GPU device was lost (${lost.message || lost.reason}): its driver failed, or the system's watchdog reset it over ` +
            'work that took too long. A run that trains goes on from its last checkpoint with --resume, in shorter work ' +
            'with less --micro-batch-tokens.',
        );
    });
  }

  /** Opens a device with every feature and limit of the adapter that lexalign can use. */
  static async open(adapter: GPUAdapter, options: { cpu: boolean }): Promise<Device> {
    const features = wantedFeatures.filter((name) => adapter.features.has(name)) as GPUFeatureName[];
    const limits: Record<string, number> = {};
    for (const name of wantedLimits) limits[name] = adapter.limits[name];
    const gpu = await adapter.requestDevice({ requiredFeatures: features, requiredLimits: limits });
    return new Device(gpu, adapter.info, options.cpu);
  }

  get features(): DeviceFeatures {
    return this.#features;
  }

  /** Largest range one storage binding may cover, bytes; a multiple of 256. */
  get maxBinding(): number {
    const { maxStorageBufferBindingSize, maxBufferSize } = this.gpu.limits;
    return Math.floor(Math.min(maxStorageBufferBindingSize, maxBufferSize) / 256) * 256;
  }

  /** From one dispatch's parameters to the next in a uniform buffer, bytes: room for 64 numbers, more than any has. */
  get uniformAlign(): number {
    return Math.max(256, this.gpu.limits.minUniformBufferOffsetAlignment);
  }

  /** Shapes of subgroup matrices that sum in f32: of f16 before f32 operands, then largest first; empty where the device has none. */
  get matrixUnits(): MatrixUnits[] {
    if (!this.gpu.features.has('chromium-experimental-subgroup-matrix' as GPUFeatureName)) return [];
    const { subgroupMinSize, subgroupMaxSize } = this.info;
    const families: readonly GpuFamily[] = ['nvidia', 'amd', 'intel', 'apple'];
    const family = families.find((name) => name === this.info.vendor) ?? 'other';
    // Intel's units are as wide as a row of results, 8 lanes on Xe-HPG (Arc A) and 16 since Xe2, though shaders may have 32.
    const lanes = (n: number) => (family === 'intel' ? Math.max(n, subgroupMinSize ?? n) : (subgroupMaxSize ?? 0));
    return [...((this.info as MatrixInfo).subgroupMatrixConfigs ?? [])]
      .filter((c) => (c.componentType === 'f16' || c.componentType === 'f32') && c.resultComponentType === 'f32')
      .map(({ componentType, M, N, K }) => ({
        family,
        operand: componentType as 'f16' | 'f32',
        m: M,
        n: N,
        k: K,
        subgroup: lanes(N),
        pin: subgroupMinSize !== subgroupMaxSize,
        workgroupBytes: this.gpu.limits.maxComputeWorkgroupStorageSize,
        maxInvocations: this.gpu.limits.maxComputeInvocationsPerWorkgroup,
      }))
      .filter((matrix) => !this.#dropped.has(nameMatrix(matrix)))
      .sort((a, b) => a.operand.localeCompare(b.operand) || b.m * b.n * b.k - a.m * a.n * a.k);
  }

  /** Leaves out units that compute wrongly. */
  dropMatrix(matrix: MatrixUnits): void {
    this.#dropped.add(nameMatrix(matrix));
  }

  /** Leaves out operations of subgroups that compute wrongly, and matrix units, which are some, with them. */
  dropSubgroups(): void {
    for (const matrix of this.matrixUnits) this.dropMatrix(matrix);
    this.#features = { ...this.#features, subgroups: false };
  }

  /** A buffer for storage, copies and clears. Contents are undefined until written. */
  createBuffer(
    bytes: number,
    label: string,
    usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC,
  ): GPUBuffer {
    const size = Math.max(16, Math.ceil(bytes / 16) * 16);
    this.allocatedBytes += size;
    return this.gpu.createBuffer({ label, size, usage });
  }

  destroyBuffer(buffer: GPUBuffer): void {
    this.allocatedBytes -= buffer.size;
    buffer.destroy();
  }

  /** Throws the first error that WebGPU reported since the last check. */
  check(): void {
    const error = this.#error;
    this.#error = null;
    if (error) throw error;
  }

  /** Waits until everything submitted so far has run, then throws what went wrong on the way. */
  async finish(): Promise<void> {
    await this.gpu.queue.onSubmittedWorkDone();
    this.check();
  }

  /** Bytes [offset, offset + bytes) of a buffer, after everything submitted so far. */
  async read(buffer: GPUBuffer, offset = 0, bytes = buffer.size - offset): Promise<ArrayBuffer> {
    const size = Math.ceil(bytes / 4) * 4;
    const staging = this.gpu.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    try {
      const encoder = this.gpu.createCommandEncoder();
      encoder.copyBufferToBuffer(buffer, offset, staging, 0, size);
      this.gpu.queue.submit([encoder.finish()]);
      await staging.mapAsync(GPUMapMode.READ).catch((reason) => {
        this.check();
        throw reason;
      });
      this.check();
      return staging.getMappedRange().slice(0, bytes);
    } finally {
      staging.destroy();
    }
  }

  /** Remembers work of the device's own threads until it is done, so that `close` waits for it. */
  track<T>(work: Promise<T>): Promise<T> {
    this.#pending.add(work);
    const forget = () => this.#pending.delete(work);
    work.then(forget, forget);
    return work;
  }

  /** Gives everything back. Waits for compilations first: a driver torn down under them takes the process along. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#pending);
    this.#destroyed = true;
    this.gpu.destroy();
  }
}

/** What of a device decides how programs are recorded for it; a stand-in serves to plan for a device that is not here. */
export type DeviceShape = Pick<Device, 'features' | 'matrixUnits' | 'maxBinding' | 'uniformAlign'>;

/** "16x16x16 of f16": m, n and k, and the operands' type. */
export function nameMatrix({ m, n, k, operand }: MatrixUnits): string {
  return `${m}x${n}x${k} of ${operand}`;
}

function describeError(error: GPUError): Error {
  if (error.constructor.name === 'GPUOutOfMemoryError') {
    return new InputError(
      'The device ran out of memory: a smaller training is planned with --memory-limit below what it has; generating takes ' +
        'less with a lower --batch-size, scoring with fewer --micro-batch-tokens.',
    );
  }
  return new Error(`WebGPU: ${error.message}`);
}

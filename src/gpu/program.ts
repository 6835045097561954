import type { Device } from './device.js';
import { type Kernel, type KernelCache, type KernelKey, scalarBindings } from './kernels.js';
import { assignBuffers, type MemoryPlan, planMemory } from './memory-plan.js';
import { type DType, Tensor } from './tensor.js';

/** One dispatch as an operation records it. Tensors and params go by the names that the kernel file declares. */
export interface Dispatch extends KernelKey {
  /** Shown by the profile, e.g. "layers.3.q_proj". */
  readonly label: string;
  readonly tensors: Readonly<Record<string, Tensor>>;
  readonly params?: Readonly<Record<string, number>>;
  readonly workgroups: readonly [number, number?, number?];
  /** Floating-point operations and bytes moved at full capacity, for the profile. */
  readonly flops?: number;
  readonly bytes?: number;
}

type Command = { kind: 'dispatch'; dispatch: Dispatch; kernel: Kernel } | { kind: 'clear'; tensor: Tensor };

/** Records a program: nothing is allocated or run until `realise`. */
export class Recorder {
  readonly #kernels: KernelCache;
  readonly #commands: Command[] = [];
  readonly #kept = new Set<Tensor>();

  constructor(kernels: KernelCache) {
    this.#kernels = kernels;
  }

  /** Names a transient tensor; memory comes from the plan. */
  tensor(label: string, dtype: DType, shape: readonly number[]): Tensor {
    return new Tensor(label, dtype, shape);
  }

  /** Keeps a transient tensor alive to the program's end, so that its contents can be read afterwards. */
  keep(tensor: Tensor): Tensor {
    this.#kept.add(tensor);
    return tensor;
  }

  dispatch(dispatch: Dispatch): void {
    const kernel = this.#kernels.get(dispatch);
    for (const { name } of kernel.bindings) {
      if (!dispatch.tensors[name]) throw new Error(`${kernel.name}: no tensor for ${name}`);
    }
    for (const name of Object.keys(dispatch.tensors)) {
      if (!kernel.bindings.some((b) => b.name === name)) throw new Error(`${kernel.name} has no binding ${name}`);
    }
    for (const { name } of kernel.params) {
      if (!Number.isFinite(dispatch.params?.[name])) throw new Error(`${kernel.name}: no value for parameter ${name}`);
    }
    if (dispatch.workgroups.some((n) => n !== undefined && n > 65535))
      throw new Error(`${kernel.name}: more than 65535 workgroups in a dimension`);
    this.#commands.push({ kind: 'dispatch', dispatch, kernel });
  }

  /** Sets every byte of a tensor to zero. */
  clear(tensor: Tensor): void {
    this.#commands.push({ kind: 'clear', tensor });
  }

  /** Dispatches recorded so far. */
  get dispatchCount(): number {
    return this.#commands.filter((c) => c.kind === 'dispatch').length;
  }

  /** Floating-point operations of all dispatches, at full capacity. */
  get flops(): number {
    return this.#commands.reduce((sum, c) => sum + (c.kind === 'dispatch' ? (c.dispatch.flops ?? 0) : 0), 0);
  }

  /** Memory that the transient tensors will take. */
  plan(): MemoryPlan {
    const lives = new Map<Tensor, { first: number; last: number }>();
    this.#commands.forEach((command, step) => {
      for (const tensor of command.kind === 'clear' ? [command.tensor] : Object.values(command.dispatch.tensors)) {
        if (tensor.persistent) continue;
        const life = lives.get(tensor);
        if (life) life.last = step;
        else lives.set(tensor, { first: step, last: step });
      }
    });
    for (const tensor of this.#kept) lives.get(tensor)!.last = this.#commands.length;
    return planMemory([...lives].map(([tensor, { first, last }]) => ({ tensor, first, last })));
  }

  /** Allocates from the pool, makes bind groups, and waits for the pipelines. */
  async realise(device: Device, pool: BufferPool, batch: GPUBuffer): Promise<Program> {
    const plan = this.plan();
    const buffers = pool.acquire(plan.slots);
    const rangeOf = (tensor: Tensor): GPUBufferBinding => {
      if (tensor.buffer) return { buffer: tensor.buffer, offset: tensor.offset, size: tensor.bytes };
      return { buffer: buffers[plan.slotOf.get(tensor)!], size: tensor.bytes };
    };
    const dispatches = this.#commands.filter((c) => c.kind === 'dispatch');
    await Promise.all(dispatches.map(({ kernel }) => kernel.compile()));
    const align = device.uniformAlign;
    const data = new DataView(new ArrayBuffer(Math.max(1, dispatches.length) * align));
    const uniforms = device.createBuffer(data.byteLength, 'params', GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
    let index = 0;
    const steps: Step[] = [];
    for (const command of this.#commands) {
      if (command.kind === 'clear') {
        const range = rangeOf(command.tensor);
        steps.push({ kind: 'clear', buffer: range.buffer, offset: range.offset ?? 0, size: command.tensor.bytes });
        continue;
      }
      const { dispatch, kernel } = command;
      const { pipeline, layout } = await kernel.compile();
      const offset = index++ * align;
      kernel.params.forEach(({ name, type }, i) => {
        const value = dispatch.params![name];
        if (type === 'f32') data.setFloat32(offset + 4 * i, value, true);
        else if (type === 'u32') data.setUint32(offset + 4 * i, value, true);
        else data.setInt32(offset + 4 * i, value, true);
      });
      const entries: GPUBindGroupEntry[] = kernel.bindings.map(({ name }, binding) => ({
        binding,
        resource: rangeOf(dispatch.tensors[name]),
      }));
      if (kernel.params.length) {
        const size = Math.ceil(kernel.params.length / 4) * 16;
        entries.push({ binding: scalarBindings.params, resource: { buffer: uniforms, offset, size } });
      }
      if (kernel.usesBatch) entries.push({ binding: scalarBindings.batch, resource: { buffer: batch } });
      const group = device.gpu.createBindGroup({ label: dispatch.label, layout, entries });
      steps.push({ kind: 'dispatch', pipeline, group, dispatch });
    }
    device.gpu.queue.writeBuffer(uniforms, 0, data.buffer as ArrayBuffer);
    return new Program(device, steps, plan, rangeOf, uniforms);
  }
}

type Step =
  | { kind: 'clear'; buffer: GPUBuffer; offset: number; size: number }
  | { kind: 'dispatch'; pipeline: GPUComputePipeline; group: GPUBindGroup; dispatch: Dispatch };

/**
 * FLOPs of one submission: systems reset a GPU that is busy with one for 2 s (Windows, amdgpu since Linux 7) to 10 s
 * (Intel, older amdgpu), and these take a second at 0.5 TFLOP/s.
 */
const submissionFlops = 5e11;
/** FLOPs in the time that a byte's way to memory takes, at 0.5 TFLOP/s and 30 GB/s. */
const flopsPerByte = 16;

/** Steps in as few submissions as hold `submissionFlops` each; a dispatch of more stands alone. */
function divide(steps: readonly Step[]): Step[][] {
  const parts: Step[][] = [];
  let sum = Number.POSITIVE_INFINITY;
  for (const step of steps) {
    const { flops = 0, bytes = 0 } = step.kind === 'clear' ? { bytes: step.size } : step.dispatch;
    const work = Math.max(flops, flopsPerByte * bytes);
    if (sum + work > submissionFlops) {
      parts.push([]);
      sum = 0;
    }
    parts[parts.length - 1].push(step);
    sum += work;
  }
  return parts;
}

/** A recorded list of dispatches, replayed as often as wanted without allocating. */
export class Program {
  readonly plan: MemoryPlan;
  readonly #device: Device;
  readonly #submissions: readonly (readonly Step[])[];
  readonly #rangeOf: (tensor: Tensor) => GPUBufferBinding;
  readonly #uniforms: GPUBuffer;

  constructor(
    device: Device,
    steps: readonly Step[],
    plan: MemoryPlan,
    rangeOf: (tensor: Tensor) => GPUBufferBinding,
    uniforms: GPUBuffer,
  ) {
    this.#device = device;
    this.#submissions = divide(steps);
    this.plan = plan;
    this.#rangeOf = rangeOf;
    this.#uniforms = uniforms;
  }

  get dispatches(): readonly Dispatch[] {
    return this.#submissions.flat().flatMap((s) => (s.kind === 'dispatch' ? [s.dispatch] : []));
  }

  /** Submits the whole program, a large one in parts; returns at once. */
  run(): void {
    const { gpu } = this.#device;
    for (const steps of this.#submissions) {
      const encoder = gpu.createCommandEncoder();
      let pass: GPUComputePassEncoder | null = null;
      for (const step of steps) {
        if (step.kind === 'clear') {
          pass?.end();
          pass = null;
          encoder.clearBuffer(step.buffer, step.offset, step.size);
          continue;
        }
        pass ??= encoder.beginComputePass();
        encode(pass, step);
      }
      pass?.end();
      gpu.queue.submit([encoder.finish()]);
    }
  }

  /** Runs once with timestamps around every dispatch; nanoseconds, in the order of `dispatches`. */
  async time(): Promise<number[]> {
    const { gpu } = this.#device;
    const perSet = 2048;
    const count = this.dispatches.length;
    const sets = Array.from({ length: Math.ceil(count / perSet) }, () =>
      gpu.createQuerySet({ type: 'timestamp', count: 2 * perSet }),
    );
    const resolved = this.#device.createBuffer(
      sets.length * perSet * 16,
      'timestamps',
      GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    );
    let index = 0;
    for (const steps of this.#submissions) {
      const encoder = gpu.createCommandEncoder();
      for (const step of steps) {
        if (step.kind === 'clear') {
          encoder.clearBuffer(step.buffer, step.offset, step.size);
          continue;
        }
        const at = (index % perSet) * 2;
        const pass = encoder.beginComputePass({
          timestampWrites: {
            querySet: sets[Math.floor(index / perSet)],
            beginningOfPassWriteIndex: at,
            endOfPassWriteIndex: at + 1,
          },
        });
        encode(pass, step);
        pass.end();
        index++;
      }
      gpu.queue.submit([encoder.finish()]);
    }
    const encoder = gpu.createCommandEncoder();
    for (const [i, set] of sets.entries()) {
      encoder.resolveQuerySet(set, 0, Math.min(perSet, count - i * perSet) * 2, resolved, i * perSet * 16);
    }
    gpu.queue.submit([encoder.finish()]);
    const ticks = new BigUint64Array(await this.#device.read(resolved, 0, count * 16));
    this.#device.destroyBuffer(resolved);
    for (const set of sets) set.destroy();
    return durations(ticks);
  }

  /** Contents of a tensor after everything submitted so far; transient ones only if they were kept. */
  async read(tensor: Tensor): Promise<ArrayBuffer> {
    const range = this.#rangeOf(tensor);
    return this.#device.read(range.buffer, range.offset ?? 0, tensor.elements * (tensor.dtype === 'f16' ? 2 : 4));
  }

  destroy(): void {
    this.#device.destroyBuffer(this.#uniforms);
  }
}

/**
 * How long each dispatch took, from where it began and ended. Dawn's Vulkan takes the beginning when a pass is reached
 * (TOP_OF_PIPE), on a GPU while the one before still runs: a dispatch counts from the end of the one before.
 */
export function durations(ticks: BigUint64Array): number[] {
  let free = 0n;
  return Array.from({ length: ticks.length / 2 }, (_, i) => {
    const begin = ticks[2 * i] > free ? ticks[2 * i] : free;
    const end = ticks[2 * i + 1];
    if (end <= begin) return 0;
    free = end;
    return Number(end - begin);
  });
}

function encode(pass: GPUComputePassEncoder, step: Step & { kind: 'dispatch' }): void {
  pass.setPipeline(step.pipeline);
  pass.setBindGroup(0, step.group);
  pass.dispatchWorkgroups(...(step.dispatch.workgroups as [number, number, number]));
}

/**
 * Buffers for transient tensors, shared by all programs of a run: programs never overlap and carry nothing over in
 * them, so the largest program's plan is the run's. Realise the largest first and the pool never grows.
 */
export class BufferPool {
  readonly #device: Device;
  /** By falling size. */
  #buffers: GPUBuffer[] = [];

  constructor(device: Device) {
    this.#device = device;
  }

  get bytes(): number {
    return this.#buffers.reduce((sum, b) => sum + b.size, 0);
  }

  /** One distinct buffer for each slot, at least as large as it. */
  acquire(slots: readonly number[]): GPUBuffer[] {
    const buffers = this.#buffers;
    const sizes = buffers.map(({ size }) => size);
    return assignBuffers(slots, sizes).map((i, slot) => (i < 0 ? this.#grow(slots[slot]) : buffers[i]));
  }

  #grow(bytes: number): GPUBuffer {
    const buffer = this.#device.createBuffer(bytes, 'transient');
    this.#buffers = [...this.#buffers, buffer].sort((a, b) => b.size - a.size);
    return buffer;
  }

  destroy(): void {
    for (const buffer of this.#buffers) this.#device.destroyBuffer(buffer);
    this.#buffers = [];
  }
}

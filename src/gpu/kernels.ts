import type { Device } from './device.js';
import { type Defines, specialise } from './shader.js';

/** Text of a file under kernels/, by path relative to it ("rms-norm.wgsl", "include/batch.wgsl"). */
export type KernelSource = (path: string) => string;

/** One pass (entry point) of a kernel file, specialised. */
export interface KernelKey {
  /** File name without ".wgsl"; the same word as the operation's. */
  readonly kernel: string;
  /** Entry point; the preprocessor sees its name as 1. */
  readonly pass: string;
  readonly defines: Defines;
}

export type ScalarType = 'u32' | 'i32' | 'f32';

/** A specialised kernel: what it binds, and its pipeline once compiled. */
export interface Kernel {
  readonly name: string;
  /** Storage bindings in binding order. */
  readonly bindings: readonly { name: string; writable: boolean }[];
  /** Fields of `struct Params`, in order. */
  readonly params: readonly { name: string; type: ScalarType }[];
  readonly usesBatch: boolean;
  /** Compiles on Dawn's threads, once; recording alone, as for a memory plan, costs no compilation. */
  compile(): Promise<CompiledKernel>;
}

export interface CompiledKernel {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

/** Metal has 31 places for buffers, of which Dawn leaves 10 to storage (gpuweb issue 4235). */
const mostTensors = 10;

/** Where a kernel's scalars are bound, behind its tensors: a call of the host for a group of its own costs microseconds. */
export const scalarBindings = { params: 20, batch: 21 } as const;

/**
 * Specialises, compiles and keeps kernels. A kernel file declares its tensors as
 * `var<storage, read|read_write> NAME: …`, bindings from 0 on, its scalars as `struct Params { … }` with
 * `@binding(20) var<uniform> p: Params`, and includes "batch.wgsl" for what changes from batch to batch
 * (`@binding(21)`), all in group 0. Layouts follow from the text, so callers bind by name.
 */
export class KernelCache {
  readonly #device: Device | null;
  readonly #source: KernelSource;
  readonly #kernels = new Map<string, Kernel>();
  #asked = 0;
  #done = 0;
  /** Called as compilations are asked for and end: how many of those since nothing was compiling have ended. */
  onCompile: ((done: number, asked: number) => void) | null = null;

  /** Without a device kernels serve to record, as for a memory plan, and cannot be compiled. */
  constructor(device: Device | null, source: KernelSource) {
    this.#device = device;
    this.#source = source;
  }

  /** The kernel for a key. */
  get(key: KernelKey): Kernel {
    const id = `${key.kernel}/${key.pass} ${JSON.stringify(Object.entries(key.defines).sort(([a], [b]) => (a < b ? -1 : 1)))}`;
    let kernel = this.#kernels.get(id);
    if (!kernel) {
      kernel = this.#specialise(id, key);
      this.#kernels.set(id, kernel);
    }
    return kernel;
  }

  #specialise(id: string, key: KernelKey): Kernel {
    const file = this.#source(`${key.kernel}.wgsl`);
    const passes = Object.fromEntries([...file.matchAll(/\bfn (\w+)\(@builtin/g)].map((m) => [m[1], 0]));
    const code = specialise(file, { ...passes, ...key.defines, [key.pass]: 1 }, (name) =>
      this.#source(`include/${name}`),
    );
    const bindings = [...code.matchAll(/@group\(0\) @binding\((\d+)\) var<storage, (read|read_write)> (\w+)/g)]
      .map((m) => ({ binding: Number(m[1]), name: m[3], writable: m[2] === 'read_write' }))
      .sort((a, b) => a.binding - b.binding);
    bindings.forEach((b, i) => {
      if (b.binding !== i) throw new Error(`kernel ${key.kernel}/${key.pass}: bindings must count from 0`);
    });
    if (bindings.length > mostTensors)
      throw new Error(
        `kernel ${id} binds ${bindings.length} tensors, more than the ${mostTensors} that Metal has room for`,
      );
    const params = [...(/struct Params \{([^}]*)\}/.exec(code)?.[1] ?? '').matchAll(/(\w+): (u32|i32|f32)/g)].map(
      (m) => ({
        name: m[1],
        type: m[2] as ScalarType,
      }),
    );
    const usesBatch = /var<uniform> batch\b/.test(code);
    let compiled: Promise<CompiledKernel> | null = null;
    const compile = () => {
      if (!this.#device) throw new Error(`kernel ${id}: no device to compile it for`);
      compiled ??= this.#count(compileKernel(this.#device, id, code, key.pass, { bindings, params, usesBatch }));
      return compiled;
    };
    return { name: `${key.kernel}/${key.pass}`, bindings, params, usesBatch, compile };
  }

  async #count(compilation: Promise<CompiledKernel>): Promise<CompiledKernel> {
    this.onCompile?.(this.#done, ++this.#asked);
    try {
      return await compilation;
    } finally {
      this.onCompile?.(++this.#done, this.#asked);
      if (this.#done === this.#asked) this.#done = this.#asked = 0;
    }
  }
}

async function compileKernel(
  device: Device,
  id: string,
  code: string,
  entryPoint: string,
  { bindings, params, usesBatch }: Pick<Kernel, 'bindings' | 'params' | 'usesBatch'>,
): Promise<CompiledKernel> {
  const { gpu } = device;
  const visibility = GPUShaderStage.COMPUTE;
  const uniform = (binding: number) => ({ binding, visibility, buffer: { type: 'uniform' as const } });
  const layout = gpu.createBindGroupLayout({
    entries: [
      ...bindings.map((b, binding) => ({
        binding,
        visibility,
        buffer: { type: b.writable ? ('storage' as const) : ('read-only-storage' as const) },
      })),
      ...(params.length ? [uniform(scalarBindings.params)] : []),
      ...(usesBatch ? [uniform(scalarBindings.batch)] : []),
    ],
  });
  const module = gpu.createShaderModule({ label: id, code });
  const pipelineLayout = gpu.createPipelineLayout({ bindGroupLayouts: [layout] });
  try {
    const pipeline = await device.track(
      gpu.createComputePipelineAsync({ label: id, layout: pipelineLayout, compute: { module, entryPoint } }),
    );
    return { pipeline, layout };
  } catch (reason) {
    const { messages } = await module.getCompilationInfo();
    const text = messages
      .filter((m) => m.type === 'error')
      .map((m) => `${m.lineNum}: ${m.message} — ${code.split('\n')[m.lineNum - 1]}`);
    throw new Error(`kernel ${id} does not compile: ${text.join('\n') || (reason as Error).message}`);
  }
}

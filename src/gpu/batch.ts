import type { Device } from './device.js';

/** The f32 of kernels/include/batch.wgsl, in its order; before them stand the u32 rows, logitRows and seed. */
const floats = [
  ...(['gradScale', 'unscale', 'rateA', 'rateB', 'beta1', 'beta2'] as const),
  ...(['epsilon', 'decay', 'correction1', 'correction2', 'maxNorm', 'dropout'] as const),
] as const;

/** Its values. Unnamed ones are 0. */
export type BatchValues = Record<'rows' | 'logitRows' | 'seed' | (typeof floats)[number], number>;

/** The uniform buffer that every program of a run reads; a write takes effect for what is submitted after it. */
export class BatchUniform {
  readonly buffer: GPUBuffer;
  readonly #device: Device;

  constructor(device: Device) {
    this.#device = device;
    this.buffer = device.createBuffer(64, 'batch', GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
  }

  write(values: Partial<BatchValues>): void {
    const data = new ArrayBuffer(64);
    new Uint32Array(data).set([values.rows ?? 0, values.logitRows ?? 0, values.seed ?? 0, 0]);
    new Float32Array(data, 16).set(floats.map((name) => values[name] ?? 0));
    this.#device.gpu.queue.writeBuffer(this.buffer, 0, data);
  }
}

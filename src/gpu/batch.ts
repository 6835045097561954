import type { Device } from './device.js';

/** The values of kernels/include/batch.wgsl, in its order. Unnamed ones are 0. */
export interface BatchValues {
  rows: number;
  logitRows: number;
  seed: number;
  gradScale: number;
  unscale: number;
  rateA: number;
  rateB: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  decay: number;
  correction1: number;
  correction2: number;
  maxNorm: number;
  dropout: number;
}

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
    const v = values;
    new Float32Array(data, 16).set(
      [
        v.gradScale,
        v.unscale,
        v.rateA,
        v.rateB,
        v.beta1,
        v.beta2,
        v.epsilon,
        v.decay,
        v.correction1,
        v.correction2,
        v.maxNorm,
        v.dropout,
      ].map((x) => x ?? 0),
    );
    this.#device.gpu.queue.writeBuffer(this.buffer, 0, data);
  }
}

import type { Device } from './device.js';

export type DType = 'f32' | 'f16' | 'u32' | 'i32';

export const bytesOf: Readonly<Record<DType, number>> = { f32: 4, f16: 2, u32: 4, i32: 4 };

/**
 * A dense row-major array on the device. Without a buffer it is transient: a name for memory that the memory plan
 * assigns for as long as a program needs it.
 */
export class Tensor {
  readonly label: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Null: transient, or a stand-in for planning. */
  readonly buffer: GPUBuffer | null;
  /** Its memory is not the plan's business. */
  readonly persistent: boolean;
  /** Bytes into the buffer. */
  readonly offset: number;

  constructor(
    label: string,
    dtype: DType,
    shape: readonly number[],
    buffer: GPUBuffer | null = null,
    offset = 0,
    persistent = buffer !== null,
  ) {
    this.label = label;
    this.dtype = dtype;
    this.shape = shape;
    this.buffer = buffer;
    this.persistent = persistent;
    this.offset = offset;
  }

  get elements(): number {
    return this.shape.reduce((a, b) => a * b, 1);
  }

  /** Bytes that it takes, rounded up to 16, as vec4 of any type and copies want. */
  get bytes(): number {
    return Math.ceil((this.elements * bytesOf[this.dtype]) / 16) * 16;
  }
}

/** A tensor with a buffer of its own, for what outlives a program: weights, adapters, inputs. */
export function createTensor(device: Device, label: string, dtype: DType, shape: readonly number[]): Tensor {
  const { bytes } = new Tensor(label, dtype, shape);
  return new Tensor(label, dtype, shape, device.createBuffer(bytes, label));
}

/** A tensor without memory in the place of a persistent one, for planning. */
export function standIn(label: string, dtype: DType, shape: readonly number[]): Tensor {
  return new Tensor(label, dtype, shape, null, 0, true);
}

/** Writes zeros over persistent tensors. */
export function clear(device: Device, tensors: Iterable<Tensor>): void {
  const encoder = device.gpu.createCommandEncoder();
  for (const { buffer, offset, bytes } of tensors) encoder.clearBuffer(buffer!, offset, bytes);
  device.gpu.queue.submit([encoder.finish()]);
}

/** Writes the start of a persistent tensor; elements past `data` keep what they hold. */
export function upload(
  device: Device,
  tensor: Tensor,
  data: Uint32Array | Int32Array | Float32Array | Uint16Array,
): void {
  if (!tensor.buffer) throw new Error(`upload: ${tensor.label} is transient`);
  if (data.byteLength > tensor.bytes)
    throw new Error(`upload: ${data.byteLength} bytes into ${tensor.label} of ${tensor.bytes}`);
  const whole = data.byteLength % 4 === 0;
  const bytes = whole ? data : new Uint16Array([...(data as Uint16Array), 0]);
  if (bytes.byteLength > 0)
    device.gpu.queue.writeBuffer(
      tensor.buffer,
      tensor.offset,
      bytes.buffer as ArrayBuffer,
      bytes.byteOffset,
      bytes.byteLength,
    );
}

import type { Device } from '../gpu/device.js';
import { clear, createTensor, standIn, type Tensor, upload } from '../gpu/tensor.js';
import type { AdamWChunk } from '../ops/adamw.js';

/** The numbers of a value head, or one of its moments: [dim + 1], the weight and behind it the bias. */
export type ValueHeadNumbers = Float32Array;

export interface ValueHeadMoments {
  readonly first: ValueHeadNumbers;
  readonly second: ValueHeadNumbers;
}

/** Elements are a multiple of this, so that norm and optimiser take whole workgroups. */
const align = 128;

/** What a critic adds to the model: value = w · (state after the final norm) + b, with what its optimiser needs. */
export class ValueHead {
  readonly dim: number;
  readonly chunk: AdamWChunk;
  readonly #device: Device;

  constructor(device: Device, dim: number, operand: 'f16' | 'f32') {
    this.#device = device;
    this.dim = dim;
    const elements = Math.ceil((dim + 1) / align) * align;
    const made = (label: string, dtype: 'f32' | 'f16', count = elements) => {
      const tensor = createTensor(device, `value_head.${label}`, dtype, [count]);
      clear(device, [tensor]);
      return tensor;
    };
    this.chunk = {
      parameters: made('parameters', 'f32'),
      gradients: made('gradients', 'f32'),
      first: made('first', 'f32'),
      second: made('second', 'f32'),
      operands: made('operands', operand),
      scales: made('scales', 'f32', elements / 64), // 0: all of it learns at the rate of lora_A
    };
  }

  /** Parameters of this shape without memory, for planning. */
  static standIn(dim: number): { parameters: Tensor; gradients: Tensor } {
    const make = (label: string) => standIn(label, 'f32', [Math.ceil((dim + 1) / align) * align]);
    return { parameters: make('value_head.parameters'), gradients: make('value_head.gradients') };
  }

  upload(numbers: ValueHeadNumbers): void {
    upload(this.#device, this.chunk.parameters, numbers);
  }

  uploadMoments({ first, second }: ValueHeadMoments): void {
    upload(this.#device, this.chunk.first, first);
    upload(this.#device, this.chunk.second, second);
  }

  download(what: 'parameters' | 'first' | 'second' | 'gradients' = 'parameters'): Promise<ValueHeadNumbers> {
    const read = this.#device.read(this.chunk[what].buffer!, 0, 4 * (this.dim + 1));
    return read.then((bytes) => new Float32Array(bytes));
  }

  destroy(): void {
    for (const tensor of Object.values(this.chunk)) this.#device.destroyBuffer(tensor.buffer!);
  }
}

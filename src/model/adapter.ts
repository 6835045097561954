import type { ModelConfig } from '../../models/config.js';
import { LINEAR_MODULES, type LinearModule, linearShape, MODULES_BY_INPUT, modulePath } from '../../models/tensors.js';
import { type Adapter, type AdapterConfig, adapterRank, adapterScale, type LoraPair } from '../formats/adapter.js';
import type { Device } from '../gpu/device.js';
import { bytesOf, clear, createTensor, standIn, Tensor, upload } from '../gpu/tensor.js';
import type { AdamWChunk } from '../ops/adamw.js';

/** Ranks are padded with zero rows and columns, which stay zero: their gradients are. */
const rankAlign = 8;
/** Elements; keeps every matrix at a legal binding offset (256 bytes) in f16. */
const matrixAlign = 128;

interface Matrix {
  readonly path: string;
  readonly matrix: 'A' | 'B';
  /** Unpadded. */
  readonly shape: readonly [number, number];
  readonly padded: readonly [number, number];
  readonly chunk: number;
  /** Element in its chunk. */
  readonly first: number;
}

/** One adapted linear layer's matrices, of which A may stand with others' in one. */
interface Pair {
  readonly a: Matrix;
  readonly b: Matrix;
}

/** The lora_A of the adapted layers that multiply the same x, one under the other: one product gives x·Aᵀ of all. */
export interface AdapterInput {
  /** Of all of them together, padded. */
  readonly rank: number;
  /** Operand type, [rank, in]. */
  readonly a: Tensor;
  /** f32; null for an adapter that is not trained. */
  readonly gradientA: Tensor | null;
}

/** The tensors of one adapted linear layer, as matmuls and gradients use them. */
export interface AdaptedModule {
  readonly input: AdapterInput;
  /** Row of the input's lora_A where this module's begins. */
  readonly column: number;
  /** r of this module, padded. */
  readonly rank: number;
  readonly scale: number;
  /** Operand type, [out, rank], times the scale. */
  readonly b: Tensor;
  /** f32; null for an adapter that is not trained. */
  readonly gradientB: Tensor | null;
  /** Numbers the module for dropout masks. */
  readonly site: number;
}

/** An adapter as a decoder pass sees it. */
export interface AdapterLayout {
  readonly config: AdapterConfig;
  /** By module path. */
  readonly modules: ReadonlyMap<string, AdaptedModule>;
}

/** AdamW's first and second moments of an adapter's matrices, by module path. */
export interface Moments {
  readonly first: ReadonlyMap<string, LoraPair>;
  readonly second: ReadonlyMap<string, LoraPair>;
}

/**
 * A LoRA adapter on the device: all matrices in a few flat buffers (one, unless it passes a binding), so that norm,
 * optimiser and operand copies take one dispatch each.
 */
export class AdapterWeights implements AdapterLayout {
  readonly config: AdapterConfig;
  readonly chunks: readonly AdamWChunk[];
  readonly modules: ReadonlyMap<string, AdaptedModule>;
  readonly trainable: boolean;
  readonly #device: Device;
  readonly #matrices: readonly Matrix[];

  constructor(
    device: Device,
    model: ModelConfig,
    config: AdapterConfig,
    operand: 'f16' | 'f32',
    options: { trainable: boolean },
  ) {
    this.#device = device;
    this.config = config;
    this.trainable = options.trainable;
    const { inputs, chunks: sizes } = layOut(model, config, device.maxBinding / 4);
    const matrices = inputs.flat().flatMap(({ a, b }) => [a, b]);
    this.#matrices = matrices;
    const made = (label: string, dtype: 'f32' | 'f16' | 'u32', elements: number, wanted = true) => {
      const tensor = createTensor(device, `adapter.${label}`, dtype, [wanted ? elements : 4]);
      clear(device, [tensor]);
      return tensor;
    };
    this.chunks = sizes.map((elements, index) => {
      const scales = new Float32Array(elements / 64);
      for (const m of matrices) {
        if (m.chunk === index && m.matrix === 'B')
          scales.fill(adapterScale(config, m.path), m.first / 64, (m.first + align(m.padded[0] * m.padded[1])) / 64);
      }
      const chunk = {
        parameters: made('parameters', 'f32', elements),
        operands: made('operands', operand, elements),
        scales: made('scales', 'f32', elements / 64),
        gradients: made('gradients', 'f32', elements, options.trainable),
        first: made('first', 'f32', elements, options.trainable),
        second: made('second', 'f32', elements, options.trainable),
      };
      upload(device, chunk.scales, scales);
      return chunk;
    });
    this.modules = moduleViews(config, inputs, this.chunks, options.trainable);
  }

  /** Bytes that an adapter of this shape takes on the device. */
  static bytes(
    model: ModelConfig,
    config: AdapterConfig,
    operand: 'f16' | 'f32',
    options: { trainable: boolean },
  ): number {
    const { chunks } = layOut(model, config, Number.MAX_SAFE_INTEGER);
    const each = 4 + bytesOf[operand] + 4 / 64 + (options.trainable ? 12 : 0);
    return chunks.reduce((sum, elements) => sum + elements * each, 0);
  }

  /** Puts an adapter's numbers in place; `operands` must be made from them before they count (see `adapterOperands`). */
  upload(adapter: Adapter): void {
    this.#put('parameters', adapter.tensors);
  }

  /** Puts the moments of a checkpoint in place. */
  uploadMoments(moments: Moments): void {
    this.#put('first', moments.first);
    this.#put('second', moments.second);
  }

  #put(what: 'parameters' | 'first' | 'second', pairs: ReadonlyMap<string, LoraPair>): void {
    const data = this.chunks.map((chunk) => new Float32Array(chunk.parameters.elements));
    for (const m of this.#matrices) {
      const pair = pairs.get(m.path);
      if (pair) pad(pair[m.matrix], m, data[m.chunk]);
    }
    this.chunks.forEach((chunk, i) => {
      upload(this.#device, chunk[what], data[i]);
    });
  }

  /** The adapter's numbers after everything submitted so far. */
  async download(): Promise<Adapter> {
    return { config: this.config, tensors: await this.#pairs('parameters') };
  }

  /** Gradients in the adapter's layout, times whatever loss scale they were computed with. */
  async downloadGradients(): Promise<Map<string, LoraPair>> {
    return this.#pairs('gradients');
  }

  /** Both moments, for a checkpoint of the optimiser. */
  async downloadMoments(): Promise<Moments> {
    return { first: await this.#pairs('first'), second: await this.#pairs('second') };
  }

  async #pairs(what: 'parameters' | 'gradients' | 'first' | 'second'): Promise<Map<string, LoraPair>> {
    const data = await Promise.all(
      this.chunks.map(
        async (chunk) =>
          new Float32Array(await this.#device.read(chunk[what].buffer!, 0, chunk.parameters.elements * 4)),
      ),
    );
    const pairs = new Map<string, { A: Float32Array; B: Float32Array }>();
    for (const m of this.#matrices) {
      const pair = pairs.get(m.path) ?? { A: new Float32Array(), B: new Float32Array() };
      pair[m.matrix] = unpad(data[m.chunk], m);
      pairs.set(m.path, pair);
    }
    return pairs;
  }

  destroy(): void {
    for (const chunk of this.chunks)
      for (const tensor of Object.values(chunk)) this.#device.destroyBuffer(tensor.buffer);
  }
}

function align(elements: number): number {
  return Math.ceil(elements / matrixAlign) * matrixAlign;
}

function moduleViews(
  config: AdapterConfig,
  inputs: readonly (readonly Pair[])[],
  chunks: readonly Pick<AdamWChunk, 'operands' | 'gradients'>[],
  trainable: boolean,
): Map<string, AdaptedModule> {
  const view = (tensor: Tensor, { path, matrix, first }: Matrix, shape: readonly number[]) =>
    new Tensor(`${path}.lora_${matrix}`, tensor.dtype, shape, tensor.buffer, first * bytesOf[tensor.dtype], true);
  const modules = new Map<string, AdaptedModule>();
  for (const pairs of inputs) {
    const { a } = pairs[0];
    const rank = pairs.reduce((sum, pair) => sum + pair.a.padded[0], 0);
    const [stacked, chunk] = [[rank, a.padded[1]], chunks[a.chunk]];
    const gradientA = trainable ? view(chunk.gradients, a, stacked) : null;
    const input = { rank, a: view(chunk.operands, a, stacked), gradientA };
    let column = 0;
    for (const { a, b } of pairs) {
      const { operands, gradients } = chunks[b.chunk];
      modules.set(a.path, {
        input,
        column,
        rank: a.padded[0],
        scale: adapterScale(config, a.path),
        b: view(operands, b, b.padded),
        gradientB: trainable ? view(gradients, b, b.padded) : null,
        site: modules.size,
      });
      column += a.padded[0];
    }
  }
  return modules;
}

/** An adapter of this shape without memory, for planning. */
export function adapterStandIn(model: ModelConfig, config: AdapterConfig, operand: 'f16' | 'f32'): AdapterLayout {
  const { inputs, chunks } = layOut(model, config, Number.MAX_SAFE_INTEGER);
  const flat = chunks.map((elements) => ({
    operands: standIn('operands', operand, [elements]),
    gradients: standIn('gradients', 'f32', [elements]),
  }));
  return { config, modules: moduleViews(config, inputs, flat, true) };
}

/**
 * Places every A and B in flat chunks of at most `limit` elements. The A of modules that share an input follow each other
 * without a gap, unless each module drops elements of its own from that input.
 */
function layOut(model: ModelConfig, config: AdapterConfig, limit: number): { inputs: Pair[][]; chunks: number[] } {
  const chunks = [0];
  const place = (matrices: readonly Omit<Matrix, 'chunk' | 'first'>[]): Matrix[] => {
    const sizes = matrices.map(({ padded: [rows, columns] }) => align(rows * columns));
    if (chunks[chunks.length - 1] + sizes.reduce((a, b) => a + b, 0) > limit) chunks.push(0);
    const chunk = chunks.length - 1;
    return matrices.map((matrix, i) => {
      const first = chunks[chunk];
      chunks[chunk] += sizes[i];
      return { ...matrix, chunk, first };
    });
  };
  const inputs: Pair[][] = [];
  for (let layer = 0; layer < model.layers; layer++) {
    for (const modules of MODULES_BY_INPUT) {
      const adapted = modules.filter((module) => config.targetModules.includes(module));
      const sizes = adapted.map((module) => matricesOf(model, config, layer, module));
      const shared =
        config.dropout === 0 &&
        sizes.every(
          ([
            {
              padded: [rank, width],
            },
          ]) => (rank * width) % matrixAlign === 0,
        );
      for (const together of shared && sizes.length ? [sizes] : sizes.map((each) => [each])) {
        const all = place(together.map(([a]) => a));
        inputs.push(together.map(([, b], i) => ({ a: all[i], b: place([b])[0] })));
      }
    }
  }
  return { inputs, chunks };
}

/** A and B of a module, without a place. */
function matricesOf(
  model: ModelConfig,
  config: AdapterConfig,
  layer: number,
  module: LinearModule,
): [Omit<Matrix, 'chunk' | 'first'>, Omit<Matrix, 'chunk' | 'first'>] {
  const path = modulePath(layer, module);
  const { in: width, out } = linearShape(model, module);
  const r = adapterRank(config, path);
  const rank = Math.ceil(r / rankAlign) * rankAlign;
  return [
    { path, matrix: 'A', shape: [r, width], padded: [rank, width] },
    { path, matrix: 'B', shape: [out, r], padded: [out, rank] },
  ];
}

function pad(values: Float32Array, m: Matrix, into: Float32Array): void {
  for (let row = 0; row < m.shape[0]; row++) {
    into.set(values.subarray(row * m.shape[1], (row + 1) * m.shape[1]), m.first + row * m.padded[1]);
  }
}

function unpad(from: Float32Array, m: Matrix): Float32Array {
  const values = new Float32Array(m.shape[0] * m.shape[1]);
  for (let row = 0; row < m.shape[0]; row++) {
    const at = m.first + row * m.padded[1];
    values.set(from.subarray(at, at + m.shape[1]), row * m.shape[1]);
  }
  return values;
}

/**
 * A new adapter by PEFT's defaults: A Kaiming-uniform with a = √5, which is uniform within ±1/√in; B zero, so that
 * training starts at the base model. `random` gives numbers in [0, 1).
 */
export function initialAdapter(model: ModelConfig, config: AdapterConfig, random: () => number): Adapter {
  const tensors = new Map<string, LoraPair>();
  for (let layer = 0; layer < model.layers; layer++) {
    for (const module of LINEAR_MODULES) {
      if (!config.targetModules.includes(module)) continue;
      const path = modulePath(layer, module);
      const shape = linearShape(model, module);
      const r = adapterRank(config, path);
      const bound = 1 / Math.sqrt(shape.in);
      tensors.set(path, {
        A: Float32Array.from({ length: r * shape.in }, () => (2 * random() - 1) * bound),
        B: new Float32Array(shape.out * r),
      });
    }
  }
  return { config, tensors };
}

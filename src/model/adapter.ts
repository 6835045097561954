import type { ModelConfig } from '../../models/config.js';
import { LINEAR_MODULES, linearShape, modulePath } from '../../models/tensors.js';
import { type Adapter, type AdapterConfig, adapterRank, adapterScale, type LoraPair } from '../formats/adapter.js';
import type { Device } from '../gpu/device.js';
import { bytesOf, createTensor, Tensor, upload } from '../gpu/tensor.js';
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

/** The tensors of one adapted linear layer, as matmuls and gradients use them. */
export interface AdaptedModule {
  /** r of this module, padded. */
  readonly rank: number;
  readonly scale: number;
  /** Operand type, [rank, in] and [out, rank]; B is times the scale. */
  readonly a: Tensor;
  readonly b: Tensor;
  /** f32; null for an adapter that is not trained. */
  readonly gradientA: Tensor | null;
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
    const { matrices, chunks: sizes } = layOut(model, config, device.maxBinding / 4);
    this.#matrices = matrices;
    const made = (label: string, dtype: 'f32' | 'f16' | 'u32', elements: number, wanted = true) => {
      const tensor = createTensor(device, `adapter.${label}`, dtype, [wanted ? elements : 4]);
      const encoder = device.gpu.createCommandEncoder();
      encoder.clearBuffer(tensor.buffer!);
      device.gpu.queue.submit([encoder.finish()]);
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
    this.modules = moduleViews(config, matrices, this.chunks, options.trainable);
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
  matrices: readonly Matrix[],
  chunks: readonly Pick<AdamWChunk, 'operands' | 'gradients'>[],
  trainable: boolean,
): Map<string, AdaptedModule> {
  const view = (tensor: Tensor, m: Matrix) =>
    new Tensor(
      `${m.path}.lora_${m.matrix}`,
      tensor.dtype,
      m.padded,
      tensor.buffer,
      m.first * bytesOf[tensor.dtype],
      true,
    );
  const modules = new Map<string, AdaptedModule>();
  for (let i = 0; i < matrices.length; i += 2) {
    const [a, b] = [matrices[i], matrices[i + 1]];
    const [chunkA, chunkB] = [chunks[a.chunk], chunks[b.chunk]];
    modules.set(a.path, {
      rank: a.padded[0],
      scale: adapterScale(config, a.path),
      a: view(chunkA.operands, a),
      b: view(chunkB.operands, b),
      gradientA: trainable ? view(chunkA.gradients, a) : null,
      gradientB: trainable ? view(chunkB.gradients, b) : null,
      site: i / 2,
    });
  }
  return modules;
}

/** An adapter of this shape without memory, for planning. */
export function adapterStandIn(model: ModelConfig, config: AdapterConfig, operand: 'f16' | 'f32'): AdapterLayout {
  const { matrices, chunks } = layOut(model, config, Number.MAX_SAFE_INTEGER);
  const flat = chunks.map((elements) => ({
    operands: new Tensor('operands', operand, [elements], null, 0, true),
    gradients: new Tensor('gradients', 'f32', [elements], null, 0, true),
  }));
  return { config, modules: moduleViews(config, matrices, flat, true) };
}

/** Places every A and B in flat chunks of at most `limit` elements. */
function layOut(model: ModelConfig, config: AdapterConfig, limit: number): { matrices: Matrix[]; chunks: number[] } {
  const matrices: Matrix[] = [];
  const chunks = [0];
  for (let layer = 0; layer < model.layers; layer++) {
    for (const module of LINEAR_MODULES) {
      if (!config.targetModules.includes(module)) continue;
      const path = modulePath(layer, module);
      const { in: width, out } = linearShape(model, module);
      const r = adapterRank(config, path);
      const rank = Math.ceil(r / rankAlign) * rankAlign;
      for (const matrix of ['A', 'B'] as const) {
        const shape = matrix === 'A' ? ([r, width] as const) : ([out, r] as const);
        const padded = matrix === 'A' ? ([rank, width] as const) : ([out, rank] as const);
        const elements = align(padded[0] * padded[1]);
        if (chunks[chunks.length - 1] + elements > limit) chunks.push(0);
        const chunk = chunks.length - 1;
        matrices.push({ path, matrix, shape, padded, chunk, first: chunks[chunk] });
        chunks[chunk] += elements;
      }
    }
  }
  return { matrices, chunks };
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

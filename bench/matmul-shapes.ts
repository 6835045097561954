import type { ModelConfig } from '../models/config.js';
import { EMBEDDING, HEAD, LINEAR_MODULES, layerTensorName, linearShape } from '../models/tensors.js';
import type { PackedLayouts } from '../src/model/weights.js';
import type { MatmulShape } from './kernels/matmul.js';

/**
 * The matmuls of a forward pass of so many tokens and how often each occurs, weights packed as `layouts` has them; a
 * vocabulary is of whole eights, as it is loaded.
 */
export function matmulShapes(
  config: ModelConfig,
  tokens: number,
  layouts: PackedLayouts = new Map(),
): (MatmulShape & { count: number })[] {
  const shapes = new Map<string, MatmulShape & { count: number }>();
  const add = (name: string, n: number, k: number, count: number) => {
    const packed = layouts.get(name)?.format ?? null;
    const key = `${n}x${k} ${packed}`;
    shapes.set(key, { m: tokens, n, k, packed, count: (shapes.get(key)?.count ?? 0) + count });
  };
  for (const module of LINEAR_MODULES) {
    const shape = linearShape(config, module);
    add(layerTensorName(0, module), shape.out, shape.in, config.layers);
  }
  add(config.tiedEmbeddings ? EMBEDDING : HEAD, 8 * Math.ceil(config.vocabSize / 8), config.hiddenSize, 1);
  return [...shapes.values()];
}

/** Parameters of a model's matmuls: of all layers, and of the head. */
export function matmulParameters(config: ModelConfig): { layers: number; head: number } {
  const shapes = LINEAR_MODULES.map((module) => linearShape(config, module));
  const layer = shapes.reduce((sum, shape) => sum + shape.in * shape.out, 0);
  return { layers: config.layers * layer, head: config.vocabSize * config.hiddenSize };
}

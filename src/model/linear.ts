import type { ModelConfig } from '../../models/config.js';
import { type LinearModule, linearShape, modulePath } from '../../models/tensors.js';
import type { Tensor } from '../gpu/tensor.js';
import type { OpContext } from '../ops/context.js';
import { dropout, dropoutBackward } from '../ops/dropout.js';
import { loraGradient } from '../ops/lora-gradient.js';
import { matmul } from '../ops/matmul.js';
import type { AdaptedModule, AdapterInput, AdapterLayout } from './adapter.js';
import type { Weights } from './weights.js';

/** What a decoder pass is recorded over. */
export interface DecoderContext {
  readonly ops: OpContext;
  readonly config: ModelConfig;
  readonly weights: Weights;
  readonly adapter: AdapterLayout | null;
  /** Rows of every activation. */
  readonly capacity: number;
  /** Dropout masks are drawn; otherwise the adapter is as in evaluation. */
  readonly training: boolean;
  /** Layers below this one keep their input alone: the backward pass computes the rest again. By default 0, none. */
  readonly recompute?: number;
}

/** What the backward pass of a linear layer needs from its forward pass, beside x. */
export interface LinearTape {
  readonly layer: number;
  readonly module: LinearModule;
  readonly adapted: AdaptedModule | null;
  /** x·Aᵀ [rows, the input's rank], of x after dropout; the module's own columns begin at its `column`. */
  readonly u: Tensor | null;
  /** x is the true input times 1 / inputScale. */
  readonly inputScale: number;
}

/**
 * The adapter's narrow half, u = x·Aᵀ, of linear layers that multiply the same x, which is asked for only where one of
 * them is adapted.
 */
export function adapt(
  d: DecoderContext,
  layer: number,
  modules: readonly LinearModule[],
  args: { x: () => Tensor; inputScale?: number },
): LinearTape[] {
  const { ops, capacity } = d;
  const { inputScale = 1 } = args;
  const products = new Map<AdapterInput, Tensor>();
  return modules.map((module) => {
    const path = modulePath(layer, module);
    const adapted = d.adapter?.modules.get(path) ?? null;
    if (!adapted) return { layer, module, adapted, u: null, inputScale };
    const { input, site } = adapted;
    const u = products.get(input) ?? ops.recorder.tensor(`${path}.u`, ops.operand, [capacity, input.rank]);
    if (!products.has(input))
      matmul(ops, {
        label: 'lora_A',
        form: 'nt',
        x: loraInput(d, site, args.x()),
        w: input.a,
        c: u,
        n: input.rank,
        k: linearShape(d.config, module).in,
        count: 'batch.rows',
      });
    products.set(input, u);
    return { layer, module, adapted, u, inputScale };
  });
}

function drops(d: DecoderContext): boolean {
  return d.training && d.adapter !== null && d.adapter.config.dropout > 0;
}

/** What lora_A multiplies: x, or x after dropout, which is the same whenever it is asked for. */
function loraInput(d: DecoderContext, site: number, x: Tensor): Tensor {
  if (!drops(d)) return x;
  const dropped = d.ops.recorder.tensor('dropped', d.ops.operand, x.shape);
  dropout(d.ops, { x, y: dropped }, site);
  return dropped;
}

/** y = inputScale · (x·Wᵀ + s·u·Bᵀ) + bias + residual, base and adapter in one matmul over [x, u]. */
export function product(
  d: DecoderContext,
  { layer, module, adapted, u, inputScale }: LinearTape,
  args: { x: Tensor; y: Tensor; residual?: Tensor },
): void {
  const shape = linearShape(d.config, module);
  const { weight, bias } = d.weights.layers[layer].linear[module];
  matmul(d.ops, {
    label: module,
    form: 'nt',
    x: args.x,
    w: weight,
    c: args.y,
    n: shape.out,
    k: shape.in,
    lora: u ? { u, v: adapted!.b, rank: adapted!.rank, column: adapted!.column } : undefined,
    bias: bias ?? undefined,
    residual: args.residual,
    alpha: inputScale,
    count: 'batch.rows',
  });
}

/** Whole linear layers of one x: y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ + bias + residual of each. */
export function linear(
  d: DecoderContext,
  layer: number,
  outputs: readonly (readonly [LinearModule, Tensor])[],
  args: { x: Tensor; residual?: Tensor },
): LinearTape[] {
  const modules = outputs.map(([module]) => module);
  const tapes = adapt(d, layer, modules, { x: () => args.x });
  tapes.forEach((tape, i) => {
    product(d, tape, { ...args, y: outputs[i][1] });
  });
  return tapes;
}

/**
 * From the x of linear layers, asked for where one is adapted, and the dy of each (operand type): the gradients of A and
 * B, added to the adapter's, and dx = Σ dy·W + s·(dy·B)·A of the true input; `dx` null where nothing below is trained.
 */
export function linearBackward(
  d: DecoderContext,
  outputs: readonly (readonly [LinearTape, Tensor])[],
  args: { x: () => Tensor; dx: Tensor | null },
): void {
  const { ops } = d;
  const { dx } = args;
  const dropped = drops(d);
  const shares = narrowBackward(d, outputs, args.x);
  if (!dx) return;
  outputs.forEach(([{ layer, module, adapted }, dy], i) => {
    const shape = linearShape(d.config, module);
    // The share of all lora_A of an input goes with the first of its layers.
    const du = adapted && adapted.column === 0 && !dropped ? shares.get(adapted.input) : undefined;
    matmul(ops, {
      label: `${module}.backward`,
      form: 'nn',
      x: dy,
      w: d.weights.layers[layer].linear[module].weight,
      c: dx,
      n: shape.in,
      k: shape.out,
      lora: du && { u: du, v: adapted!.input.a, rank: adapted!.input.rank },
      accumulate: i > 0,
      count: 'batch.rows',
    });
  });
  if (!dropped) return;
  for (const [{ module, adapted }] of outputs) {
    if (!adapted) continue;
    const { input, site } = adapted;
    const width = linearShape(d.config, module).in;
    const share = ops.recorder.tensor('dropped.gradient', ops.operand, [d.capacity, width]);
    matmul(ops, {
      label: 'lora_A.backward',
      form: 'nn',
      x: shares.get(input)!,
      w: input.a,
      c: share,
      n: width,
      k: input.rank,
      count: 'batch.rows',
    });
    dropoutBackward(ops, { dy: share, dx }, site);
  }
}

/** Gradients of A and B, and du = dy·B [rows, rank] of every lora_A. */
function narrowBackward(
  d: DecoderContext,
  outputs: readonly (readonly [LinearTape, Tensor])[],
  x: () => Tensor,
): Map<AdapterInput, Tensor> {
  const { ops, capacity } = d;
  const shares = new Map<AdapterInput, Tensor>();
  for (const [{ module, adapted, u, inputScale }, dy] of outputs) {
    if (!adapted || !u) continue;
    const { input, column, rank, scale, b, gradientB } = adapted;
    const du = shares.get(input) ?? ops.recorder.tensor('du', ops.operand, [capacity, input.rank]);
    shares.set(input, du);
    const { out } = linearShape(d.config, module);
    const own = input.rank > rank;
    matmul(ops, {
      label: 'lora_B.backward',
      form: 'nn',
      x: dy,
      w: b,
      c: du,
      n: rank,
      k: out,
      cColumn: own ? column : undefined,
      count: 'batch.rows',
    });
    if (gradientB)
      loraGradient(ops, {
        label: 'lora_B.gradient',
        layout: 'b',
        skinny: u,
        column: own ? column : undefined,
        wide: dy,
        gradient: gradientB,
        rank,
        columns: out,
        alpha: scale * inputScale,
      });
  }
  for (const [{ module, adapted, inputScale }] of outputs) {
    if (!adapted?.input.gradientA || adapted.column > 0) continue;
    const { input, site } = adapted;
    loraGradient(ops, {
      label: 'lora_A.gradient',
      layout: 'a',
      skinny: shares.get(input)!,
      wide: loraInput(d, site, x()),
      gradient: input.gradientA!,
      rank: input.rank,
      columns: linearShape(d.config, module).in,
      alpha: inputScale,
    });
  }
  return shares;
}

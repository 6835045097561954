import type { ModelConfig } from '../../models/config.js';
import { type LinearModule, linearShape, modulePath } from '../../models/tensors.js';
import type { Tensor } from '../gpu/tensor.js';
import type { OpContext } from '../ops/context.js';
import { dropout, dropoutBackward } from '../ops/dropout.js';
import { loraGradient } from '../ops/lora-gradient.js';
import { matmul } from '../ops/matmul.js';
import type { AdaptedModule, AdapterLayout } from './adapter.js';
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
  /** x·Aᵀ [rows, rank], of x after dropout */
  readonly u: Tensor | null;
  /** x is the true input times 1 / inputScale. */
  readonly inputScale: number;
}

/** The adapter's narrow half of a linear layer, u = x·Aᵀ, where the module is adapted; x is asked for only then. */
export function adapt(
  d: DecoderContext,
  layer: number,
  module: LinearModule,
  args: { x: () => Tensor; inputScale?: number },
): LinearTape {
  const { ops, capacity } = d;
  const path = modulePath(layer, module);
  const adapted = d.adapter?.modules.get(path) ?? null;
  const tape = { layer, module, adapted, inputScale: args.inputScale ?? 1 };
  if (!adapted) return { ...tape, u: null };
  const { rank } = adapted;
  const u = ops.recorder.tensor(`${path}.u`, ops.operand, [capacity, rank]);
  matmul(ops, {
    label: 'lora_A',
    form: 'nt',
    x: loraInput(d, tape, args.x()),
    w: adapted.a,
    c: u,
    n: rank,
    k: linearShape(d.config, module).in,
    count: 'batch.rows',
  });
  return { ...tape, u };
}

function drops(d: DecoderContext): boolean {
  return d.training && d.adapter !== null && d.adapter.config.dropout > 0;
}

/** What lora_A multiplies: x, or x after dropout, which is the same whenever it is asked for. */
function loraInput(d: DecoderContext, { adapted }: Pick<LinearTape, 'adapted'>, x: Tensor): Tensor {
  if (!adapted || !drops(d)) return x;
  const dropped = d.ops.recorder.tensor('dropped', d.ops.operand, x.shape);
  dropout(d.ops, { x, y: dropped }, adapted.site);
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
    lora: u ? { u, v: adapted!.b, rank: adapted!.rank } : undefined,
    bias: bias ?? undefined,
    residual: args.residual,
    alpha: inputScale,
    count: 'batch.rows',
  });
}

/** A whole linear layer: y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ + bias + residual. */
export function linear(
  d: DecoderContext,
  layer: number,
  module: LinearModule,
  args: { x: Tensor; y: Tensor; residual?: Tensor },
): LinearTape {
  const tape = adapt(d, layer, module, { x: () => args.x });
  product(d, tape, args);
  return tape;
}

/**
 * From x, asked for where the module is adapted, and dy (operand type): the gradients of A and B, added to the
 * adapter's, and dx = dy·W + s·(dy·B)·A of the true input, stored or accumulated; `dx` null where nothing below is
 * trained.
 */
export function linearBackward(
  d: DecoderContext,
  tape: LinearTape,
  args: { x: () => Tensor; dy: Tensor; dx: Tensor | null; accumulate?: boolean },
): void {
  const { ops, capacity } = d;
  const { dy, dx, accumulate = false } = args;
  const { adapted, u, inputScale, module } = tape;
  const shape = linearShape(d.config, module);
  const label = `${module}.backward`;
  const weight = d.weights.layers[tape.layer].linear[module].weight;
  if (!adapted || !u) {
    if (dx)
      matmul(ops, {
        label,
        form: 'nn',
        x: dy,
        w: weight,
        c: dx,
        n: shape.in,
        k: shape.out,
        accumulate,
        count: 'batch.rows',
      });
    return;
  }
  const { rank, scale } = adapted;
  const du = ops.recorder.tensor('du', ops.operand, [capacity, rank]);
  matmul(ops, {
    label: 'lora_B.backward',
    form: 'nn',
    x: dy,
    w: adapted.b,
    c: du,
    n: rank,
    k: shape.out,
    count: 'batch.rows',
  });
  if (adapted.gradientA && adapted.gradientB) {
    loraGradient(ops, {
      label: 'lora_A.gradient',
      layout: 'a',
      skinny: du,
      wide: loraInput(d, tape, args.x()),
      gradient: adapted.gradientA,
      rank,
      columns: shape.in,
      alpha: inputScale,
    });
    loraGradient(ops, {
      label: 'lora_B.gradient',
      layout: 'b',
      skinny: u,
      wide: dy,
      gradient: adapted.gradientB,
      rank,
      columns: shape.out,
      alpha: scale * inputScale,
    });
  }
  if (!dx) return;
  const dropped = drops(d);
  const lora = dropped ? undefined : { u: du, v: adapted.a, rank };
  matmul(ops, {
    label,
    form: 'nn',
    x: dy,
    w: weight,
    c: dx,
    n: shape.in,
    k: shape.out,
    lora,
    accumulate,
    count: 'batch.rows',
  });
  if (dropped) {
    const share = ops.recorder.tensor('dropped.gradient', ops.operand, [capacity, shape.in]);
    matmul(ops, {
      label: 'lora_A.backward',
      form: 'nn',
      x: du,
      w: adapted.a,
      c: share,
      n: shape.in,
      k: rank,
      count: 'batch.rows',
    });
    dropoutBackward(ops, { dy: share, dx }, adapted.site);
  }
}

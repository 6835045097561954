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
}

/** What the backward pass of a linear layer needs from its forward pass. */
export interface LinearTape {
  readonly layer: number;
  readonly module: LinearModule;
  readonly adapted: AdaptedModule | null;
  /** Input of lora_A: x, or x after dropout. */
  readonly input: Tensor;
  /** x·Aᵀ [rows, rank] */
  readonly u: Tensor | null;
  /** x is the true input times 1 / inputScale. */
  readonly inputScale: number;
}

/** y = inputScale · (x·Wᵀ + s·(x·Aᵀ)·Bᵀ) + bias + residual, base and adapter in one matmul over [x, x·Aᵀ]. */
export function linear(
  d: DecoderContext,
  layer: number,
  module: LinearModule,
  args: { x: Tensor; y: Tensor; residual?: Tensor; inputScale?: number },
): LinearTape {
  const { ops, capacity } = d;
  const { x, y, residual, inputScale = 1 } = args;
  const path = modulePath(layer, module);
  const shape = linearShape(d.config, module);
  const { weight, bias } = d.weights.layers[layer].linear[module];
  const adapted = d.adapter?.modules.get(path) ?? null;
  let input = x;
  let u: Tensor | null = null;
  if (adapted) {
    const rank = d.adapter!.rank;
    if (d.training && d.adapter!.config.dropout > 0) {
      input = ops.recorder.tensor(`${path}.dropped`, ops.operand, [capacity, shape.in]);
      dropout(ops, { x, y: input }, adapted.site);
    }
    u = ops.recorder.tensor(`${path}.u`, ops.operand, [capacity, rank]);
    matmul(ops, {
      label: 'lora_A',
      form: 'nt',
      x: input,
      w: adapted.a,
      c: u,
      n: rank,
      k: shape.in,
      count: 'batch.rows',
    });
  }
  matmul(ops, {
    label: module,
    form: 'nt',
    x,
    w: weight,
    c: y,
    n: shape.out,
    k: shape.in,
    lora: u ? { u, v: adapted!.b, rank: d.adapter!.rank } : undefined,
    bias: bias ?? undefined,
    residual,
    alpha: inputScale,
    count: 'batch.rows',
  });
  return { layer, module, adapted, input, u, inputScale };
}

/**
 * From dy (operand type): the gradients of A and B, added to the adapter's, and dx = dy·W + s·(dy·B)·A of the true
 * input, stored or accumulated; `dx` null where nothing below is trained.
 */
export function linearBackward(
  d: DecoderContext,
  tape: LinearTape,
  args: { dy: Tensor; dx: Tensor | null; accumulate?: boolean },
): void {
  const { ops, capacity } = d;
  const { dy, dx, accumulate = false } = args;
  const { adapted, u, input, inputScale, module } = tape;
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
  const { rank, scale } = d.adapter!;
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
      wide: input,
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
  const dropped = d.training && d.adapter!.config.dropout > 0;
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

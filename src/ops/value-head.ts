import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext } from './context.js';
import type { SampleTensors } from './policy-gradient.js';

/** values [logit rows] = hidden·w + b; hidden f32 [logit rows, dim], parameters f32 [dim + 1 or more] = (w, b). */
export function valueHead(ctx: OpContext, args: { parameters: Tensor; hidden: Tensor; values: Tensor }): void {
  const [rows, dim] = args.hidden.shape;
  ctx.recorder.dispatch({
    ...common('forward'),
    tensors: { ...args },
    params: { dim },
    workgroups: grid(rows),
    flops: 2 * rows * dim,
    bytes: args.hidden.bytes,
  });
}

/**
 * From values and samples (old value, return; by row): dhidden f32 [logit rows, dim] of the clipped value loss summed
 * over samples, times the batch's gradient scale; the gradients of w and b are added to `gradients`.
 */
export function valueHeadBackward(
  ctx: OpContext,
  args: {
    parameters: Tensor;
    gradients: Tensor;
    hidden: Tensor;
    values: Tensor;
    samples: SampleTensors;
    dhidden: Tensor;
    cliprange: number;
  },
): void {
  const { parameters, gradients, hidden, values, samples, dhidden, cliprange } = args;
  const [rows, dim] = hidden.shape;
  const dvalues = ctx.recorder.tensor('dvalues', 'f32', [rows]);
  ctx.recorder.dispatch({
    ...common('loss'),
    tensors: { values, sampleStart: samples.start, samples: samples.samples, dvalues },
    params: { cliprange },
    workgroups: grid(Math.ceil(rows / 64)),
  });
  ctx.recorder.dispatch({
    ...common('backward'),
    tensors: { parameters, dvalues, dhidden },
    params: { dim },
    workgroups: grid(rows),
    bytes: dhidden.bytes,
  });
  ctx.recorder.dispatch({
    ...common('weights'),
    tensors: { hidden, dvalues, gradients },
    params: { dim },
    workgroups: grid(Math.ceil((dim + 1) / 64)),
    flops: 2 * rows * dim,
    bytes: hidden.bytes,
  });
}

function common(pass: string) {
  return { kernel: 'value-head', pass, defines: {}, label: pass === 'forward' ? 'value_head' : 'value_head.backward' };
}

import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext } from './context.js';

/** One flat chunk of adapter parameters with what belongs to it; see src/model/adapter.ts. */
export interface AdamWChunk {
  /** f32 [elements] */
  readonly parameters: Tensor;
  /** f32 [elements] */
  readonly gradients: Tensor;
  /** First and second moments, f32 [elements]. */
  readonly first: Tensor;
  readonly second: Tensor;
  /** What matmuls read: lora_A, and lora_B times its module's scale. */
  readonly operands: Tensor;
  /** f32 [elements / 64]: 0 for lora_A, for lora_B its module's scale, which is above 0. */
  readonly scales: Tensor;
}

/**
 * One AdamW step (Loshchilov & Hutter 2019, as torch.optim.AdamW) with clipping by the global `norm` and LoRA+ rates;
 * rates, betas and corrections are the batch's. Does nothing where `norm` says the gradients are not finite.
 */
export function adamw(ctx: OpContext, chunk: AdamWChunk, norm: Tensor): void {
  const quads = chunk.parameters.elements / 4;
  ctx.recorder.dispatch({
    kernel: 'adamw',
    pass: 'forward',
    defines: { TYPE: ctx.operand },
    label: 'adamw',
    tensors: { ...chunk, norm },
    params: { quads },
    workgroups: grid(Math.ceil(quads / 64)),
    bytes: chunk.parameters.elements * 30,
  });
}

/** Makes the operand copies from parameters that were uploaded. */
export function adapterOperands(ctx: OpContext, chunk: Pick<AdamWChunk, 'parameters' | 'operands' | 'scales'>): void {
  const quads = chunk.parameters.elements / 4;
  const { parameters, operands, scales } = chunk;
  ctx.recorder.dispatch({
    kernel: 'adamw',
    pass: 'copy',
    defines: { TYPE: ctx.operand },
    label: 'adapter_operands',
    tensors: { parameters, operands, scales },
    params: { quads },
    workgroups: grid(Math.ceil(quads / 64)),
  });
}

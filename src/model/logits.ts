import type { Tensor } from '../gpu/tensor.js';
import type { RowCount } from '../ops/context.js';
import type { VocabParts } from '../ops/embedding.js';
import { matmul } from '../ops/matmul.js';
import { rmsNorm } from '../ops/rms-norm.js';
import type { DecoderContext } from './linear.js';

/** Numbers from one row of logits to the next: the vocabulary, padded as the head is. */
export function logitStride({ parts }: VocabParts): number {
  const { first, rows } = parts[parts.length - 1];
  return first + rows;
}

/**
 * Records the final norm and the head for the first `rows` rows of x [capacity, hidden], of which `count` are live.
 * Gives logits f32 [rows, stride], whatever number of parts the vocabulary lies in.
 */
export function recordLogits(d: DecoderContext, x: Tensor, rows: number, count: RowCount): Tensor {
  const { config, weights, ops } = d;
  const hidden = ops.recorder.tensor('norm', ops.operand, [x.shape[0], config.hiddenSize]);
  const norm = { dim: config.hiddenSize, perRow: 1, epsilon: config.rmsNormEps, count };
  rmsNorm(ops, norm, { x, w: weights.finalNorm, y: hidden });
  const logits = ops.recorder.tensor('logits', 'f32', [rows, logitStride(weights.head)]);
  for (const part of weights.head.parts) {
    matmul(ops, {
      label: 'lm_head',
      form: 'nt',
      x: hidden,
      w: part.weight,
      c: logits,
      n: part.rows,
      k: config.hiddenSize,
      cColumn: part.first,
      count,
    });
  }
  return logits;
}

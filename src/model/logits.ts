import { createTensor, type Tensor } from '../gpu/tensor.js';
import { gatherRows } from '../ops/gather-rows.js';
import { matmul } from '../ops/matmul.js';
import { rmsNorm } from '../ops/rms-norm.js';
import type { LanguageModel } from './language-model.js';
import type { DecoderContext } from './linear.js';

/** Gives a fresh copy of the logits [vocab] of a row. */
export type LogitRows = (row: number) => Float32Array;

/**
 * Records the final norm and the head for the rows of x [capacity, hidden] that `index` [rows] names; how many of
 * them count is the batch's `logitRows`. Gives the logits, one f32 tensor [rows, padded part] for each part of the
 * vocabulary, which the caller destroys.
 */
export function recordHead(
  d: DecoderContext,
  model: LanguageModel,
  args: { x: Tensor; index: Tensor; rows: number },
): Tensor[] {
  const { config, weights } = d;
  const { x, index, rows } = args;
  const gathered = d.ops.recorder.tensor('gathered', 'f32', [rows, config.hiddenSize]);
  gatherRows(d.ops, { index, x, y: gathered });
  const hidden = d.ops.recorder.tensor('norm', d.ops.operand, [rows, config.hiddenSize]);
  const norm = { dim: config.hiddenSize, perRow: 1, epsilon: config.rmsNormEps, count: 'batch.logitRows' as const };
  rmsNorm(d.ops, norm, { x: gathered, w: weights.finalNorm, y: hidden });
  return weights.head.parts.map((part) => {
    const logits = createTensor(model.device, 'logits', 'f32', [rows, part.rows]);
    matmul(d.ops, {
      label: 'lm_head',
      form: 'nt',
      x: hidden,
      w: part.weight,
      c: logits,
      n: part.rows,
      k: config.hiddenSize,
      count: 'batch.logitRows',
    });
    return logits;
  });
}

/** Reads the first `rows` rows that a recorded head has computed. */
export async function readLogits(model: LanguageModel, logits: readonly Tensor[], rows: number): Promise<LogitRows> {
  const { head } = model.weights;
  const parts = await Promise.all(
    logits.map(
      async (tensor) => new Float32Array(await model.device.read(tensor.buffer!, 0, rows * tensor.shape[1] * 4)),
    ),
  );
  return (row) => {
    const values = new Float32Array(head.vocab);
    head.parts.forEach(({ first, count }, i) => {
      const stride = logits[i].shape[1];
      values.set(parts[i].subarray(row * stride, row * stride + count), first);
    });
    return values;
  };
}

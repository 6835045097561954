import { packBatch, rowBucket } from '../batch/pack.js';
import { buildTrie } from '../batch/trie.js';
import { InputError } from '../errors.js';
import { Recorder } from '../gpu/program.js';
import { createTensor, type Tensor } from '../gpu/tensor.js';
import { attentionBlock } from '../ops/attention.js';
import { gatherRows } from '../ops/gather-rows.js';
import { matmul } from '../ops/matmul.js';
import { rmsNorm } from '../ops/rms-norm.js';
import type { AdapterWeights } from './adapter.js';
import { BatchTensors } from './batch-tensors.js';
import { attendTree, decoder } from './decoder.js';
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
  return weights.head.parts.map(({ tensor }) => {
    const logits = createTensor(model.device, 'logits', 'f32', [rows, tensor.shape[0]]);
    matmul(d.ops, {
      label: 'lm_head',
      form: 'nt',
      x: hidden,
      w: tensor,
      c: logits,
      n: tensor.shape[0],
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

/** Logits [vocab] after each of `ids`: all of them at once, so for short texts. Throws InputError for too many ids. */
export async function promptLogits(
  model: LanguageModel,
  adapter: AdapterWeights | null,
  ids: ArrayLike<number>,
): Promise<Float32Array[]> {
  if (ids.length > model.maxPositions) {
    throw new InputError(`${ids.length} tokens are more than the ${model.maxPositions} positions opened.`);
  }
  // A made-up target behind each token makes its row one that needs logits.
  const padded = Int32Array.from([...Array.from(ids), 0]);
  const trie = buildTrie([{ ids: padded, labels: padded, weight: 1 }]);
  const capacity = rowBucket(ids.length);
  const { device, config, weights, kernels } = model;
  const batch = packBatch(trie, { capacity, block: attentionBlock, windows: config.windows });
  const tensors = new BatchTensors(device, capacity, batch.edgeTarget.length, config.windows);
  const recorder = new Recorder(kernels);
  const d: DecoderContext = { ops: model.ops(recorder), config, weights, adapter, capacity, training: false };
  const rows = { tokens: tensors.tokens, positions: tensors.positions, ropeTable: model.ropeTable };
  const tape = decoder(d, rows, attendTree(d, tensors.trees));
  const logits = recordHead(d, model, { x: tape.x, index: tensors.logitRows, rows: ids.length });
  const program = await recorder.realise(device, model.pool, model.batch.buffer);
  try {
    tensors.upload(batch);
    model.batch.write({ rows: batch.rows, logitRows: ids.length });
    program.run();
    const row = await readLogits(model, logits, ids.length);
    return Array.from({ length: ids.length }, (_, i) => row(i));
  } finally {
    tensors.destroy();
    program.destroy();
    for (const tensor of logits) device.destroyBuffer(tensor.buffer!);
  }
}

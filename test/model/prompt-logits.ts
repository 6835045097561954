import { packBatch, rowBucket } from '../../src/batch/pack.js';
import { buildTrie } from '../../src/batch/trie.js';
import { Recorder } from '../../src/gpu/program.js';
import type { AdapterWeights } from '../../src/model/adapter.js';
import { BatchTensors } from '../../src/model/batch-tensors.js';
import { attendTree, decoder } from '../../src/model/decoder.js';
import type { LanguageModel } from '../../src/model/language-model.js';
import type { DecoderContext } from '../../src/model/linear.js';
import { recordLogits } from '../../src/model/logits.js';

/** Logits [vocab] after each of `ids`: all of them at once, so for short texts. */
export async function promptLogits(
  model: LanguageModel,
  adapter: AdapterWeights | null,
  ids: ArrayLike<number>,
): Promise<Float32Array[]> {
  // A made-up target behind each token makes its row one that needs logits.
  const padded = Int32Array.from([...Array.from(ids), 0]);
  const trie = buildTrie([{ ids: padded, labels: padded, weight: 1 }]);
  const capacity = rowBucket(ids.length);
  const { device, config, weights, kernels } = model;
  const batch = packBatch(trie, { capacity, ...model.attention });
  const tensors = new BatchTensors(device, capacity, batch.edgeTarget.length, model.attention);
  const recorder = new Recorder(kernels);
  const d: DecoderContext = { ops: model.ops(recorder), config, weights, adapter, capacity, training: false };
  const { tokens, positions, trees } = tensors.layout;
  const rows = { tokens, positions, ropeTable: model.ropeTable };
  const tape = decoder(d, rows, attendTree(d, trees));
  // Rows of a chain stand in its order.
  const logits = recorder.keep(recordLogits(d, tape.x, ids.length, 'batch.rows'));
  const program = await recorder.realise(device, model.pool, model.batch.buffer);
  try {
    tensors.upload(batch);
    model.batch.write({ rows: batch.rows });
    program.run();
    const values = new Float32Array(await program.read(logits));
    const stride = logits.shape[1];
    return Array.from({ length: ids.length }, (_, i) => values.slice(i * stride, i * stride + config.vocabSize));
  } finally {
    tensors.destroy();
    program.destroy();
  }
}

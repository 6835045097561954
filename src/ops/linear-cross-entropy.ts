import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext } from './context.js';
import type { VocabParts } from './embedding.js';
import { matmul } from './matmul.js';

/** Edges by logit row (src/batch): targets and weights of row r are edgeStart[r] .. edgeStart[r + 1]. */
export interface EdgeTensors {
  /** u32 [logit rows + 1] */
  readonly edgeStart: Tensor;
  /** u32 [edges] */
  readonly edgeTarget: Tensor;
  /** f32 [edges] */
  readonly edgeWeight: Tensor;
}

/**
 * Cross-entropy of hidden · headᵀ on edges, without ever holding all logits: rows go in chunks, and a vocabulary that
 * passes one binding in parts. Writes `edgeLogprob` [edges] = log p(target) and, if given, `dhidden` [logit rows, dim]
 * f32 = gradScale · ((Σw)·softmax − Σ w·onehot) · head / temperature; the gradient scale is the batch's. The softmax is
 * that of hidden · headᵀ / temperature. Weights may be of either sign; `weigh` may record what makes those of a chunk of
 * rows from their log-probabilities. `entropy` [logit rows] f32 receives that of the softmax.
 */
export function linearCrossEntropy(
  ctx: OpContext,
  args: {
    hidden: Tensor;
    head: VocabParts;
    edges: EdgeTensors;
    edgeLogprob: Tensor;
    dhidden: Tensor | null;
    chunkRows: number;
    temperature?: number;
    weigh?: (firstRow: number, rows: number) => void;
    entropy?: Tensor;
  },
): void {
  const { hidden, head, edges, edgeLogprob, dhidden, weigh, entropy } = args;
  const alpha = 1 / (args.temperature ?? 1);
  const defines = { ENTROPY: Number(entropy !== undefined) };
  const { recorder } = ctx;
  const total = hidden.shape[0];
  const parts = head.parts.length;
  for (let firstRow = 0; firstRow < total; firstRow += args.chunkRows) {
    const rows = Math.min(args.chunkRows, total - firstRow);
    const statistics = recorder.tensor('logit_stats', 'f32', [rows, parts, entropy ? 4 : 2]);
    const range = { m: rows, firstRow, count: 'batch.logitRows' as const, alpha };
    const chunks = head.parts.map((part, index) => {
      const stride = part.rows;
      const logits = recorder.tensor('logits', 'f32', [rows, stride]);
      matmul(ctx, {
        label: 'lm_head',
        form: 'nt',
        x: hidden,
        w: part.weight,
        c: logits,
        n: stride,
        k: head.dim,
        xRow: firstRow,
        ...range,
      });
      const params = { chunkRows: rows, firstRow, count: part.count, first: part.first, stride, part: index, parts };
      recorder.dispatch({
        ...common('stats'),
        defines,
        tensors: { logits, statistics },
        params,
        workgroups: grid(rows),
        bytes: 2 * logits.bytes,
      });
      return { part, stride, logits, params };
    });
    for (const { logits, params } of chunks) {
      recorder.dispatch({
        ...common('logprobs'),
        defines,
        tensors: {
          logits,
          statistics,
          edgeStart: edges.edgeStart,
          edgeTarget: edges.edgeTarget,
          edgeLogprob,
          ...(entropy ? { rowEntropy: entropy } : {}),
        },
        params,
        workgroups: grid(Math.ceil(rows / 64)),
      });
    }
    if (!dhidden) continue;
    weigh?.(firstRow, rows);
    chunks.forEach(({ part, stride, logits, params }, index) => {
      const gradient = recorder.tensor('dlogits', ctx.operand, [rows, stride]);
      recorder.dispatch({
        ...common('backward'),
        defines: { ...defines, TYPE: ctx.operand },
        tensors: { logits, statistics, ...edges, gradient },
        params,
        workgroups: grid(rows),
        bytes: logits.bytes + gradient.bytes,
      });
      matmul(ctx, {
        label: 'lm_head.backward',
        form: 'nn',
        x: gradient,
        w: part.weight,
        c: dhidden,
        n: head.dim,
        k: stride,
        cRow: firstRow,
        accumulate: index > 0,
        ...range,
      });
    });
  }
}

function common(pass: string) {
  return { kernel: 'linear-cross-entropy', pass, label: 'cross_entropy' };
}

import type { Tensor } from '../gpu/tensor.js';
import { grid, type OpContext } from './context.js';
import type { EdgeTensors } from './linear-cross-entropy.js';

/** What was sampled at each edge or row: start[i] .. start[i + 1] are those of edge (row) i. */
export interface SampleTensors {
  /** u32 [edges + 1] or [logit rows + 1] */
  readonly start: Tensor;
  /** f32 [samples, 2]: old log-probability and advantage, or old value and return. */
  readonly samples: Tensor;
}

/**
 * Writes `edges.edgeWeight` for the rows of a chunk: Σ A·ρ over the samples that PPO's clipped loss does not clip, so
 * that the backward pass of linearCrossEntropy gives the gradient of Σ max(−A·ρ, −A·clip(ρ, 1 ± cliprange)). Reads
 * `edgeLogprob`; any sign may come.
 */
export function policyGradient(
  ctx: OpContext,
  args: {
    edges: EdgeTensors;
    edgeLogprob: Tensor;
    samples: SampleTensors;
    cliprange: number;
    firstRow: number;
    rows: number;
  },
): void {
  const { edges, edgeLogprob, samples, cliprange, firstRow, rows } = args;
  ctx.recorder.dispatch({
    kernel: 'policy-gradient',
    pass: 'backward',
    defines: {},
    label: 'policy_gradient',
    tensors: {
      edgeStart: edges.edgeStart,
      edgeLogprob,
      sampleStart: samples.start,
      samples: samples.samples,
      edgeWeight: edges.edgeWeight,
    },
    params: { chunkRows: rows, firstRow, cliprange },
    workgroups: grid(Math.ceil(rows / 64)),
  });
}

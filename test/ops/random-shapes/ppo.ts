import { policyGradient } from '../../../src/ops/policy-gradient.js';
import { valueHead, valueHeadBackward } from '../../../src/ops/value-head.js';
import { type OpRun, rounded } from '../../gpu.js';
import * as reference from '../../reference/ppo.js';
import { type Draw, drawRows, type RandomCase } from './draw.js';

/** Some samples, or none, for each of `count` edges or rows. */
function drawSamples(op: OpRun, draw: Draw, count: number, capacity: number) {
  const start = [0];
  for (let i = 0; i < count; i++) start.push(start[i] + draw.int(0, 3));
  const flat = rounded('f32', draw.normal(2 * start[count], 0.5));
  const tensors = {
    start: op.input('start', 'u32', [capacity + 1], start),
    samples: op.input('samples', 'f32', [start[count] + 1, 2], flat),
  };
  const numbers = Array.from({ length: start[count] }, (_, i) => [flat[2 * i], flat[2 * i + 1]] as const);
  return { tensors, samples: { start, numbers } };
}

/** By name of the kernel's file. */
export const ppo: Readonly<Record<string, RandomCase>> = {
  'policy-gradient': {
    tiers: ['f32'],
    record(op, _tier, draw) {
      const [rows, capacity] = drawRows(draw, 150);
      const edgeStart = [0];
      for (let row = 0; row < rows; row++) edgeStart.push(edgeStart[row] + draw.int(1, 3));
      const edges = edgeStart[rows];
      const logprobs = rounded('f32', draw.normal(edges, 0.5));
      const { tensors, samples } = drawSamples(op, draw, edges, edges);
      const edgeWeight = op.output('edgeWeight', 'f32', [edges + 3]);
      const chunkRows = draw.int(1, 90);
      const epsilon = draw.pick([0.1, 0.2]);
      for (let firstRow = 0; firstRow < capacity; firstRow += chunkRows) {
        policyGradient(op.ctx, {
          edges: {
            edgeStart: op.input('edgeStart', 'u32', [capacity + 1], edgeStart),
            edgeTarget: edgeWeight,
            edgeWeight,
          },
          edgeLogprob: op.input('edgeLogprob', 'f32', [edges], logprobs),
          samples: tensors,
          cliprange: epsilon,
          firstRow,
          rows: Math.min(chunkRows, capacity - firstRow),
        });
      }
      const expected = reference.policyWeights(logprobs, samples, epsilon);
      return { batch: { logitRows: rows }, checks: [{ tensor: edgeWeight, expected, limit: 1e-5 }] };
    },
  },
  'value-head': {
    tiers: ['f32'],
    record(op, _tier, draw) {
      const [rows, capacity] = drawRows(draw, 100);
      const dim = 4 * draw.int(1, 70);
      const hidden = draw.rows(op, 'f32', [rows, capacity], dim);
      const parameters = rounded('f32', draw.normal(dim + 1, 1 / Math.sqrt(dim)));
      const before = rounded('f32', draw.normal(dim + 1));
      const { tensors, samples } = drawSamples(op, draw, rows, capacity);
      const values = op.output('values', 'f32', [capacity]);
      const dhidden = op.output('dhidden', 'f32', [capacity, dim]);
      const padded = (numbers: Float64Array) => [...numbers, Number.NaN, Number.NaN, Number.NaN];
      const weights = {
        parameters: op.input('parameters', 'f32', [dim + 4], padded(parameters)),
        gradients: op.input('gradients', 'f32', [dim + 4], padded(before)),
      };
      valueHead(op.ctx, { parameters: weights.parameters, hidden: hidden.tensor, values });
      const inputs = { ...weights, hidden: hidden.tensor, values, samples: tensors, dhidden };
      valueHeadBackward(op.ctx, { ...inputs, cliprange: 0.3 });
      const back = reference.valueHeadBackward(hidden.values, parameters, samples, 0.3, 4);
      return {
        batch: { logitRows: rows, gradScale: 4 },
        checks: [
          { tensor: values, expected: reference.valueHead(hidden.values, parameters), limit: 1e-5 },
          { tensor: dhidden, expected: back.dHidden, limit: 1e-5 },
          { tensor: weights.gradients, expected: back.dParameters.map((g, i) => g + before[i]), limit: 1e-5 },
        ],
      };
    },
  },
};

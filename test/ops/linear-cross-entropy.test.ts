import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { linearCrossEntropy } from '../../src/ops/linear-cross-entropy.js';
import { policyGradient } from '../../src/ops/policy-gradient.js';
import { OpRun, openTestGpu, rounded, type TestGpu, type Tier, tiers, tolerance } from '../gpu.js';
import * as reference from '../reference/linear-cross-entropy.js';
import { randomNormal, randomSource, relativeError } from '../reference/random.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

interface Shape {
  rows: number;
  capacity: number;
  vocab: number;
  dim: number;
  partSize: number;
  chunkRows: number;
  edgesPerRow: number;
}

const shapes: Shape[] = [
  { rows: 1, capacity: 1, vocab: 7, dim: 4, partSize: 7, chunkRows: 64, edgesPerRow: 1 },
  { rows: 17, capacity: 22, vocab: 211, dim: 36, partSize: 77, chunkRows: 8, edgesPerRow: 5 },
  { rows: 3, capacity: 40, vocab: 149, dim: 20, partSize: 149, chunkRows: 16, edgesPerRow: 70 },
];

/** Distinct targets in each row, those at the borders of parts among them, with weights of either sign. */
function makeEdges({ rows, vocab, partSize, edgesPerRow }: Shape) {
  const random = randomSource(5);
  const row: number[] = [];
  const target: number[] = [];
  const weight: number[] = [];
  const start = [0];
  for (let r = 0; r < rows; r++) {
    const targets = new Set([[0, partSize - 1, partSize % vocab, vocab - 1][r % 4]]);
    const count = r % 3 === 2 ? 1 : edgesPerRow;
    while (targets.size < count) targets.add(Math.floor(random() * vocab));
    for (const t of targets) {
      row.push(r);
      target.push(t);
      weight.push(random() < 0.3 ? -random() : 2 * random());
    }
    start.push(row.length);
  }
  return { row, target, weight: rounded('f32', weight), start };
}

/**
 * With `sampled`, weights are not given but made from the log-probabilities on the way: of one sample an edge whose old
 * log-probability is the right one, so that its ratio is 1 and its weight the advantage; and entropies are asked for.
 */
async function run(
  tier: Tier,
  shape: Shape,
  logitScale: number,
  { withGradient = true, temperature = 1, sampled = false } = {},
) {
  const { rows, capacity, vocab, dim, partSize, chunkRows } = shape;
  const unused = new Array((capacity - rows) * dim).fill(Number.NaN);
  const hidden = rounded(tier, [...randomNormal(rows * dim, 1, logitScale / Math.sqrt(dim)), ...unused]);
  const head = rounded(tier, randomNormal(vocab * dim, 2));
  const edges = makeEdges(shape);
  const op = new OpRun(gpu, tier);
  const parts = [];
  for (let first = 0; first < vocab; first += partSize) {
    const count = Math.min(partSize, vocab - first);
    // Not the zeros that the operation may count on: the gradient's columns past the vocabulary must be zero too.
    const padded = new Float64Array(Math.ceil(count / 8) * 8 * dim).fill(100);
    padded.set(head.subarray(first * dim, (first + count) * dim));
    const rows = padded.length / dim;
    parts.push({ first, count, rows, weight: op.input('head', tier, [rows, dim], padded) });
  }
  const count = edges.row.length;
  const edgeLogprob = op.output('edgeLogprob', 'f32', [count + 4]);
  const live = hidden.subarray(0, rows * dim);
  const gradScale = 0.125;
  // A softmax at a temperature is that of hidden / temperature.
  const cooled = live.map((x) => x / temperature);
  const expected = reference.linearCrossEntropy(cooled, head, dim, edges, gradScale).logprobs;
  const tensors = {
    edgeStart: op.input('edgeStart', 'u32', [capacity + 1], edges.start),
    edgeTarget: op.input('edgeTarget', 'u32', [count + 4], edges.target),
    edgeWeight: sampled
      ? op.output('edgeWeight', 'f32', [count + 4])
      : op.input('edgeWeight', 'f32', [count + 4], edges.weight),
  };
  const samples = {
    start: op.input('start', 'u32', [count + 1], [...Array(count + 1).keys()]),
    samples: op.input(
      'samples',
      'f32',
      [count, 2],
      [...expected].flatMap((old, i) => [old, edges.weight[i]]),
    ),
  };
  const entropy = op.output('entropy', 'f32', [capacity]);
  const dhidden = withGradient ? op.output('dhidden', 'f32', [capacity, dim]) : null;
  linearCrossEntropy(op.ctx, {
    hidden: op.input('hidden', tier, [capacity, dim], hidden),
    head: { dim, vocab, parts },
    edges: tensors,
    edgeLogprob,
    dhidden,
    chunkRows,
    temperature,
    ...(sampled && {
      entropy,
      weigh: (firstRow: number, count: number) =>
        policyGradient(op.ctx, { edges: tensors, edgeLogprob, samples, cliprange: 0.2, firstRow, rows: count }),
    }),
  });
  await op.run({ rows: 99, logitRows: rows, gradScale });
  const logprobs = await op.read(edgeLogprob);
  expect(logprobs.subarray(count).every(Number.isNaN)).toBe(true);
  const gradient = dhidden && (await op.read(dhidden));
  if (gradient) expect(gradient.subarray(rows * dim).every(Number.isNaN)).toBe(true);
  return {
    logprobs: relativeError(logprobs.subarray(0, count), expected),
    gradient:
      gradient &&
      relativeError(
        gradient.subarray(0, rows * dim),
        reference.linearCrossEntropyBackward(cooled, head, dim, edges, gradScale).map((g) => g / temperature),
      ),
    entropy: relativeError((await op.read(entropy)).subarray(0, rows), reference.entropies(cooled, head, dim)),
  };
}

describe.each(tiers)('linear-cross-entropy, %s', (tier) => {
  it.each(shapes)('edge log-probabilities and gradient: %o', async (shape) => {
    const error = await run(tier, shape, 1);
    // Logits are f32 in both tiers; only their gradient is stored as an operand.
    expect(error.logprobs).toBeLessThan(1e-5);
    expect(error.gradient).toBeLessThan(tolerance[tier]);
  });

  it('keeps logits of some hundreds apart', async () => {
    const error = await run(tier, shapes[1], 100);
    expect(error.logprobs).toBeLessThan(1e-5);
    expect(error.gradient).toBeLessThan(tolerance[tier]);
  });

  it.each([0.7, 1.5])(
    'at temperature %d, with weights made of the log-probabilities, and entropies',
    async (temperature) => {
      const error = await run(tier, shapes[1], 3, { temperature, sampled: true });
      expect(error.logprobs).toBeLessThan(1e-5);
      expect(error.gradient).toBeLessThan(tolerance[tier]);
      expect(error.entropy).toBeLessThan(1e-5);
    },
  );

  it('gives log-probabilities alone where no gradient is asked for', async () => {
    const error = await run(tier, shapes[1], 1, { withGradient: false });
    expect(error.logprobs).toBeLessThan(1e-5);
    expect(error.gradient).toBeNull();
  });
});

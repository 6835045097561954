import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { noSource, putRow, rowWords } from '../../src/ops/decode-rows.js';
import { greedySampling, readSampled, type SamplingOptions, sample } from '../../src/ops/sample.js';
import { sequenceSeed } from '../../src/random.js';
import { OpRun, openTestGpu, type TestGpu } from '../gpu.js';
import { chiSquareTail, fitTail } from '../reference/chi-square.js';
import { randomNormal } from '../reference/random.js';
import { distribution, draw } from '../reference/sample.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

/** Draws once for each row of logits [rows, stride]; the forms of CPU cores and of GPUs differ in their workgroups. */
async function run(
  options: SamplingOptions,
  logits: { values: ArrayLike<number>; vocab: number; stride: number },
  { cpu = true, live }: { cpu?: boolean; live?: number } = {},
) {
  const { values, vocab, stride } = logits;
  const rows = values.length / stride;
  const op = new OpRun(gpu, 'f32', { cpu });
  const table = new Uint32Array(rows * rowWords);
  const seeds = Array.from({ length: rows }, (_, i) => sequenceSeed(1, i));
  seeds.forEach((seed, i) => {
    putRow(table, i, { slot: rows - 1 - i, shared: 0, own: 0, length: 5 + i, token: 0, source: noSource, seed });
  });
  const sampled = op.output('sampled', 'u32', [rows, 4]);
  const words = Math.ceil(vocab / 32);
  const bits = (ids: Iterable<number>) => {
    const set = new Array(words).fill(0);
    for (const id of ids) set[id >> 5] = (set[id >> 5] | (1 << (id & 31))) >>> 0;
    return set;
  };
  const given = op.input('given', 'u32', [rows, words], new Array(rows).fill(bits([0, vocab >> 1])).flat());
  const spared = op.input('spared', 'u32', [words], bits(options.unpenalised));
  sample(op.ctx, options, {
    logits: op.input('logits', 'f32', [rows, stride], values),
    vocab,
    rows: op.input('rows', 'u32', [rows, rowWords], table),
    sampled,
    notes: options.presencePenalty === 0 ? null : { given, spared },
  });
  await op.run({ rows, logitRows: live ?? rows });
  const read = await gpu.device.read(sampled.buffer!);
  return {
    results: Array.from({ length: rows }, (_, i) => ({ ...readSampled(read, i), seed: seeds[i], length: 5 + i })),
    given: new Uint32Array(await gpu.device.read(given.buffer!, 0, rows * words * 4)),
  };
}

const draws: Record<string, Partial<SamplingOptions>> = {
  greedy: {},
  'temperature 0.7': { temperature: 0.7 },
  'top-k 5': { temperature: 1, topK: 5 },
  'top-p 0.83': { temperature: 1.3, topP: 0.83 },
  'top-k 9, top-p 0.71': { temperature: 1, topK: 9, topP: 0.71 },
  'top-k beyond the vocabulary': { temperature: 1, topK: 10_000 },
};

describe.each(Object.entries(draws))('sample, %s', (_, given) => {
  const options = { ...greedySampling, ...given };
  it.each([true, false])('equals the float64 reference at odd vocabularies, CPU form: %s', async (cpu) => {
    for (const vocab of [1, 7, 211, 1030]) {
      const stride = Math.ceil(vocab / 8) * 8 + 8;
      const values = randomNormal(6 * stride, vocab, 3);
      // Row 1 has ties, row 2 one token far ahead, row 3 logits of hundreds; what is past the vocabulary is never taken.
      for (let i = 0; i < stride; i++) {
        values[stride + i] = Math.round(values[stride + i]);
        if (i === Math.floor(vocab / 3)) values[2 * stride + i] = 60;
        values[3 * stride + i] *= 100;
        if (i >= vocab) for (let row = 0; row < 6; row++) values[row * stride + i] = 1e4;
      }
      const live = 5;
      const { results } = await run(options, { values, vocab, stride }, { cpu, live });
      results.slice(0, live).forEach(({ id, logprob, entropy, seed, length }, row) => {
        const logits = Float32Array.from(values.subarray(row * stride, row * stride + vocab));
        const expected = draw(logits, options, seed, length);
        const exact = distribution(logits, options);
        if (expected.lead > 1e-3) expect(id, `vocabulary ${vocab}, row ${row}`).toBe(expected.id);
        expect(exact.probability[id]).toBeGreaterThan(0);
        // Logits of hundreds have an ulp of 3e-5.
        expect(Math.abs(logprob - exact.logprob[id])).toBeLessThan(row === 3 ? 3e-4 : 2e-5);
        expect(Math.abs(entropy - exact.entropy)).toBeLessThan(2e-5 * Math.max(1, exact.entropy));
      });
      expect(results[5].id).toBe(0x7fff7fff);
    }
  });
});

describe('sample', () => {
  const logits = [2, 1.5, 1, 0.5, 0, -0.5, -1, 2, 0.25, -3, -4.5];
  const stride = 16;
  const total = 20_000;
  const values = new Float32Array(total * stride).map((_, i) => logits[i % stride] ?? 9);

  it.each<Partial<SamplingOptions>>([
    { temperature: 0.5 },
    { temperature: 1 },
    { temperature: 2 },
    { topK: 4 },
    // Of equal logits the lowest id is kept.
    { topK: 1 },
    { topP: 0.8 },
    { topP: 0.62, temperature: 1.5 },
    { topK: 4, topP: 0.6 },
  ])('draws 20,000 times as the exact distribution has it: %o', async (given) => {
    const options = { ...greedySampling, temperature: 1, ...given };
    const { probability } = distribution(logits, options);
    const counts = new Array(logits.length).fill(0);
    for (const { id } of (await run(options, { values, vocab: logits.length, stride })).results) counts[id]++;
    expect(fitTail(counts, probability), String(counts)).toBeGreaterThan(1e-4);
  });

  // 20,000 times a vocabulary that every lane of a workgroup has several tokens of, in both forms.
  describe.each([true, false])('CPU form: %s', (cpu) => {
    const vocab = 701;
    const stride = 704;
    const row = randomNormal(stride, 5, 2);
    const rows = new Float32Array(total * stride).map((_, i) => row[i % stride]);

    it.each<Partial<SamplingOptions>>([{ topK: 40 }, { topK: 60, topP: 0.8, temperature: 1.3 }])(
      'draws from many tokens as the exact distribution has it: %o',
      async (given) => {
        const options = { ...greedySampling, temperature: 1, ...given };
        const { probability } = distribution(row.subarray(0, vocab), options);
        const counts = new Array(vocab).fill(0);
        for (const { id } of (await run(options, { values: rows, vocab, stride }, { cpu })).results) counts[id]++;
        expect(fitTail(counts, probability)).toBeGreaterThan(1e-4);
      },
    );
  });

  it('draws by position and by token as evenly as by seed', async () => {
    // 200 equal logits, and 20,000 rows whose seeds and positions both change.
    const vocab = 200;
    const flat = new Float32Array(total * vocab);
    const options = { ...greedySampling, temperature: 1 };
    const { results } = await run(options, { values: flat, vocab, stride: vocab });
    const counts = new Array(vocab).fill(0);
    const pairs = new Array(100).fill(0);
    results.forEach(({ id }, i) => {
      counts[id]++;
      if (i % 2) pairs[Math.floor(results[i - 1].id / 20) * 10 + Math.floor(id / 20)]++;
    });
    expect(fitTail(counts, new Array(vocab).fill(1 / vocab))).toBeGreaterThan(1e-4);
    // Neighbouring rows know nothing of each other.
    expect(fitTail(pairs, new Array(100).fill(1 / 100))).toBeGreaterThan(1e-4);
  });

  it('lowers given tokens, but for the spared, and notes what it gives', async () => {
    const vocab = 70;
    const row = Float32Array.from({ length: 72 }, (_, i) => (i === 35 ? 5 : i === 0 ? 4.5 : i === 69 ? 4 : 0));
    const options = { ...greedySampling, presencePenalty: 2, unpenalised: new Set([69]) };
    const { results, given } = await run(options, { values: Float32Array.of(...row, ...row), vocab, stride: 72 });
    // Tokens 0 and 35 are given already: 69 is left, and being spared it is not noted.
    const exact = distribution(
      row.subarray(0, vocab).map((x, i) => (i === 0 || i === 35 ? x - 2 : x)),
      options,
    );
    for (const { id, logprob } of results) {
      expect(id).toBe(69);
      expect(Math.abs(logprob - exact.logprob[69])).toBeLessThan(1e-5);
    }
    expect([...given]).toEqual([1, 8, 0, 1, 8, 0]);
    const noted = await run({ ...options, unpenalised: new Set() }, { values: row, vocab, stride: 72 });
    expect([...noted.given]).toEqual([1, 8, 1 << 5]);
  });
});

describe('sample of what is no number', () => {
  it.each([{}, { temperature: 1 }, { temperature: 1, topK: 3, topP: 0.5 }])(
    'shows by its logprob: %o',
    async (given) => {
      const values = new Float32Array(3 * 24).fill(Number.NaN);
      values.fill(1, 24, 72);
      values[30] = Number.POSITIVE_INFINITY;
      values[57] = Number.NaN;
      const { results } = await run({ ...greedySampling, ...given }, { values, vocab: 21, stride: 24 });
      for (const { id, logprob } of results) {
        expect(id).toBeLessThan(21);
        expect(Number.isFinite(logprob)).toBe(false);
      }
    },
  );
});

describe('chiSquareTail', () => {
  // Quantiles of Abramowitz and Stegun, table 26.8.
  it.each([
    [10.828, 1, 0.001],
    [18.307, 10, 0.05],
    [124.342, 100, 0.05],
  ])('of %s with %s degrees of freedom is %s', (statistic, degrees, tail) => {
    expect(chiSquareTail(statistic, degrees)).toBeCloseTo(tail, 4);
  });
});

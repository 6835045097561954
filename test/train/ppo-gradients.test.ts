import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LossPrograms } from '../../src/model/loss-program.js';
import { ValueHead } from '../../src/model/value-head.js';
import {
  edgePlaces,
  listSamples,
  packSequences,
  rowPlaces,
  type Sequence,
  scatter,
} from '../../src/train/ppo-batch.js';
import { randomIntegers } from '../batch/random-tries.js';
import { loadGolden } from '../golden.js';
import { openTestGpu, type TestGpu, tiers } from '../gpu.js';
import { decoderBackward, type Gradients, loraName, lossAndGradients, runDecoder } from '../reference/decoder.js';
import { policyWeights, valueHead, valueHeadBackward } from '../reference/ppo.js';
import { randomNormal, relativeError } from '../reference/random.js';
import { packChains } from '../reference/trie.js';
import { clearGradients, type GoldenModel, openGolden } from './helpers.js';

let gpu: TestGpu;
beforeAll(async () => {
  gpu = await openTestGpu();
});
afterAll(() => gpu.close());

const tolerance = { f32: 1e-4, f16: 1e-2 };
const gradScale = 1024;
const random = randomIntegers(4);
/** Four answers to each of two prompts that begin alike; few different tokens, so that answers begin alike too. */
const sequences: Sequence[] = Array.from({ length: 8 }, (_, i) => ({
  prompt: Int32Array.from([5, 6, 7, i % 2 ? 8 : 9]),
  response: Array.from({ length: 1 + random(6) }, () => 3 + random(2)),
}));
const perToken = (seed: number, deviation: number) =>
  sequences.map(({ response }, i) => randomNormal(response.length, 100 * seed + i, deviation));
const everyone = [...sequences.keys()];

/** What one sequence alone comes to: a chain, its last token a target only. */
function chainOf({ prompt, response }: Sequence) {
  const ids = Int32Array.from([...prompt, ...response]);
  const labels = ids.map((id, i) => (i < prompt.length ? -100 : id));
  return packChains([{ ids, labels, weight: 1 }]);
}

function addUp(all: readonly Gradients[]): Gradients {
  const sum: Gradients = new Map();
  for (const gradients of all)
    for (const [name, values] of gradients)
      sum.set(
        name,
        values.map((g, i) => g + (sum.get(name)?.[i] ?? 0)),
      );
  return sum;
}

async function worst({ weights }: GoldenModel, expected: Gradients): Promise<number> {
  let error = 0;
  for (const [path, pair] of await weights.downloadGradients()) {
    const [, layer, module] = /^model\.layers\.(\d+)\.(.*)$/.exec(path)!;
    for (const matrix of ['A', 'B'] as const) {
      const own = Float64Array.from(pair[matrix], (g) => g / gradScale);
      error = Math.max(error, relativeError(own, expected.get(loraName(Number(layer), module, matrix))!));
    }
  }
  return error;
}

describe.each(tiers)('over shared tries in several micro-batches, %s', (tier) => {
  it('the policy’s gradient is that of each sequence alone', async () => {
    const golden = loadGolden('llama');
    const opened = await openGolden(gpu, 'llama', tier);
    const advantages = perToken(1, 1);
    // Old log-probabilities on both sides of the bounds, but not at them.
    const single = sequences.map((sequence) => lossAndGradients(golden.model, golden.adapter, chainOf(sequence)));
    const old = single.map(({ logprobs }, i) => logprobs.map((logprob, t) => logprob + [0.05, -0.5, 0.5][(i + t) % 3]));
    const expected = addUp(
      sequences.map((sequence, i) => {
        const numbers = [...old[i]].map((value, t) => [value, advantages[i][t]] as const);
        const edgeWeight = policyWeights(
          single[i].logprobs,
          { start: [...numbers.keys(), numbers.length], numbers },
          0.2,
        );
        return lossAndGradients(golden.model, golden.adapter, { ...chainOf(sequence), edgeWeight }, 1).gradients;
      }),
    );
    const objective = { kind: 'policy', cliprange: 0.2 } as const;
    const programs = new LossPrograms(opened.model, { adapter: opened.weights, backward: true, objective });
    clearGradients(opened);
    const fresh: Float64Array[] = [];
    const parts = packSequences(sequences, everyone, 20);
    expect(parts.length).toBeGreaterThan(1);
    for (const part of parts) {
      const { batch, program } = await programs.prepare(part.trie, 60);
      const places = edgePlaces(part, sequences);
      const pick = (all: readonly Float64Array[]) => part.members.map((i) => all[i]);
      const samples = listSamples(places, batch.edgeTarget.length, pick(old), pick(advantages));
      const { result } = await program.runSampled(batch, { gradScale, dropout: 0, seed: 0 }, samples);
      scatter(fresh, part, places, result);
    }
    everyone.forEach((i) => {
      expect(relativeError(fresh[i], single[i].logprobs)).toBeLessThan(tolerance[tier]);
    });
    expect(await worst(opened, expected)).toBeLessThan(tolerance[tier]);
    programs.destroy();
  });

  it('the critic’s gradient too, its value head’s among them', async () => {
    const golden = loadGolden('llama');
    const opened = await openGolden(gpu, 'llama', tier);
    const { hiddenSize } = opened.model.config;
    const parameters = Float64Array.from(Float32Array.from(randomNormal(hiddenSize + 1, 9, 0.3)));
    const returns = perToken(2, 1);
    const single = sequences.map((sequence) => {
      const trie = chainOf(sequence);
      const tape = runDecoder(golden.model, golden.adapter, trie);
      // The last token's state is valued too, but counts for nothing.
      return { trie, tape, values: valueHead(tape.hidden, parameters).slice(sequence.prompt.length - 1, -1) };
    });
    const old = single.map(({ values }, i) => values.map((value, t) => value + [0.1, -0.7, 0.7][(i + t) % 3]));
    const dParameters = new Float64Array(hiddenSize + 1);
    const expected = addUp(
      single.map(({ trie, tape }, i) => {
        const first = sequences[i].prompt.length - 1;
        const numbers = [...old[i]].map((value, t) => [value, returns[i][t]] as const);
        const start = Array.from({ length: trie.tokens.length + 1 }, (_, row) => Math.max(0, row - first));
        const back = valueHeadBackward(tape.hidden, parameters, { start, numbers }, 0.2, 1);
        back.dParameters.forEach((g, p) => {
          dParameters[p] += g;
        });
        return decoderBackward(golden.model, golden.adapter, trie, tape, back.dHidden);
      }),
    );
    const head = new ValueHead(gpu.device, hiddenSize, opened.model.operand);
    head.upload(Float32Array.from(parameters));
    const objective = { kind: 'value', head: head.chunk, cliprange: 0.2 } as const;
    const programs = new LossPrograms(opened.model, { adapter: opened.weights, backward: true, objective });
    clearGradients(opened);
    const fresh: Float64Array[] = [];
    for (const part of packSequences(sequences, everyone, 20)) {
      const { batch, program } = await programs.prepare(part.trie, 60);
      const places = rowPlaces(part, sequences, batch);
      const pick = (all: readonly Float64Array[]) => part.members.map((i) => all[i]);
      const samples = listSamples(places, batch.logitRows.length, pick(old), pick(returns));
      const { result } = await program.runSampled(batch, { gradScale, dropout: 0, seed: 0 }, samples);
      scatter(fresh, part, places, result);
    }
    everyone.forEach((i) => {
      expect(relativeError(fresh[i], single[i].values)).toBeLessThan(tolerance[tier]);
    });
    expect(await worst(opened, expected)).toBeLessThan(tolerance[tier]);
    const own = Float64Array.from(await head.download('gradients'), (g) => g / gradScale);
    expect(relativeError(own, dParameters)).toBeLessThan(tolerance[tier]);
    programs.destroy();
    head.destroy();
  });
});

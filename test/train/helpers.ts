import { modelLayout } from '../../models/index.js';
import { linearShapes } from '../../models/tensors.js';
import { buildTrie } from '../../src/batch/trie.js';
import type { Example, TokenTrie } from '../../src/batch/types.js';
import type { Adapter } from '../../src/formats/adapter.js';
import { openCheckpoint } from '../../src/formats/checkpoint.js';
import { readAdapter } from '../../src/formats/peft.js';
import { clear } from '../../src/gpu/tensor.js';
import type { AdapterWeights } from '../../src/model/adapter.js';
import { LanguageModel, type Tier } from '../../src/model/language-model.js';
import type { LossPrograms } from '../../src/model/loss-program.js';
import {
  type EvalMetrics,
  initialState,
  type SftOptions,
  type SftResume,
  type StepMetrics,
  trainSft,
} from '../../src/train/sft.js';
import { type GoldenCase, loadGolden } from '../golden.js';
import type { TestGpu } from '../gpu.js';
import { relativeError } from '../reference/random.js';
import { needsTier } from '../skip.js';

export interface GoldenModel {
  readonly model: LanguageModel;
  readonly adapter: Adapter;
  readonly weights: AdapterWeights;
}

/** A golden model with its adapter, on the device. */
export async function openGolden(gpu: TestGpu, name: GoldenCase, tier: Tier, dropout = 0): Promise<GoldenModel> {
  needsTier(gpu.device, tier);
  const { directory } = loadGolden(name);
  const checkpoint = await openCheckpoint(`${directory}/model`, modelLayout);
  const model = await LanguageModel.load(gpu.device, gpu.kernels, checkpoint, { tier, maxPositions: 64 });
  await checkpoint.close();
  const read = await readAdapter(`${directory}/adapter`, linearShapes(model.config));
  const adapter = { ...read, config: { ...read.config, dropout } };
  return { model, adapter, weights: await model.addAdapter(adapter, { trainable: true }) };
}

export interface Gradients {
  readonly loss: number;
  /** By "path.A" or "path.B". */
  readonly matrices: ReadonlyMap<string, Float64Array>;
}

/** Loss scale of the helpers: f16 gradients of tiny models stay clear of underflow. */
const lossScale = 1024;

export function clearGradients({ model, weights }: Pick<GoldenModel, 'model' | 'weights'>): void {
  clear(
    model.device,
    weights.chunks.map(({ gradients }) => gradients),
  );
}

/** Mean loss and gradients over tries that together make one step, each a micro-batch of its own. */
export async function gradientsOf(
  { model, weights }: GoldenModel,
  programs: LossPrograms,
  tries: readonly TokenTrie[],
): Promise<Gradients> {
  const total = tries.reduce((sum, trie) => trie.edgeWeight.reduce((a, b) => a + b, sum), 0);
  clearGradients({ model, weights });
  let loss = 0;
  for (const trie of tries) {
    const { batch, program } = await programs.prepare(trie);
    const logprobs = await program.run(batch, { gradScale: lossScale / total, dropout: 0, seed: 0 });
    trie.edgeWeight.forEach((weight, edge) => {
      loss -= (weight * logprobs[edge]) / total;
    });
  }
  const matrices = new Map<string, Float64Array>();
  for (const [path, pair] of await weights.downloadGradients()) {
    for (const matrix of ['A', 'B'] as const)
      matrices.set(
        `${path}.${matrix}`,
        Float64Array.from(pair[matrix], (g) => g / lossScale),
      );
  }
  return { loss, matrices };
}

/** Each example a trie of its own: what a trainer without sharing computes. */
export function oneByOne(examples: readonly Example[]): TokenTrie[] {
  return examples.map((example) => buildTrie([example])).filter((trie) => trie.edgeTarget.length > 0);
}

/** Largest relative error of a matrix, and which. */
export function worstError(actual: Gradients, expected: Gradients): { error: number; where: string } {
  let worst = { error: 0, where: '' };
  for (const [where, values] of expected.matrices) {
    const error = relativeError(actual.matrices.get(where)!, values);
    if (!(error <= worst.error)) worst = { error, where };
  }
  return worst;
}

/** Options of a short run; tests say what they change. */
export const sftDefaults: SftOptions = {
  batchSize: 4,
  microBatchTokens: 64,
  epochs: 1,
  maxSteps: 0,
  learningRate: 1e-2,
  schedulerType: 'constant',
  warmupSteps: null,
  warmupRatio: 0,
  weightDecay: 0,
  maxGradNorm: 1,
  loraPlusRatio: 1,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  seed: 42,
  shuffle: true,
  evalSteps: 0,
  saveSteps: 0,
  saveMinutes: 0,
  earlyStoppingPatience: 0,
  recompute: 0,
};

export interface Run {
  readonly result: Awaited<ReturnType<typeof trainSft>>;
  readonly steps: StepMetrics[];
  readonly evaluations: (EvalMetrics & { best: boolean })[];
  readonly checkpoints: (SftResume & { name: string; adapter: Adapter })[];
}

/** Trains from the golden adapter and keeps everything that the run tells. */
export async function train(
  opened: GoldenModel,
  data: { train: readonly Example[]; valid?: readonly Example[] },
  options: Partial<SftOptions>,
  more: {
    /** After so many steps, before an evaluation. */
    interruptAt?: number;
    interrupted?: (run: Omit<Run, 'result'>) => boolean;
    lossScale?: { scale: number; goodSteps: number };
    from?: Run['checkpoints'][0];
    onCheckpoint?: (name: string) => void;
  } = {},
): Promise<Run> {
  const { from, interruptAt, interrupted } = more;
  await opened.model.setAdapter(opened.weights, from?.adapter ?? opened.adapter);
  const run: Omit<Run, 'result'> = { steps: [], evaluations: [], checkpoints: [] };
  const state = more.lossScale && { ...initialState(opened.model.operand, 42), lossScale: more.lossScale };
  const none = { first: new Map(), second: new Map() };
  let best = from?.best ?? null;
  const result = await trainSft(
    opened.model,
    opened.weights,
    { train: data.train, valid: data.valid ?? [] },
    { ...sftDefaults, ...options },
    {
      step: (metrics) => void run.steps.push(metrics),
      evaluation: (metrics, best) => void run.evaluations.push({ ...metrics, best }),
      checkpoint: async (name, adapter, state, moments) => {
        more.onCheckpoint?.(name);
        run.checkpoints.push({ name, adapter, state: JSON.parse(JSON.stringify(state)), moments, best });
        if (name === 'best') best = adapter;
      },
      interrupted: () => run.steps.length === interruptAt || interrupted?.(run) === true,
    },
    from ?? (state ? { state, moments: none, best: null } : null),
  );
  return { result, ...run };
}

export function flatten(adapter: Adapter): Float32Array {
  return Float32Array.from([...adapter.tensors.values()].flatMap(({ A, B }) => [...A, ...B]));
}

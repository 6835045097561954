import type { ModelConfig } from '../models/config.js';
import { buildTrie } from '../src/batch/trie.js';
import type { Example } from '../src/batch/types.js';
import type { AdapterConfig } from '../src/formats/adapter.js';
import type { Checkpoint, LoadableCheckpoint } from '../src/formats/checkpoint.js';
import { initialAdapter } from '../src/model/adapter.js';
import { LanguageModel, operandOf, type Tier } from '../src/model/language-model.js';
import { LossPrograms } from '../src/model/loss-program.js';
import { createRandom } from '../src/random.js';
import { Optimizer } from '../src/train/optimizer.js';
import { formatProfile, timeStep } from '../src/train/profile.js';
import { benchMatmul, largestTensor } from './kernels/matmul.js';
import { matmulParameters, matmulShapes } from './matmul-shapes.js';
import type { BenchDevice } from './measure.js';
import { randomCheckpoint } from './random-checkpoint.js';
import { type BenchRow, median, spread } from './rows.js';

export interface SftBenchOptions {
  readonly config: ModelConfig;
  readonly sequences: number;
  readonly length: number;
  readonly rank: number;
  readonly targetModules: readonly string[];
  readonly tier: Tier;
  readonly steps: number;
  /** Also time one step by operation. */
  readonly profile: boolean;
  /** Also time steps whose backward pass computes every layer's activations again, in turn with the others. */
  readonly recompute: boolean;
  /** How float weights are to be loaded. */
  readonly load: (checkpoint: Checkpoint<ModelConfig>) => LoadableCheckpoint<ModelConfig>;
}

/**
 * Times whole optimiser steps of sequences that share nothing, all tokens supervised, beside the matmuls of that
 * model's shapes in the same run, but for those of a vocabulary that the device does not bind at once. Work is counted as 4N floating-point operations a token (2N forward, 2N for the
 * gradient of activations), N being the parameters of all matmuls, the head included.
 */
export async function benchSft(
  bench: BenchDevice,
  options: SftBenchOptions,
): Promise<{ rows: BenchRow[]; summary: Record<string, number | string>; profile: string[] }> {
  const { config, sequences, length, tier } = options;
  const model = await LanguageModel.load(bench.device, bench.kernels, options.load(randomCheckpoint(config)), {
    tier,
    maxPositions: length,
    tuning: bench.tuning,
  });
  const adapterConfig: AdapterConfig = {
    r: options.rank,
    alpha: 2 * options.rank,
    dropout: 0,
    targetModules: options.targetModules,
    useRslora: false,
  };
  const random = createRandom(1);
  const adapter = await model.addAdapter(
    initialAdapter(config, adapterConfig, () => random.uint32() / 2 ** 32),
    { trainable: true },
  );
  const optimizer = await Optimizer.create(model, adapter.chunks, {
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    weightDecay: 0,
    maxGradNorm: 1,
    loraPlusRatio: 1,
  });
  const programs = [0, config.layers].map(
    (recompute) => new LossPrograms(model, { adapter, backward: true, recompute }),
  );
  const examples: Example[] = Array.from({ length: sequences }, (_, s) => {
    const ids = Int32Array.from({ length: length + 1 }, (_, i) => (i === 0 ? s : random.below(config.vocabSize)));
    return { ids, labels: ids, weight: 1 };
  });
  const step = async (recompute = false) => {
    const trie = buildTrie(examples);
    const { batch, program } = await programs[Number(recompute)].prepare(trie);
    optimizer.zeroGradients();
    const logprobs = program.run(batch, { gradScale: 1, dropout: 0, seed: 0 });
    const update = await optimizer.step(1e-4, trie.edgeTarget.length);
    const loss = -(await logprobs).reduce((a, b) => a + b, 0) / trie.edgeTarget.length;
    if (!update.finite || !Number.isFinite(loss))
      throw new Error(`bench sft: step with loss ${loss}, gradients finite: ${update.finite}`);
    return trie.tokens.length;
  };
  const tokens = await step();
  if (options.recompute) await step(true);

  // Matmuls take turns with steps, so that both meet the same machine.
  const seconds: number[] = [];
  const again: number[] = [];
  const timed = async (into: number[], recompute: boolean) => {
    const started = performance.now();
    await step(recompute);
    into.push((performance.now() - started) / 1000);
  };
  const operand = operandOf(tier);
  const shapes = matmulShapes(config, tokens).filter((one) => largestTensor(one, operand) <= bench.device.maxBinding);
  const rows: BenchRow[] = [];
  let matmulMs = 0;
  let matmulFlops = 0;
  for (let i = 0; i < Math.max(options.steps, shapes.length); i++) {
    if (i < options.steps) await timed(seconds, false);
    if (i < options.steps && options.recompute) await timed(again, true);
    if (i >= shapes.length) continue;
    const { count, ...dims } = shapes[i];
    for (const form of ['nt', 'nn'] as const) {
      const { m, n, k } = dims;
      const row = await benchMatmul(bench, tier, form, form === 'nt' ? dims : { ...dims, n: k, k: n }, null);
      rows.push(row);
      matmulMs += row.median_ms * count;
      matmulFlops += 2 * m * n * k * count;
    }
  }
  const { layers, head } = matmulParameters(config);
  const parameters = layers + head;
  const stepSeconds = median(seconds);
  const gflops = (4 * parameters * tokens) / stepSeconds / 1e9;
  const matmulGflops = matmulFlops / matmulMs / 1e6;
  const microBatch = { microBatchTokens: tokens, recompute: 0 };
  const byOperation = options.profile ? await timeStep(model, adapter, examples, microBatch) : null;
  for (const each of programs) each.destroy();
  optimizer.destroy();
  return {
    rows,
    profile: byOperation ? formatProfile(byOperation.profile, byOperation.tokens) : [],
    summary: {
      model: `${config.architecture} ${config.hiddenSize}x${config.layers}, heads ${config.heads}/${config.kvHeads} of ${config.headDim}, ffn ${config.intermediateSize}, vocab ${config.vocabSize}, r ${options.rank}`,
      tier,
      matmul_parameters: parameters,
      tokens_per_step: tokens,
      step_seconds: stepSeconds,
      step_spread: spread(seconds),
      tokens_per_second: tokens / stepSeconds,
      gflops,
      matmul_gflops: matmulGflops,
      share_of_matmul: gflops / matmulGflops,
      ...(options.recompute ? { recompute_step_ratio: median(again) / stepSeconds } : {}),
    },
  };
}

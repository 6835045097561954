import type { AdapterConfig } from '../src/formats/adapter.js';
import { initialAdapter } from '../src/model/adapter.js';
import type { LanguageModel, Tier } from '../src/model/language-model.js';
import { ValueHead } from '../src/model/value-head.js';
import { createRandom } from '../src/random.js';
import { type PpoMetrics, type PpoOptions, trainPpo } from '../src/train/ppo.js';
import { matmulParameters } from './matmul-shapes.js';
import { type BenchRow, benchRow, median, spread } from './rows.js';

/** What is timed of `trainPpo`: its settings but for those that a random model gives no sense. */
export interface PpoBenchOptions {
  readonly tier: Tier;
  /** Shown in the rows. */
  readonly quantize: string;
  /** Of that tier, with positions for a prompt and its answer. */
  readonly model: LanguageModel;
  /** As many as a rollout has answers, of one length. */
  readonly prompts: readonly Int32Array[];
  /** Tokens at their beginning that all have in common; they share nothing else. */
  readonly shared: number;
  readonly adapter: AdapterConfig;
  readonly settings: PpoOptions;
}

/** Prompts of random tokens, the first `shared` of which all have in common; the next one is each one's own. */
export function randomPrompts(count: number, length: number, vocab: number, shared = 0): Int32Array[] {
  const random = createRandom(count);
  const common = Array.from({ length: shared }, () => random.below(vocab));
  return Array.from({ length: count }, (_, i) =>
    Int32Array.from({ length }, (_, at) => common[at] ?? (at === shared ? i % vocab : random.below(vocab))),
  );
}

const parts = ['rollout', 'scoring', 'update'] as const;

/**
 * Times whole steps of PPO by part, the first step left out: answers of full length to prompts of random tokens, a
 * random reward, policy, critic and reference being adapters of one shape. Work is 2N floating-point operations a token
 * of a forward pass and 4N of an update, N being the parameters of all matmuls, those of the head counted for tokens
 * that are drawn or scored and not for values, and tokens that all prompts share counted once a pass. Tokens per second
 * are of answers.
 */
export async function benchPpo(
  options: PpoBenchOptions,
): Promise<{ rows: BenchRow[]; shares: Record<string, string> }> {
  const { tier, quantize, model, prompts, shared, settings } = options;
  const [{ length }] = prompts;
  const { config } = model;
  const { batchSize, responseLength, numPpoEpochs } = settings;
  const random = createRandom(1);
  const uniform = () => random.uint32() / 2 ** 32;
  const start = initialAdapter(config, options.adapter, uniform);
  const valueHead = new ValueHead(model.device, config.hiddenSize, model.operand);
  valueHead.upload(new Float32Array(config.hiddenSize + 1));
  const models = {
    policy: await model.addAdapter(start, { trainable: true }),
    critic: await model.addAdapter(start, { trainable: true }),
    reference: await model.addAdapter(start, { trainable: false }),
    valueHead,
  };
  const steps: PpoMetrics[] = [];
  await trainPpo(model, models, prompts, settings, {
    judge: async (answers) => answers.map(() => ({ score: uniform(), parsed: true })),
    step: (metrics) => {
      steps.push(metrics);
    },
    checkpoint: async () => {},
    interrupted: () => false,
  });
  for (const part of Object.values(models)) part.destroy();
  const measured = steps.slice(1);

  const { layers, head } = matmulParameters(config);
  const drawn = batchSize * responseLength;
  const seen = shared + batchSize * (length - shared) + drawn;
  const size = `${batchSize} x ${length}+${responseLength}${shared > 0 ? `, ${shared} shared` : ''}`;
  // Of one forward pass over prompts and answers: with the head for answers (policy, reference), and without (critic).
  const [scored, valued] = [2 * (layers * seen + head * drawn), 2 * layers * seen];
  const flops = { rollout: scored, scoring: scored + valued, update: 2 * numPpoEpochs * (scored + valued) };
  const rows = parts.map((part) => {
    const times = measured.map((metrics) => 1000 * metrics[`seconds/${part}`]);
    const what = {
      operation: `ppo ${part}`,
      shape: size,
      tier,
      variant: quantize === 'none' ? 'plain' : quantize,
    };
    const ms = median(times);
    const made = benchRow(what, { ms, spread: spread(times), peerMs: null }, { flops: flops[part], bytes: 0 }, null);
    return { ...made, tokens_per_second: (1000 * drawn) / ms };
  });
  const total = rows.reduce((sum, { median_ms }) => sum + median_ms, 0);
  const percent = rows.map(({ median_ms }, i) => `${parts[i]} ${((100 * median_ms) / total).toFixed(0)} %`);
  return {
    rows,
    shares: {
      [`PPO step of ${size}`]: `${(total / 1000).toPrecision(3)} s: ${percent.join(', ')}`,
    },
  };
}

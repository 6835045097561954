import { benchPpo, randomPrompts } from '../../bench/ppo.js';
import { randomCheckpoint } from '../../bench/random-checkpoint.js';
import type { BenchRow } from '../../bench/rows.js';
import type { LanguageModel } from '../model/language-model.js';
import type { QuantizedFormat } from '../model/quantized-layouts.js';
import { newAdapterConfig } from './lora.js';
import type { Checkpointing } from './memory.js';
import { ppoSettings, ppoTable } from './ppo-arguments.js';
import { choosePpoMicroBatch } from './ppo-memory.js';
import { type OpenDevice, quantised } from './session.js';
import { parseOptions } from './usage.js';

export interface PpoStepOptions {
  /** How the model's weights are packed; shown in the rows. */
  readonly quantize: QuantizedFormat;
  readonly model: LanguageModel;
  /** Answers of a rollout, one a prompt. */
  readonly batch: number;
  readonly length: number;
  /** Tokens at the beginning of the prompts that all have in common. */
  readonly shared: number;
  readonly newTokens: number;
  /** Steps measured, one before them left out. */
  readonly steps: number;
}

/** Times PPO steps as `lexalign ppo` would make them by default, with the micro-batch that it would choose. */
export async function benchPpoSteps(
  open: OpenDevice,
  { quantize, model, batch, length, shared, newTokens, steps }: PpoStepOptions,
): Promise<{ rows: BenchRow[]; shares: Record<string, string> }> {
  const args = parseOptions(ppoTable, {
    'batch-size': batch,
    'num-mini-batches': Math.min(batch, ppoTable['num-mini-batches'].default),
    'response-length': newTokens,
    'total-episodes': batch * (steps + 1),
    temperature: 1,
  });
  const { config } = model;
  const adapter = { ...newAdapterConfig({ ...args, loraDropout: 0 }), dropout: 0 };
  const prompts = randomPrompts(batch, length, config.vocabSize, shared);
  const settingsOf = (run: { microBatchTokens: number; recompute: number }) => ({
    ...ppoSettings(args, { data: { questions: prompts }, model: { config, tokenizer: null }, ...run }),
    stopIds: new Set<number>(), // every answer comes to its full length
  });
  const plan = choosePpoMicroBatch(
    open,
    {
      config,
      packed: quantised(randomCheckpoint(config), quantize).packed,
      adapter,
      reference: adapter,
      asked: 0,
      checkpointing: args.gradientCheckpointing as Checkpointing,
      prompts,
      settings: settingsOf({ microBatchTokens: 0, recompute: 0 }),
    },
    null,
  );
  const { tier } = open;
  return benchPpo({ tier, quantize, model, prompts, shared, adapter, settings: settingsOf(plan.run) });
}

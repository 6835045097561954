import type { ModelConfig } from '../../models/config.js';
import type { AdapterConfig } from '../formats/adapter.js';
import { poolSizes } from '../gpu/memory-plan.js';
import { AdapterWeights } from './adapter.js';
import { operandOf, type Tier } from './language-model.js';
import type { RolloutMemory } from './rollout-memory.js';
import type { TrainingMemory } from './training-memory.js';
import { ValueHead } from './value-head.js';

/** What PPO takes beside what training its policy alone would, bytes. */
export interface PpoMemory {
  /** Adapter, gradients, moments and value head. */
  readonly critic: number;
  readonly reference: number;
  /** Keys and values of the rollout. */
  readonly cache: number;
  /** Inputs of the programs of reference, critic and rollout, and transient tensors that only a rollout needs. */
  readonly programs: number;
  readonly total: number;
}

/** Plans what stands beside the policy, whose training takes `training`, before anything is allocated. */
export function planPpo(
  config: ModelConfig,
  tier: Tier,
  options: { policy: AdapterConfig; reference: AdapterConfig | null; rollout: RolloutMemory },
  training: Pick<TrainingMemory, 'slots' | 'batch'>,
): PpoMemory {
  const { policy } = options;
  const bytesOf = (adapter: AdapterConfig, trainable: boolean) =>
    AdapterWeights.bytes(config, adapter, operandOf(tier), { trainable });
  const critic = bytesOf(policy, true) + 6 * ValueHead.standIn(config.hiddenSize).parameters.bytes;
  const reference = options.reference ? bytesOf(options.reference, false) : 0;
  const { cache, tables, slots } = options.rollout;
  const sum = (sizes: readonly number[]) => sizes.reduce((a, b) => a + b, 0);
  const shared = sum(poolSizes([training.slots, slots])) - sum(training.slots);
  // Programs of the reference and of the critic as many as a run of SFT has of its own.
  const programs = tables + shared + training.batch;
  return { critic, reference, cache, programs, total: critic + reference + cache + programs };
}

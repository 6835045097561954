import type { ModelConfig } from '../../models/config.js';
import type { AdapterConfig } from '../formats/adapter.js';
import type { DeviceShape } from '../gpu/device.js';
import { Tensor } from '../gpu/tensor.js';
import type { SamplingOptions } from '../ops/sample.js';
import { AdapterWeights } from './adapter.js';
import { operandOf, type Tier } from './language-model.js';
import { layOutRollout, type RolloutWishes, rolloutSize } from './rollout-program.js';
import { ValueHead } from './value-head.js';
import { type PackedLayouts, weightsStandIn } from './weights.js';

/** What PPO takes beside what training its policy alone would, bytes. */
export interface PpoMemory {
  /** Adapter, gradients, moments and value head. */
  readonly critic: number;
  readonly reference: number;
  /** KV cache and tables of the rollout. */
  readonly rollout: number;
  readonly total: number;
}

/** Plans what stands beside the policy and its programs, before anything is allocated. */
export function planPpo(
  device: Pick<DeviceShape, 'maxBinding'>,
  config: ModelConfig,
  tier: Tier,
  options: {
    policy: AdapterConfig;
    reference: AdapterConfig | null;
    packed: PackedLayouts;
    rollout: RolloutWishes;
    sampling: SamplingOptions;
  },
): PpoMemory {
  const operand = operandOf(tier);
  const { maxBinding } = device;
  const model = { config, operand, maxBinding, weights: weightsStandIn(config, operand, maxBinding, options.packed) };
  let rollout = 0;
  layOutRollout(
    (label, dtype, shape) => {
      const tensor = new Tensor(label, dtype, shape, null, 0, true);
      rollout += tensor.bytes;
      return tensor;
    },
    model,
    rolloutSize(model, options.rollout),
    { sampling: options.sampling, deterministic: false },
  );
  const bytesOf = (adapter: AdapterConfig, trainable: boolean) =>
    AdapterWeights.bytes(config, adapter, operand, { trainable });
  const critic = bytesOf(options.policy, true) + 6 * ValueHead.standIn(config.hiddenSize).parameters.bytes;
  const reference = options.reference ? bytesOf(options.reference, false) : 0;
  return { critic, reference, rollout, total: critic + reference + rollout };
}

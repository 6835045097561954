import { LINEAR_MODULES } from '../../models/tensors.js';
import { UsageError } from '../errors.js';
import type { AdapterConfig } from '../formats/adapter.js';

/** A new adapter's settings, as the options name them. */
export function newAdapterConfig(args: {
  readonly loraR: number;
  readonly loraAlpha: number;
  readonly loraDropout: number;
  readonly loraTargetModules: string;
  readonly useRslora: boolean;
}): AdapterConfig {
  const names =
    args.loraTargetModules === 'all-linear'
      ? [...LINEAR_MODULES]
      : args.loraTargetModules.split(',').map((name) => name.trim());
  for (const name of names) {
    if (!(LINEAR_MODULES as readonly string[]).includes(name)) {
      throw new UsageError(`--lora-target-modules: ${name} is not one of ${LINEAR_MODULES.join(', ')} or all-linear.`);
    }
  }
  return {
    r: args.loraR,
    alpha: args.loraAlpha,
    dropout: args.loraDropout,
    targetModules: [...new Set(names)],
    useRslora: args.useRslora,
  };
}

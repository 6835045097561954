import { LINEAR_MODULES } from '../../models/tensors.js';
import { UsageError } from '../errors.js';
import type { AdapterConfig } from '../formats/adapter.js';

/** Settings that an adapter to start from has made already. */
export const loraOptions: readonly string[] = [
  'lora-r',
  'lora-alpha',
  'lora-dropout',
  'lora-target-modules',
  'use-rslora',
];

/** Throws UsageError for such a setting beside --init-adapter; `given` are the options that the user named. */
export function checkInitAdapter(initAdapter: string | undefined, given: ReadonlySet<string>): void {
  const settled = initAdapter === undefined ? undefined : loraOptions.find((name) => given.has(name));
  if (settled !== undefined)
    throw new UsageError(`--${settled} with --init-adapter: that adapter's LoRA settings are kept; leave it out.`);
}

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

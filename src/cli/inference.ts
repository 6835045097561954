import { linearShapes } from '../../models/tensors.js';
import type { Adapter } from '../formats/adapter.js';
import { readAdapter } from '../formats/peft.js';
import type { AdapterWeights } from '../model/adapter.js';
import type { LanguageModel } from '../model/language-model.js';
import { modelOptions } from './options.js';
import { type DeviceArguments, loadModel, type OpenModel, openDevice } from './session.js';

/** Options of every command that runs a trained model. */
export const inferenceOptions = {
  model: modelOptions.model,
  quantize: modelOptions.quantize,
  adapter: { type: 'string', describe: 'PEFT directory of a LoRA adapter to run with' },
  device: modelOptions.device,
  tier: modelOptions.tier,
  'debug-gpu': modelOptions['debug-gpu'],
} as const;

/** The adapter of `--adapter`, checked against the model; null without one. */
export async function openAdapterDirectory(directory: string | undefined, model: OpenModel): Promise<Adapter | null> {
  return directory === undefined ? null : readAdapter(directory, linearShapes(model.config));
}

/** Opens the device, says on stderr which, puts model and adapter on it, and closes it when `use` has settled. */
export async function withLoadedModel<T>(
  args: DeviceArguments,
  model: OpenModel,
  adapter: Adapter | null,
  maxPositions: number,
  use: (loaded: LanguageModel, adapter: AdapterWeights | null) => Promise<T>,
): Promise<T> {
  const open = await openDevice(args);
  try {
    console.error(open.describe);
    const loaded = await loadModel(open, model, maxPositions);
    return await use(loaded, adapter && (await loaded.addAdapter(adapter, { trainable: false })));
  } finally {
    await open.close();
  }
}

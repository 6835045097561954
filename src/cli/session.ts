import { join } from 'node:path';
import type { ModelConfig } from '../../models/config.js';
import { modelLayout } from '../../models/index.js';
import { InputError } from '../errors.js';
import { type Checkpoint, openCheckpoint } from '../formats/checkpoint.js';
import { Device } from '../gpu/device.js';
import { KernelCache } from '../gpu/kernels.js';
import { LanguageModel, type Tier } from '../model/language-model.js';
import { type Tokenizer, tryLoadTokenizer } from '../text/tokenizer.js';
import { openAdapter } from './gpu.js';
import { kernelSource, packageRoot } from './kernel-source.js';

/** A model directory with its tokenizer (null without one), checked but not yet on a device. */
export interface OpenModel {
  readonly directory: string;
  readonly checkpoint: Checkpoint<ModelConfig>;
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer | null;
}

/** Opens and checks a model directory; without one, the embedded lexi-base. */
export async function openModel(directory: string | undefined): Promise<OpenModel> {
  const path = directory ?? join(packageRoot, 'models', 'lexi-base');
  const checkpoint = await openCheckpoint(path, modelLayout);
  const tokenizer = await tryLoadTokenizer(path);
  return { directory: path, checkpoint, config: checkpoint.config, tokenizer };
}

/** The tokenizer that a command of texts cannot do without. */
export function requireTokenizer(model: OpenModel): Tokenizer {
  if (!model.tokenizer) throw new InputError(`${model.directory} has no tokenizer.json, so it takes token ids only.`);
  return model.tokenizer;
}

export interface DeviceArguments {
  readonly device?: string;
  readonly tier?: string;
  readonly debugGpu?: boolean;
}

export interface OpenDevice {
  readonly device: Device;
  readonly kernels: KernelCache;
  readonly tier: Tier;
  /** One line: which device, driver and tier. */
  readonly describe: string;
  close(): void;
}

/** Opens the device that the options mean; f16 where the device has it, unless --tier says otherwise. */
export async function openDevice(args: DeviceArguments): Promise<OpenDevice> {
  const opened = await openAdapter({ wish: args.device, debug: args.debugGpu });
  const device = await Device.open(opened.adapter, { cpu: opened.kind === 'cpu' });
  const close = () => {
    device.destroy();
    opened.release();
  };
  if (args.tier === 'f16' && !device.features.f16) {
    close();
    throw new InputError('--tier f16: this device has no shader-f16; use --tier f32.');
  }
  const tier = args.tier === 'f16' || args.tier === 'f32' ? args.tier : device.features.f16 ? 'f16' : 'f32';
  return {
    device,
    kernels: new KernelCache(device, kernelSource()),
    tier,
    describe: `${opened.describe}, tier ${tier}`,
    close,
  };
}

/** Streams a model onto a device; closes its files. */
export async function loadModel(open: OpenDevice, model: OpenModel, maxPositions: number): Promise<LanguageModel> {
  const { device, kernels, tier } = open;
  const loaded = await LanguageModel.load(device, kernels, model.checkpoint, { tier, maxPositions });
  await model.checkpoint.close();
  return loaded;
}

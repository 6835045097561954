import { join } from 'node:path';
import type { ModelConfig } from '../../models/config.js';
import { modelLayout } from '../../models/index.js';
import { InputError } from '../errors.js';
import { type Checkpoint, openCheckpoint } from '../formats/checkpoint.js';
import { Device } from '../gpu/device.js';
import { KernelCache } from '../gpu/kernels.js';
import { LanguageModel, type Tier } from '../model/language-model.js';
import { checkTier, offeredTiers } from '../model/self-test.js';
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
  close(): Promise<void>;
}

/** Opens the device that the options mean. */
export async function openDevice(args: DeviceArguments): Promise<OpenDevice> {
  const opened = await openAdapter({ wish: args.device, debug: args.debugGpu });
  const device = await Device.open(opened.adapter, { cpu: opened.kind === 'cpu' });
  const close = async () => {
    await device.close();
    opened.release();
  };
  try {
    const kernels = new KernelCache(device, kernelSource());
    const tier = await chooseTier(device, kernels, args.tier);
    return { device, kernels, tier, describe: `${opened.describe}, tier ${tier}`, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * The best tier whose self-test passes; one that fails is named in a warning. On CPU cores matrix units are emulated
 * and slower than registers, so `auto` leaves them out there.
 */
async function chooseTier(device: Device, kernels: KernelCache, wish = 'auto'): Promise<Tier> {
  const offered = offeredTiers(device);
  if (wish !== 'auto') {
    const tier = offered.find((name) => name === wish);
    if (!tier) throw new InputError(`--tier ${wish}: this device offers ${offered.join(', ')}.`);
    const check = await checkTier(device, kernels, tier);
    if (!check.ok) throw new InputError(`--tier ${wish} fails its self-test on this device: ${check.detail}.`);
    return tier;
  }
  for (const tier of offered) {
    if (tier === 'tensor' && device.features.cpu) continue;
    const check = await checkTier(device, kernels, tier);
    if (check.ok) return tier;
    console.error(`Warning: tier ${tier} is left out, because it fails its self-test: ${check.detail}.`);
  }
  throw new InputError(
    'No tier passes its self-test on this device: its driver computes wrongly; see lexalign doctor.',
  );
}

/** Streams a model onto a device; closes its files. */
export async function loadModel(open: OpenDevice, model: OpenModel, maxPositions: number): Promise<LanguageModel> {
  const { device, kernels, tier } = open;
  const loaded = await LanguageModel.load(device, kernels, model.checkpoint, { tier, maxPositions });
  await model.checkpoint.close();
  return loaded;
}

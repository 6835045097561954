import { basename } from 'node:path';
import type { ModelConfig } from '../../models/config.js';
import { modelLayout } from '../../models/index.js';
import { InputError, UsageError } from '../errors.js';
import { type Checkpoint, type LoadableCheckpoint, openCheckpoint } from '../formats/checkpoint.js';
import { Device } from '../gpu/device.js';
import { KernelCache, type KernelSource } from '../gpu/kernels.js';
import { LanguageModel, type Tier } from '../model/language-model.js';
import { quantiseOnLoad } from '../model/quantize-weights.js';
import type { QuantizedFormat } from '../model/quantized-layouts.js';
import {
  type Candidate,
  candidates,
  checkCandidate,
  nameCandidate,
  offeredTiers,
  type TierCheck,
} from '../model/self-test.js';
import type { Tuning } from '../ops/tuning.js';
import { lexiBase } from '../paths.js';
import { type Tokenizer, tryLoadTokenizer } from '../text/tokenizer.js';
import { crashedTests, notingTest } from './crashed-tests.js';
import { backendName, openAdapter } from './gpu.js';
import { modelDirectory } from './hub.js';
import { kernelSource } from './kernel-source.js';
import { formatBytes } from './memory.js';
import { createProgress } from './progress.js';
import { tellCompilation } from './tell-compilation.js';
import { readTuning } from './tuning-cache.js';

/** A model directory with its tokenizer (null without one), checked but not yet on a device. */
export interface OpenModel {
  readonly directory: string;
  readonly checkpoint: LoadableCheckpoint<ModelConfig>;
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer | null;
}

/** Whether it is the embedded default model, which follows no instructions. */
export function isLexiBase(model: OpenModel): boolean {
  return basename(model.directory) === 'lexi-base';
}

/** A checkpoint to be loaded as `--quantize` says. Throws UsageError for one that is quantised already. */
export function quantised(
  checkpoint: Checkpoint<ModelConfig>,
  format: QuantizedFormat,
): LoadableCheckpoint<ModelConfig> {
  if (format !== 'none' && checkpoint.packed.size > 0)
    throw new UsageError(`--quantize ${format}: the weights of ${checkpoint.dir} are quantised already; leave it out.`);
  return format === 'none' ? checkpoint : quantiseOnLoad(checkpoint, format);
}

/** Opens and checks a model: a directory, or one of the hub, fetched if need be; without one, the embedded lexi-base. */
export async function openModel(args: { readonly model?: string; readonly quantize?: string }): Promise<OpenModel> {
  const path = args.model === undefined ? lexiBase : await modelDirectory(args.model);
  const stored = await openCheckpoint(path, modelLayout);
  try {
    const checkpoint = quantised(stored, (args.quantize ?? 'none') as QuantizedFormat);
    const tokenizer = await tryLoadTokenizer(path);
    if (tokenizer?.foldsSystem)
      console.error(`The chat template of ${path} takes no system turn: its text is put before the first question.`);
    return { directory: path, checkpoint, config: checkpoint.config, tokenizer };
  } catch (error) {
    await stored.close();
    throw error;
  }
}

/** The tokenizer that a command of texts cannot do without. */
export function requireTokenizer(model: Pick<OpenModel, 'directory' | 'tokenizer'>): Tokenizer {
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
  /** Settings of matmuls that were measured on this device. */
  readonly tuning: Tuning;
  /** One line: which device, driver and tier. */
  readonly describe: string;
  close(): Promise<void>;
}

/** Opens the device that the options mean; `known` are the settings of a run that is resumed, in place of those measured since. */
export async function openDevice(args: DeviceArguments, known?: Tuning): Promise<OpenDevice> {
  const opened = await openAdapter({ wish: args.device, debug: args.debugGpu });
  const device = await Device.open(opened.adapter, { cpu: opened.kind === 'cpu' });
  const close = async () => {
    await device.close();
    opened.release();
  };
  try {
    const source = kernelSource();
    const kernels = new KernelCache(device, source);
    tellCompilation(kernels);
    const { tier, subgroups } = await chooseTier(device, kernels, source, args.tier);
    const tuning = known ?? (tier === 'tensor' ? await readTuning(device.info, source) : new Map());
    if (tier === 'tensor' && !device.features.cpu && tuning.size === 0)
      console.error('Matmuls run with default settings; `lexalign bench kernels --tune` looks for faster ones, once.');
    const tuned = tier === 'tensor' ? `, ${tuning.size > 0 ? `${tuning.size} tuned products` : 'untuned'}` : '';
    const without = subgroups === false ? ' without subgroups' : '';
    const describe = `${opened.describe}, tier ${tier}${without}${tuned}`;
    return { device, kernels, tier, tuning, describe, close };
  } catch (error) {
    await close();
    throw error;
  }
}

const crashDetail =
  'a process before this one ended in it, as where a driver crashes; `lexalign doctor` tries it again';

/**
 * The best tier whose self-test passes; one that fails is named in a warning, as are subgroups where no tier passes but
 * without them: the device is told to leave them out. One whose self-test ended a process before is tested only where it
 * is asked for. On CPU cores matrix units are emulated and slower than registers, so `auto` leaves them out there.
 */
async function chooseTier(
  device: Device,
  kernels: KernelCache,
  source: KernelSource,
  wish = 'auto',
): Promise<Candidate> {
  const offered = offeredTiers(device);
  if (wish !== 'auto' && !offered.includes(wish as Tier)) {
    throw new InputError(`--tier ${wish}: this device offers ${offered.join(', ')}.`);
  }
  const crashed = wish === 'auto' ? await crashedTests(device, source) : new Set();
  const failed: TierCheck[] = [];
  let chosen: TierCheck | null = null;
  for (const candidate of candidates(device)) {
    const { tier, matrix } = candidate;
    if (wish === 'auto' ? tier === 'tensor' && device.features.cpu : tier !== wish) continue;
    const name = nameCandidate(candidate);
    const check = crashed.has(name)
      ? { ...candidate, name, ok: false, detail: crashDetail }
      : await notingTest(device, source, name, () => checkCandidate(device, kernels, candidate));
    if (check.ok) {
      chosen = check;
      break;
    }
    if (matrix) device.dropMatrix(matrix);
    failed.push(check);
  }
  const reasons = failed.map(({ name, detail }) => `${name}: ${detail}`).join('; ');
  if (chosen?.subgroups === false) {
    device.dropSubgroups();
    console.error(
      `Warning: tier ${chosen.tier} runs without subgroups, and so without matrix units, because with them this device fails its self-test: ${reasons}.`,
    );
    return chosen;
  }
  for (const { name, detail } of failed)
    console.error(`Warning: tier ${name} is left out, because it fails its self-test: ${detail}.`);
  if (chosen) {
    const slower = wish === 'auto' && !device.features.cpu && chosen.tier !== 'tensor';
    if (slower) console.error(explainTier(device, chosen.tier));
    return chosen;
  }
  if (wish !== 'auto') throw new InputError(`--tier ${wish} fails its self-test on this device: ${reasons}.`);
  throw new InputError(
    'No tier passes its self-test on this device: its driver computes wrongly; see lexalign doctor.',
  );
}

/** Why a GPU runs in a slower tier than it might, and what may mend it. */
export function explainTier({ features }: Pick<Device, 'features'>, tier: Tier, system = process): string {
  if (!features.f16)
    return `This device has no 16-bit floats (shader-f16), so tier ${tier} runs; a newer driver may have them.`;
  const backend = backendName(system);
  const other = backend === 'Direct3D 12' ? ', and so may Vulkan (set DAWNNODE_BACKEND=vulkan)' : '';
  return `This device has no matrix units that ${backend} reaches, so tier ${tier} runs; a newer driver may have them${other}.`;
}

/** Streams a model onto a device; closes its files. Says how far it is where that takes more than a second. */
export async function loadModel(open: OpenDevice, model: OpenModel, maxPositions: number): Promise<LanguageModel> {
  const { device, kernels, tier, tuning } = open;
  const bar = createProgress();
  const start = performance.now();
  let bytes = 0;
  const passed = () => (performance.now() - start) / 1000;
  const told = (seconds: number) =>
    `${formatBytes(bytes)} of weights in ${seconds.toFixed(1)} s, ${(bytes / 1e9 / seconds).toFixed(2)} GB/s`;
  const progress = (done: number, total: number) => {
    bytes = done;
    const seconds = passed();
    if (seconds > 1 && done < total) bar.update(done / total, `loading: ${told(seconds)}`);
  };
  try {
    const options = { tier, maxPositions, tuning, progress };
    const loaded = await LanguageModel.load(device, kernels, model.checkpoint, options);
    const seconds = passed();
    if (seconds > 1) bar.line(`Loaded ${told(seconds)}.`);
    return loaded;
  } finally {
    bar.end();
    await model.checkpoint.close();
  }
}

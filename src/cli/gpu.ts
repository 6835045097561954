import { delimiter } from 'node:path';
import { create, globals } from 'webgpu';
import { InputError } from '../errors.js';
import { type AdapterKind, adapterKind, chooseAdapter } from '../gpu/adapter.js';
import { hasVulkanLoader, needsRelaunch, relaunch, runsUnderLoader } from './software-driver.js';
import { unlistedDrivers, visibleGpus } from './system-gpus.js';

export interface AdapterOptions {
  /** auto, gpu, cpu, or a part of an adapter's name; by default LEXALIGN_DEVICE, else auto. */
  wish?: string;
  /** Leaves bounds checks and safe integer division in the shaders. */
  debug?: boolean;
}

export interface OpenAdapter {
  readonly gpu: GPU;
  readonly adapter: GPUAdapter;
  readonly kind: AdapterKind;
  /** One line that says which device runs, and through which driver. */
  readonly describe: string;
  /** Lets go of Dawn's instance, so that the process can end. Destroy the device first. */
  release(): void;
}

/** Dawn's instances in use: promises of a collected one never settle. */
const instances = new Set<GPU>();

const backends = new Map([
  ['vulkan', 'Vulkan'],
  ['d3d12', 'Direct3D 12'],
  ['metal', 'Metal'],
]);

/**
 * What Dawn reaches GPUs through: DAWNNODE_BACKEND, which the binding reads itself, else the system's own.
 * @throws InputError where DAWNNODE_BACKEND names another one
 */
export function backendName({ platform, env }: Pick<NodeJS.Process, 'platform' | 'env'> = process): string {
  const own = { darwin: 'metal', win32: 'd3d12' }[platform as string] ?? 'vulkan';
  const name = backends.get(env.DAWNNODE_BACKEND?.toLowerCase() || own);
  if (!name) throw new InputError(`DAWNNODE_BACKEND=${env.DAWNNODE_BACKEND}: name ${[...backends.keys()].join(', ')}.`);
  return name;
}

/** Runs `use` with an instance of Dawn that lives until it has settled. */
async function withInstance<T>(options: { name?: string }, use: (gpu: GPU) => Promise<T>): Promise<T> {
  const gpu = createInstance(options);
  instances.add(gpu);
  try {
    return await use(gpu);
  } finally {
    instances.delete(gpu);
  }
}

/** Tells the Vulkan loader, which reads the environment, of drivers in places that it does not search. */
function nameDrivers(): void {
  const { env } = process;
  const found = process.platform === 'linux' ? unlistedDrivers() : [];
  if (found.length && !env.VK_DRIVER_FILES && !env.VK_ICD_FILENAMES) env.VK_ADD_DRIVER_FILES ??= found.join(delimiter);
}

function createInstance(options: { debug?: boolean; name?: string }): GPU {
  backendName(); // or Dawn refuses it with a stack trace
  Object.assign(globalThis, globals);
  nameDrivers();
  const enabled = [
    'allow_unsafe_apis',
    'vulkan_enable_f16_on_nvidia',
    'disable_workgroup_init',
    ...(options.debug ? [] : ['disable_robustness', 'disable_polyfills_on_integer_div_and_mod']),
  ];
  return create([
    `enable-dawn-features=${enabled.join(',')}`,
    'disable-dawn-features=timestamp_quantization,lazy_clear_resource_on_first_use',
    ...(options.name ? [`adapter=${options.name}`] : []),
  ]);
}

/**
 * Names of all adapters that the backend offers, fastest first. Dawn tells them only in the error about an adapter
 * that doesn't exist.
 */
export async function listAdapterNames(): Promise<string[]> {
  if (!hasVulkanLoader() && !runsUnderLoader()) return [];
  try {
    await withInstance({ name: '\u0001none' }, (gpu) => gpu.requestAdapter({ powerPreference: 'high-performance' }));
    return [];
  } catch (error) {
    const names = [...String(error).matchAll(/^ \* backend: '[^']*', name: '(.*)'$/gm)].map((match) => match[1]);
    return [...new Set(names)];
  }
}

/** Every adapter that the backend offers, with the name that `--device` takes. */
export async function listAdapters(): Promise<{ name: string; kind: AdapterKind; adapter: GPUAdapter }[]> {
  const found = [];
  for (const name of await listAdapterNames()) {
    const adapter = await withInstance({ name }, (gpu) => gpu.requestAdapter());
    if (adapter) found.push({ name, kind: adapterKind(adapter.info), adapter });
  }
  return found;
}

/** The wish of the command line, else (and where that is auto, its default) of the environment, else auto. */
export function deviceWish(option = 'auto'): string {
  return option && option !== 'auto' ? option : process.env.LEXALIGN_DEVICE || 'auto';
}

/**
 * For a command that computes: runs it on the private software driver where that is what `wish` comes to here.
 * @returns the exit code of that run, or null when the command is to go on in this process
 */
export async function runOnSoftwareDriver(argv: readonly string[], wish?: string): Promise<number | null> {
  const nativeGpu = () => withInstance({}, async (gpu) => (await chooseAdapter(gpu, 'gpu')) !== null);
  const driver = await needsRelaunch(deviceWish(wish), nativeGpu);
  return driver && relaunch(driver, argv);
}

async function findByName(part: string): Promise<string> {
  const names = await listAdapterNames();
  const name = names.find((candidate) => candidate.toLowerCase().includes(part.toLowerCase()));
  if (name) return name;
  const offered = names.length ? names.map((candidate) => `"${candidate}"`).join(', ') : 'none';
  throw new InputError(`--device ${part}: no adapter has that in its name (found: ${offered}); see lexalign doctor.`);
}

const setUpDriver = 'on Debian and Ubuntu `npx lexalign doctor --install-driver` sets up a software driver';

/** Why there is no adapter of the wished kind, and the mend, in one sentence. */
export function explainNoAdapter(wish: string, gpus: readonly string[] = visibleGpus()): string {
  const backend = backendName();
  if (wish === 'cpu')
    return `No software driver for --device cpu was found: ${setUpDriver}, or install mesa-vulkan-drivers.`;
  if (gpus.length)
    return (
      `The system has a GPU, ${gpus.join(', ')}, but ${backend} does not offer it: install the vendor's ${backend} ` +
      'driver (in a container, pass it through; where its .json lies in no usual place, VK_DRIVER_FILES names it), or ' +
      'add --device cpu to compute on the CPU.'
    );
  if (wish === 'gpu')
    return `--device gpu: ${backend} offers no GPU; install its driver, or use --device cpu to compute on the CPU.`;
  return `No ${backend} device was found: ${setUpDriver}; see \`npx lexalign doctor\`.`;
}

function describeAdapter(info: GPUAdapterInfo, wish: string): string {
  const backend = backendName();
  if (adapterKind(info) === 'cpu') {
    const reason = wish === 'auto' ? 'no GPU found, so the CPU' : 'the CPU';
    return `Device: ${info.description || info.device} (${reason} through a software ${backend} driver)`;
  }
  return `Device: ${[info.device || info.vendor, info.description].filter(Boolean).join(', ')} (GPU, ${backend})`;
}

/**
 * Opens Dawn and picks the adapter. With `auto`, a CPU driver is taken only where the system shows no GPU at all, or
 * where this process was started on the software driver.
 * @throws InputError when there is no adapter of the wished kind
 */
export async function openAdapter(options: AdapterOptions = {}): Promise<OpenAdapter> {
  const wish = deviceWish(options.wish);
  if (!hasVulkanLoader() && !runsUnderLoader()) throw new InputError(explainNoAdapter(wish));
  const kindWish = wish === 'gpu' || wish === 'cpu' ? wish : 'auto';
  const named = wish === 'auto' || wish === kindWish ? undefined : await findByName(wish);
  const gpu = createInstance({ debug: options.debug, name: named });
  const adapter = await chooseAdapter(gpu, kindWish);
  if (!adapter) throw new InputError(explainNoAdapter(wish));
  const kind = adapterKind(adapter.info);
  if (wish === 'auto' && kind === 'cpu' && !runsUnderLoader() && visibleGpus().length)
    throw new InputError(explainNoAdapter(wish));
  instances.add(gpu);
  return { gpu, adapter, kind, describe: describeAdapter(adapter.info, wish), release: () => instances.delete(gpu) };
}

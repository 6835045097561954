import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { constants, homedir } from 'node:os';
import { basename, delimiter, join } from 'node:path';
import { packageRoot } from '../paths.js';
import { stopSignals } from './interrupt.js';
import { visibleGpus } from './system-gpus.js';

/** Changes when the layout of an installed driver does, so that an older one is left alone and a new one is made. */
const layout = 'v1';

/** A private copy of Mesa's lavapipe with the C library it was built for, which the host's Node runs under. */
export interface SoftwareDriver {
  readonly directory: string;
  /** Version of the Mesa package. */
  readonly version: string;
}

/** Where lexalign keeps what it sets up for this user. */
export function cacheDirectory(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'lexalign');
}

/** Directory that an installed driver has; it appears whole or not at all. */
export function driverDirectory(): string {
  return join(cacheDirectory(), 'software-vulkan', layout);
}

/** The private software driver of this user, or null. */
export function installedDriver(directory = driverDirectory()): SoftwareDriver | null {
  try {
    const { version } = JSON.parse(readFileSync(join(directory, 'driver.json'), 'utf8'));
    return { directory, version: String(version) };
  } catch {
    return null;
  }
}

/** Whether this process runs under a private loader: then process.execPath is the loader, not node. */
export function runsUnderLoader(): boolean {
  return basename(process.execPath).startsWith('ld-linux');
}

/** The node executable itself, also under a private loader. */
export function nodeExecutable(): string {
  if (!runsUnderLoader()) return realpathSync(process.execPath);
  if (process.env.LEXALIGN_NODE) return process.env.LEXALIGN_NODE;
  const found = (process.env.PATH ?? '').split(delimiter).map((directory) => join(directory, 'node'));
  return realpathSync(found.find((file) => existsSync(file)) ?? 'node');
}

/** Command line and environment that run node with `args` on the software driver. */
export function driverCommand(driver: SoftwareDriver, args: readonly string[]) {
  const node = nodeExecutable();
  const icd = join(driver.directory, 'lvp_icd.json');
  return {
    command: join(driver.directory, 'lib', 'ld-linux-x86-64.so.2'),
    args: ['--library-path', join(driver.directory, 'lib'), node, ...args],
    env: {
      ...process.env,
      VK_DRIVER_FILES: icd,
      VK_ICD_FILENAMES: icd,
      MESA_SHADER_CACHE_DIR: process.env.MESA_SHADER_CACHE_DIR || join(cacheDirectory(), 'shader-cache'),
      XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR || driver.directory,
      LEXALIGN_NODE: node,
      LEXALIGN_RELAUNCHED_BY: String(process.pid),
    },
  };
}

/** Whether a terminal sends its Ctrl-C and hang-up to our whole process group, so a child has it already. */
function inForeground(): boolean {
  try {
    const stat = readFileSync('/proc/self/stat', 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const [group, terminalGroup] = [fields[2], fields[5]];
    return group === terminalGroup;
  } catch {
    return false;
  }
}

/**
 * Runs a command with our streams, hands signals on to it and returns its exit code; where a signal ended it, this
 * process ends by the same one.
 */
export function runAttached(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: 'inherit', env });
    const handlers = stopSignals.map((signal) => {
      const handler = () => {
        if (signal === 'SIGTERM' || !inForeground()) child.kill(signal);
      };
      process.on(signal, handler);
      return () => process.off(signal, handler);
    });
    const finish = () => {
      for (const remove of handlers) remove();
    };
    child.on('error', (error) => {
      finish();
      reject(error);
    });
    child.on('exit', (code, signal) => {
      finish();
      if (!signal) return resolve(code ?? 1);
      process.kill(process.pid, signal);
      setTimeout(() => resolve(128 + constants.signals[signal]), 100);
    });
  });
}

/**
 * In a process of `relaunch`: ends it, as SIGTERM does, once its parent is gone. One that is killed outright hands no
 * signal on, and what it had started would go on unseen, in the way of a resumed run.
 */
export function endWithParent(): void {
  const parent = process.env.LEXALIGN_RELAUNCHED_BY;
  if (parent !== String(process.ppid)) return;
  const watch = setInterval(() => {
    if (String(process.ppid) === parent) return;
    clearInterval(watch);
    process.kill(process.pid, 'SIGTERM');
  }, 500).unref();
}

/** Runs the same lexalign command on the software driver; returns its exit code. */
export function relaunch(driver: SoftwareDriver, argv: readonly string[]): Promise<number> {
  const { command, args, env } = driverCommand(driver, [
    ...process.execArgv,
    join(packageRoot, 'bin', 'lexalign.mjs'),
    ...argv,
  ]);
  return runAttached(command, args, env);
}

/** Whether the system has the Vulkan loader. Dawn looks for it too, but prints a warning where it is missing. */
export function hasVulkanLoader(): boolean {
  if (process.platform !== 'linux') return true;
  const directories = [
    ...(process.env.LD_LIBRARY_PATH ?? '').split(delimiter).filter(Boolean),
    ...['/usr/lib', '/usr/lib64', '/lib', '/lib64', '/usr/local/lib', '/usr/local/lib64'],
    ...['x86_64', 'aarch64'].map((machine) => `/usr/lib/${machine}-linux-gnu`),
  ];
  const holds = (look: () => boolean) => {
    try {
      return look();
    } catch {
      return false;
    }
  };
  return (
    directories.some((directory) =>
      holds(() => readdirSync(directory).some((name) => name.startsWith('libvulkan.so'))),
    ) || holds(() => readFileSync('/etc/ld.so.cache').includes('libvulkan.so.1'))
  );
}

/**
 * Whether a command that wants `wish` (auto, gpu, cpu or a part of an adapter's name) should run on the private
 * software driver: it is installed, this process is not on it yet, and no GPU was meant or could be.
 * @param nativeGpu tells whether the system's own Vulkan offers a GPU; asked only when nothing else decides.
 */
export async function needsRelaunch(wish: string, nativeGpu: () => Promise<boolean>): Promise<SoftwareDriver | null> {
  if (process.platform !== 'linux' || runsUnderLoader()) return null;
  if (process.env.LEXALIGN_RELAUNCHED_BY === String(process.ppid)) return null;
  const driver = installedDriver();
  if (!driver || wish === 'cpu') return driver;
  if (wish !== 'auto' || visibleGpus().length) return null;
  return hasVulkanLoader() && (await nativeGpu()) ? null : driver;
}

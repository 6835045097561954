import { spawn } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readdir, readFile, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { InputError } from '../errors.js';
import { findDebianMirror } from './apt-sources.js';
import {
  driverCommand,
  driverDirectory,
  installedDriver,
  nodeExecutable,
  type SoftwareDriver,
} from './software-driver.js';

/** Mesa's lavapipe of this release has f16 and subgroup matrices; it runs with its own C library beside older ones. */
const release = { codename: 'trixie', backports: 'trixie-backports' };
const loaderName = 'ld-linux-x86-64.so.2';
/** A set-up that died leaves its directory; one older than this is nobody's. */
const abandonedAfterMs = 3_600_000;

/** Output of a command; throws with the line that says most when it fails. */
function run(command: string, args: readonly string[], env = process.env): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...env, LC_ALL: 'C' } });
    let output = '';
    let errors = '';
    child.stdout.on('data', (text) => {
      output += text;
    });
    child.stderr.on('data', (text) => {
      errors += text;
    });
    child.on('error', (error) => reject(new Error(`${command}: ${error.message}`)));
    child.on('close', (code) => {
      const lines = errors.trim().split('\n');
      const reason =
        lines.find((line) => /^[EW]: Failed to fetch/.test(line)) ??
        lines.findLast((line) => line.startsWith('E:')) ??
        lines.at(-1);
      if (code === 0) resolve(output);
      else reject(new Error(reason?.replace(/^[EW]: /, '') || `${basename(command)} failed with code ${code}`));
    });
  });
}

async function readText(file: string): Promise<string> {
  return readFile(file, 'utf8').catch(() => '');
}

interface System {
  /** ID of os-release, "debian", and those it derives from. */
  readonly ids: readonly string[];
  readonly codename: string;
}

async function readSystem(): Promise<System> {
  const text = await readText('/etc/os-release');
  const field = (name: string) => new RegExp(`^${name}="?([^"\n]*)"?$`, 'm').exec(text)?.[1] ?? '';
  return { ids: [field('ID'), ...field('ID_LIKE').split(' ')], codename: field('VERSION_CODENAME') };
}

/** Null where the private driver can be set up, else a sentence that says what to install by hand. */
async function whyNoPrivateDriver(): Promise<string | null> {
  if (process.platform === 'darwin' || process.platform === 'win32')
    return 'No WebGPU adapter was found: update the graphics driver of this system.';
  const { ids } = await readSystem();
  const known = ids.includes('debian') || ids.includes('ubuntu');
  if (process.platform === 'linux' && process.arch === 'x64' && known) return null;
  return (
    "No WebGPU adapter was found: install your GPU's Vulkan driver, or Mesa 26.1 or newer with its software driver " +
    '(lavapipe; Fedora and openSUSE: mesa-vulkan-drivers, Arch: vulkan-swrast, Alpine: mesa-vulkan-swrast) and the Vulkan loader.'
  );
}

/** Debian archive to use: LEXALIGN_DEBIAN_MIRROR, else the one in this machine's apt sources; null on Ubuntu. */
async function debianMirror(system: System): Promise<string | null> {
  if (process.env.LEXALIGN_DEBIAN_MIRROR) return process.env.LEXALIGN_DEBIAN_MIRROR;
  if (system.ids[0] === 'ubuntu' || system.ids.includes('ubuntu')) return null;
  const directory = '/etc/apt/sources.list.d';
  const names = (await readdir(directory).catch(() => [])).map((name) => join(directory, name));
  const files = ['/etc/apt/sources.list', ...names.filter((name) => /\.(list|sources)$/.test(name))];
  const texts = await Promise.all(files.map(async (name) => ({ name, text: await readText(name) })));
  const mirror = findDebianMirror(texts, system.codename);
  if (!mirror)
    throw new InputError('No Debian mirror is in the apt sources: name one in LEXALIGN_DEBIAN_MIRROR and run again.');
  return mirror;
}

/** apt's options for a private tree under `directory`: own lists and cache, nothing installed, no hooks of the host. */
function aptConfiguration(directory: string, sources: string | null): string {
  return [
    '#clear APT::Update::Pre-Invoke;',
    '#clear APT::Update::Post-Invoke;',
    '#clear APT::Update::Post-Invoke-Success;',
    ...(sources ? [`Dir::Etc::sourcelist "${sources}";`, 'Dir::Etc::sourceparts "/dev/null";'] : []),
    'Dir::Etc::preferences "/dev/null";',
    'Dir::Etc::preferencesparts "/dev/null";',
    `Dir::State "${directory}/state";`,
    `Dir::State::status "${directory}/state/status";`,
    `Dir::Cache "${directory}/cache";`,
    'APT::Architecture "amd64";',
    'APT::Architectures { "amd64"; };',
    // Only the named sources must answer; a machine's third-party ones may be down.
    ...(sources ? ['APT::Update::Error-Mode "any";'] : []),
    'APT::Sandbox::User "root";',
    'APT::Install-Recommends "false";',
    'Acquire::Languages "none";',
    'Acquire::Retries "2";',
    'Acquire::http::Timeout "30";',
    'Acquire::https::Timeout "30";',
    'Debug::NoLocking "true";',
    '',
  ].join('\n');
}

/** Debian's signing keys, present on Debian; elsewhere out of the distribution's package debian-archive-keyring. */
async function debianKeyring(work: string, download: (name: string, from: string) => Promise<string>): Promise<string> {
  const paths = ['gpg', 'pgp'].map((kind) => `usr/share/keyrings/debian-archive-keyring.${kind}`);
  const exists = async (file: string) => (await stat(file).catch(() => null)) !== null;
  for (const path of paths) if (await exists(join('/', path))) return join('/', path);
  const root = await download('debian-archive-keyring', join(work, 'keyring'));
  for (const path of paths) if (await exists(join(root, path))) return join(root, path);
  throw new InputError('The package debian-archive-keyring holds no keyring this program knows; install it by hand.');
}

/** Downloads a package with all it depends on and unpacks everything under `work`/root; nothing is installed. */
async function unpackPackage(work: string, name: string, sources: string | null, target?: string): Promise<string> {
  for (const part of ['state/lists/partial', 'cache/archives/partial', 'root'])
    await mkdir(join(work, part), { recursive: true });
  await writeFile(join(work, 'state', 'status'), '');
  const configuration = join(work, 'apt.conf');
  await writeFile(configuration, aptConfiguration(work, sources));
  await run('apt-get', ['-c', configuration, '-qq', 'update']);
  const targetOptions = target ? ['-t', target] : [];
  await run('apt-get', ['-c', configuration, '-qq', '-y', '--download-only', ...targetOptions, 'install', name]);
  const archives = join(work, 'cache', 'archives');
  for (const file of await readdir(archives))
    if (file.endsWith('.deb')) await run('dpkg', ['-x', join(archives, file), join(work, 'root')]);
  return join(work, 'root');
}

async function unpackMesa(work: string, mirror: string | null): Promise<string> {
  if (!mirror) return unpackPackage(work, 'mesa-vulkan-drivers', null);
  const keyring = await debianKeyring(work, (name, from) => unpackPackage(from, name, null));
  const sources = join(work, 'sources.list');
  const suites = [release.codename, release.backports];
  await writeFile(sources, suites.map((suite) => `deb [signed-by=${keyring}] ${mirror} ${suite} main\n`).join(''));
  return unpackPackage(work, 'mesa-vulkan-drivers', sources, release.backports);
}

/** Copies the driver and the libraries that it, node and Dawn load from the unpacked tree; the rest is 200 MB. */
async function collectLibraries(root: string, directory: string): Promise<void> {
  const folders = ['usr/lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu'].map((folder) => join(root, folder));
  const find = async (name: string) => {
    for (const folder of folders) {
      const file = await realpath(join(folder, name)).catch(() => null);
      if (file) return file;
    }
    throw new Error(`the packages hold no ${name}`);
  };
  const lib = join(directory, 'lib');
  await mkdir(lib, { recursive: true });
  const loader = await find(loaderName);
  const path = folders.join(':');
  const require = createRequire(import.meta.url);
  const dawn = join(dirname(require.resolve('webgpu/package.json')), 'dist', 'linux-x64', 'dawn.node');
  const needed = new Set([loaderName, 'libvulkan_lvp.so', 'libvulkan.so.1']);
  // Loaded by name at run time: thread cancellation and name look-ups of the C library.
  for (const name of ['libgcc_s.so.1', 'libnss_dns.so.2', 'libnss_files.so.2', 'libresolv.so.2', 'libdl.so.2'])
    needed.add(name);
  for (const file of [await find('libvulkan_lvp.so'), await find('libvulkan.so.1'), nodeExecutable(), dawn]) {
    const listing = await run(loader, ['--library-path', path, '--list', file]);
    for (const [, name, found] of listing.matchAll(/^\s*(\S+) => (\S+)/gm))
      if (found.startsWith(root)) needed.add(basename(name));
  }
  for (const name of needed) await copyFile(await find(name), join(lib, name));
}

async function writeManifests(root: string, directory: string): Promise<void> {
  const folder = join(root, 'usr/share/vulkan/icd.d');
  const name = (await readdir(folder)).find((file) => file.startsWith('lvp_icd'));
  if (!name) throw new Error('the packages hold no lavapipe manifest');
  const manifest = JSON.parse(await readFile(join(folder, name), 'utf8'));
  // Relative to the manifest, so that the directory can be tried where it is made and then renamed.
  manifest.ICD.library_path = './lib/libvulkan_lvp.so';
  await writeFile(join(directory, 'lvp_icd.json'), JSON.stringify(manifest, null, 2));
}

/** Version of the Mesa package among the downloaded archives. */
async function mesaVersion(work: string): Promise<string> {
  const files = await readdir(join(work, 'cache', 'archives'));
  return decodeURIComponent(files.find((file) => file.startsWith('mesa-vulkan-drivers_'))?.split('_')[1] ?? 'unknown');
}

/** Tries the driver in a process of its own: it must give an adapter with 16-bit floats. */
async function checkDriver(driver: SoftwareDriver): Promise<void> {
  const probe = join(dirname(fileURLToPath(import.meta.url)), 'probe-adapters.js');
  const { command, args, env } = driverCommand(driver, [probe]);
  const adapters = JSON.parse((await run(command, args, env)).trim().split('\n').at(-1) ?? '[]');
  if (!adapters.some((adapter: { usable: boolean }) => adapter.usable))
    throw new InputError(
      `The software driver that this distribution offers, Mesa ${driver.version}, lacks 16-bit floats in WebGPU: name ` +
        'a Debian mirror in LEXALIGN_DEBIAN_MIRROR and run again.',
    );
}

async function removeAbandoned(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    if (!name.startsWith('making-')) continue;
    const made = await stat(join(parent, name)).catch(() => null);
    if (made && Date.now() - made.mtimeMs > abandonedAfterMs)
      await rm(join(parent, name), { recursive: true, force: true });
  }
}

/**
 * Sets up the private software driver of this user, unless it is there: downloads Mesa's lavapipe with apt, unpacks it
 * without installing anything or being root, tries it, and moves it into place whole. Several at once don't disturb
 * each other: the first to finish wins.
 * @throws InputError with the reason in one sentence
 */
export async function installDriver(say: (line: string) => void): Promise<SoftwareDriver> {
  const existing = installedDriver();
  if (existing) return existing;
  const reason = await whyNoPrivateDriver();
  if (reason) throw new InputError(reason);
  const final = driverDirectory();
  const parent = dirname(final);
  let work = '';
  try {
    await mkdir(parent, { recursive: true });
    await removeAbandoned(parent);
    work = await mkdtemp(join(parent, 'making-'));
    say('Setting up a software Vulkan driver for this user (a download of about 60 MB) …');
    const root = await unpackMesa(work, await debianMirror(await readSystem()));
    const made = join(work, 'driver');
    await collectLibraries(root, made);
    await writeManifests(root, made);
    const version = await mesaVersion(work);
    await checkDriver({ directory: made, version });
    await writeFile(join(made, 'driver.json'), JSON.stringify({ version }));
    await rename(made, final).catch((error) => {
      if (!installedDriver()) throw error;
    });
    say(`Software Vulkan driver: Mesa ${version}, in ${final}`);
    return { directory: final, version };
  } catch (error) {
    if (error instanceof InputError) throw error;
    throw new InputError(
      `The software Vulkan driver could not be set up (${(error as Error).message.trim()}): check the network and ` +
        'the apt sources, then try again.',
    );
  } finally {
    if (work) await rm(work, { recursive: true, force: true });
  }
}

/**
 * Makes a checkout ready to run, doing only what is missing: npm's packages, the build in dist/, and, where no usable
 * adapter is found on Debian or Ubuntu, a private software Vulkan driver. `npm run setup`.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
const at = (...parts) => join(root, ...parts);
const stamp = at('dist', 'built-from');

/** A failure that one sentence explains. */
export class SetupError extends Error {}

function readJson(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return null;
  }
}

/** Whether node_modules holds the versions of package-lock.json: npm notes what it installed when it is done. */
function packagesReady() {
  const installed = readJson(at('node_modules', '.package-lock.json'))?.packages;
  const wanted = readJson(at('package-lock.json'))?.packages;
  if (!installed || !wanted) return false;
  return Object.entries(wanted).every(
    ([path, entry]) => !path || entry.optional || entry.devOptional || installed[path]?.version === entry.version,
  );
}

function installPackages() {
  console.error('Installing npm packages …');
  const args = ['ci', '--no-audit', '--no-fund', '--loglevel=error'];
  const npm = process.env.npm_execpath;
  const options = { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] };
  const result = npm?.endsWith('.js')
    ? spawnSync(process.execPath, [npm, ...args], options)
    : spawnSync('npm', args, { ...options, shell: process.platform === 'win32' });
  if (result.status !== 0)
    throw new SetupError('npm ci failed (see above): check the network and npm’s registry setting, then run again.');
}

/** Digest of names, sizes and times of everything that the build reads. */
function sourcesDigest() {
  const hash = createHash('sha256');
  const visit = (path) => {
    const { mtimeMs, size } = statSync(at(path));
    hash.update(`${path} ${mtimeMs} ${size}\n`);
  };
  for (const folder of ['src', 'models', 'datasets', 'bench']) {
    if (!existsSync(at(folder))) continue;
    const names = readdirSync(at(folder), { recursive: true }).map(String).sort();
    for (const name of names) if (name.endsWith('.ts')) visit(join(folder, name));
  }
  for (const file of ['tsconfig.json', 'tsconfig.build.json', 'package-lock.json']) visit(file);
  return hash.digest('hex');
}

/** Compiles beside dist/ and swaps it in whole, so that a running command never sees half a build. */
function build(digest) {
  console.error('Building …');
  const fresh = at('node_modules', '.cache', `lexalign-dist-${process.pid}`);
  const old = `${fresh}-old`;
  const tsc = at('node_modules', 'typescript', 'bin', 'tsc');
  const args = [tsc, '-p', at('tsconfig.build.json'), '--outDir', fresh];
  const result = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
  if (result.status !== 0) console.error(`${result.stdout}${result.stderr}`.trim().split('\n').slice(0, 10).join('\n'));
  if (!existsSync(join(fresh, 'src', 'cli', 'probe-adapters.js'))) {
    rmSync(fresh, { recursive: true, force: true });
    throw new SetupError('The build failed (see above): `npm run build` shows all of it.');
  }
  // A build with type errors runs, but is made anew next time, so that they are shown again.
  writeFileSync(join(fresh, 'built-from'), result.status === 0 ? digest : '');
  if (existsSync(at('dist'))) renameSync(at('dist'), old);
  renameSync(fresh, at('dist'));
  rmSync(old, { recursive: true, force: true });
}

/** Packages and build. */
export function prepare() {
  if (!packagesReady()) installPackages();
  const digest = sourcesDigest();
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) return;
  mkdirSync(at('node_modules', '.cache'), { recursive: true });
  build(digest);
}

/** A module of the build. */
export const load = (name) => import(pathToFileURL(at('dist', 'src', 'cli', `${name}.js`)).href);

/** Adapters of the system's own Vulkan, Metal or Direct3D, asked in a process of its own. */
function probeAdapters() {
  const probe = spawnSync(process.execPath, [at('dist', 'src', 'cli', 'probe-adapters.js')], { encoding: 'utf8' });
  try {
    return JSON.parse(probe.stdout.trim().split('\n').at(-1));
  } catch {
    return [];
  }
}

/**
 * Everything that tests, demo and commands need.
 * @returns the private software driver, or null where the system's own adapter serves
 */
export async function setUp() {
  prepare();
  const { installedDriver } = await load('software-driver');
  const adapters = probeAdapters();
  const wish = process.env.LEXALIGN_DEVICE?.toLowerCase();
  if (adapters.some(({ kind, name }) => kind === 'gpu' || (wish && name.toLowerCase().includes(wish)))) return null;
  const installed = installedDriver();
  if (installed || adapters.some((adapter) => adapter.usable)) return installed;
  const { installDriver } = await load('install-software-driver');
  return installDriver((line) => console.log(line));
}

/** Runs `main`, turning an expected failure into its sentence and exit code 1. */
export async function orFail(main) {
  try {
    return await main();
  } catch (error) {
    if (!(error instanceof SetupError) && error?.name !== 'InputError') throw error;
    console.error(error.message);
    process.exit(1);
  }
}

if (process.argv[1] && pathToFileURL(process.argv[1]).href === import.meta.url) {
  await orFail(setUp);
  console.log('Ready: npx lexalign --help');
}

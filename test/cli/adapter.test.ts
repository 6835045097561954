import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { findDebianMirror } from '../../src/cli/apt-sources.js';
import { backendName, deviceWish, explainNoAdapter, listAdapterNames, openAdapter } from '../../src/cli/gpu.js';
import { driverCommand, installedDriver, needsRelaunch, nodeExecutable } from '../../src/cli/software-driver.js';
import { unlistedDrivers, visibleGpus } from '../../src/cli/system-gpus.js';
import { adapterKind, chooseAdapter } from '../../src/gpu/adapter.js';

const info = (fields: Partial<GPUAdapterInfo>) =>
  ({
    vendor: '',
    architecture: '',
    device: '',
    description: '',
    isFallbackAdapter: false,
    ...fields,
  }) as GPUAdapterInfo;

const nvidia = info({ vendor: 'nvidia', architecture: 'hopper', device: 'nvidia-h200', description: 'NVIDIA: 570.1' });
const lavapipe = info({ vendor: 'mesa', device: 'llvmpipe-llvm-19', isFallbackAdapter: true });

describe('adapterKind', () => {
  it('knows software drivers by flag or by name', () => {
    expect(adapterKind(nvidia)).toBe('gpu');
    expect(adapterKind(lavapipe)).toBe('cpu');
    for (const description of ['llvmpipe (LLVM 19)', 'SwiftShader Device (Subzero)', 'Microsoft Basic Render Driver'])
      expect(adapterKind(info({ description }))).toBe('cpu');
    expect(adapterKind(info({ vendor: 'apple', architecture: 'metal-3', description: 'Apple M3' }))).toBe('gpu');
  });
});

describe('chooseAdapter', () => {
  /** A system with these adapters, fastest first. */
  const system = (...infos: GPUAdapterInfo[]) =>
    ({
      requestAdapter: async (options?: GPURequestAdapterOptions) => {
        const found = infos.find((one) => !options?.forceFallbackAdapter || one.isFallbackAdapter);
        return found ? { info: found } : null;
      },
    }) as unknown as GPU;
  const chosen = async (gpu: GPU, wish: 'auto' | 'gpu' | 'cpu') => (await chooseAdapter(gpu, wish))?.info ?? null;

  it('gives the wished kind or nothing', async () => {
    const both = system(nvidia, lavapipe);
    expect(await chosen(both, 'auto')).toBe(nvidia);
    expect(await chosen(both, 'gpu')).toBe(nvidia);
    expect(await chosen(both, 'cpu')).toBe(lavapipe);
    expect(await chosen(system(lavapipe), 'gpu')).toBeNull();
    expect(await chosen(system(lavapipe), 'auto')).toBe(lavapipe);
    expect(await chosen(system(nvidia), 'cpu')).toBeNull();
    expect(await chosen(system(), 'auto')).toBeNull();
  });
});

describe('DAWNNODE_BACKEND', () => {
  afterEach(() => vi.unstubAllEnvs());

  it('chooses another backend than the system has for its own', async () => {
    const named = (platform: string, wish?: string) =>
      backendName({ platform: platform as NodeJS.Platform, env: { DAWNNODE_BACKEND: wish } });
    expect(['linux', 'win32', 'darwin'].map((platform) => named(platform))).toEqual(['Vulkan', 'Direct3D 12', 'Metal']);
    expect([named('win32', 'vulkan'), named('win32', '')]).toEqual(['Vulkan', 'Direct3D 12']);
  });

  it.skipIf(process.platform === 'win32')('is heard by the binding: there is no Direct3D here', async () => {
    vi.stubEnv('DAWNNODE_BACKEND', 'd3d12');
    await expect(openAdapter({ wish: 'gpu' })).rejects.toThrow(/Direct3D 12 (offers no GPU|does not offer it)/);
  });

  it('is refused in one sentence where there is no such thing', async () => {
    vi.stubEnv('DAWNNODE_BACKEND', 'opengl');
    await expect(openAdapter()).rejects.toThrow(/^DAWNNODE_BACKEND=opengl: name vulkan, d3d12, metal\.$/);
  });
});

describe('visibleGpus', () => {
  const directory = mkdtempSync(join(tmpdir(), 'lexalign-gpus-'));
  const node = (name: string, vendor: string) => {
    mkdirSync(join(directory, 'dev/dri'), { recursive: true });
    writeFileSync(join(directory, 'dev/dri', name), '');
    mkdirSync(join(directory, 'sys/class/drm', name, 'device'), { recursive: true });
    writeFileSync(join(directory, 'sys/class/drm', name, 'device/vendor'), `${vendor}\n`);
  };
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  it('lists real GPUs once and leaves out virtual displays', () => {
    expect(visibleGpus(directory)).toEqual([]);
    node('renderD128', '0x1af4');
    expect(visibleGpus(directory)).toEqual([]);
    node('renderD129', '0x10de');
    node('renderD130', '0x1002');
    expect(visibleGpus(directory)).toEqual(['NVIDIA (/dev/dri/renderD129)', 'AMD (/dev/dri/renderD130)']);
    for (const name of ['nvidia0', 'nvidiactl', 'nvidia-uvm']) writeFileSync(join(directory, 'dev', name), '');
    expect(visibleGpus(directory)).toEqual(['NVIDIA (/dev/nvidia0)', 'AMD (/dev/dri/renderD130)']);
  });
});

describe('unlistedDrivers', () => {
  const directory = mkdtempSync(join(tmpdir(), 'lexalign-drivers-'));
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  it('finds the files of drivers where the Vulkan loader does not look', () => {
    expect(unlistedDrivers(directory)).toEqual([]);
    const place = join(directory, 'usr/local/nvidia/share/vulkan/icd.d');
    mkdirSync(place, { recursive: true });
    for (const name of ['nvidia_icd.json', 'README']) writeFileSync(join(place, name), '{}');
    expect(unlistedDrivers(directory)).toEqual([join(place, 'nvidia_icd.json')]);
  });
});

describe('findDebianMirror', () => {
  const find = (name: string, text: string) => findDebianMirror([{ name, text }], 'bookworm');

  it('reads one-line sources, past comments, options, security and other archives', () => {
    const text = `
# deb http://commented.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] https://other.example/linux/debian bookworm stable
deb https://vendor.example/repo bookworm main
deb http://security.example/debian-security bookworm-security main
deb [arch=amd64] http://mirror.example/debian/ bookworm main contrib # ours
`;
    expect(find('/etc/apt/sources.list', text)).toBe('http://mirror.example/debian/');
  });

  it('reads deb822 stanzas, with continued lines and disabled entries', () => {
    const text = `
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb deb-src
# a comment inside
URIs: mirror+file:///etc/apt/mirrors/debian.list
Suites: bookworm bookworm-updates
Components:
 main
 contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`;
    expect(find('debian.sources', text)).toBe('mirror+file:///etc/apt/mirrors/debian.list');
  });

  it('finds none where there is none', () => {
    expect(find('ubuntu.sources', 'Types: deb\nURIs: http://u.example/ubuntu\nSuites: noble\nComponents: main\n')).toBe(
      null,
    );
    expect(find('sources.list', 'deb cdrom:[Debian 12]/ bookworm main')).toBe(null);
  });
});

describe('the device a command gets', () => {
  afterEach(() => vi.unstubAllEnvs());

  it('is wished for by option, then environment, then automatically', () => {
    vi.stubEnv('LEXALIGN_DEVICE', '');
    expect(deviceWish()).toBe('auto');
    vi.stubEnv('LEXALIGN_DEVICE', 'cpu');
    expect(deviceWish()).toBe('cpu');
    expect(deviceWish('gpu')).toBe('gpu');
    expect(deviceWish('auto')).toBe('cpu');
  });

  it('is explained in one sentence with the mend when there is none', () => {
    expect(explainNoAdapter('auto', ['NVIDIA (/dev/nvidia0)'])).toMatch(/NVIDIA.*driver.*--device cpu/);
    expect(explainNoAdapter('gpu', [])).toMatch(/--device gpu.*--device cpu/);
    expect(explainNoAdapter('cpu', [])).toMatch(/npx lexalign doctor --install-driver/);
    expect(explainNoAdapter('auto', [])).toMatch(/npx lexalign doctor --install-driver/);
  });

  it('is the software driver only if that is installed and no GPU was meant', async () => {
    const empty = mkdtempSync(join(tmpdir(), 'lexalign-driver-'));
    vi.stubEnv('XDG_CACHE_HOME', empty);
    vi.stubEnv('LEXALIGN_RELAUNCHED_BY', '');
    const never = async () => expect.fail('no need to ask');
    const execPath = process.execPath;
    process.execPath = nodeExecutable();
    onTestFinished(() => {
      process.execPath = execPath;
    });
    expect(installedDriver()).toBeNull();
    expect(await needsRelaunch('cpu', never)).toBeNull();
    mkdirSync(join(empty, 'lexalign/software-vulkan/v1'), { recursive: true });
    expect(installedDriver()).toBeNull();
    writeFileSync(join(empty, 'lexalign/software-vulkan/v1/driver.json'), '{"version":"26.1"}');
    expect(installedDriver()?.version).toBe('26.1');
    expect(await needsRelaunch('cpu', never)).toEqual(installedDriver());
    expect(await needsRelaunch('gpu', never)).toBeNull();
    if (!visibleGpus().length) expect(await needsRelaunch('auto', async () => false)).toEqual(installedDriver());
    vi.stubEnv('LEXALIGN_RELAUNCHED_BY', String(process.ppid));
    expect(await needsRelaunch('cpu', never)).toBeNull();
    vi.stubEnv('LEXALIGN_RELAUNCHED_BY', '');
    process.execPath = '/some/lib/ld-linux-x86-64.so.2';
    expect(await needsRelaunch('cpu', never)).toBeNull();
    rmSync(empty, { recursive: true });
  });

  it('is named with its driver, and refused when it is of the wrong kind or unknown', async ({ skip }) => {
    const names = await listAdapterNames();
    if (!names.length) skip('no adapter in this process: run npm test');
    const opened = await openAdapter({ wish: names[0], debug: true });
    expect(opened.describe).toMatch(/^Device: .+(GPU|CPU)/);
    const device = await opened.adapter.requestDevice();
    device.destroy();
    opened.release();
    if (opened.kind === 'cpu' && names.length === 1)
      await expect(openAdapter({ wish: 'gpu' })).rejects.toThrow(/--device cpu/);
    await expect(openAdapter({ wish: 'no such card' })).rejects.toThrow(`found: "${names[0]}"`);
  });
});

describe('running under the private loader', () => {
  const built = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), 'dist/src/cli/software-driver.js');

  it('names the real node', () => {
    const { command, args, env } = driverCommand({ directory: '/d', version: '1' }, ['x.mjs', '--y']);
    expect(command).toBe('/d/lib/ld-linux-x86-64.so.2');
    expect(args).toEqual(['--library-path', '/d/lib', nodeExecutable(), 'x.mjs', '--y']);
    expect(env.VK_DRIVER_FILES).toBe('/d/lvp_icd.json');
    expect(nodeExecutable()).toMatch(/node/);
  });

  /** Runs `code` through runAttached in a process of its own; calls `whenReady` at its first output. */
  const attached = (code: string, whenReady?: (pid: number) => void) =>
    new Promise<{ code: number | null; signal: string | null }>((resolve) => {
      const script = `import { runAttached } from ${JSON.stringify(pathToFileURL(built).href)};
        process.exit(await runAttached(${JSON.stringify(nodeExecutable())}, ['-e', ${JSON.stringify(code)}], process.env));`;
      const child = spawn(nodeExecutable(), ['--input-type=module', '-e', script], { detached: true });
      child.stdout.once('data', () => whenReady?.(child.pid as number));
      child.on('exit', (exitCode, signal) => resolve({ code: exitCode, signal }));
    });

  it('hands on exit codes and signals', async ({ skip }) => {
    if (!existsSync(built)) skip('not built: run npm test');
    expect((await attached('process.exit(7)')).code).toBe(7);
    const waits = 'setTimeout(() => {}, 60000); console.log("ready");';
    const catches = `process.once('SIGINT', () => process.exit(130)); ${waits}`;
    expect((await attached(catches, (pid) => process.kill(pid, 'SIGINT'))).code).toBe(130);
    expect((await attached(waits, (pid) => process.kill(pid, 'SIGTERM'))).signal).toBe('SIGTERM');
  });

  it('ends, by a signal that it may catch, when what started it is killed outright', async ({ skip }) => {
    if (!existsSync(built)) skip('not built: run npm test');
    const mark = join(mkdtempSync(join(tmpdir(), 'lexalign-orphan-')), 'ended');
    onTestFinished(() => rmSync(dirname(mark), { recursive: true }));
    const started = `import { endWithParent } from ${JSON.stringify(pathToFileURL(built).href)};
      import { writeFileSync } from 'node:fs';
      process.on('SIGTERM', () => { writeFileSync(${JSON.stringify(mark)}, ''); process.exit(); });
      setTimeout(() => process.exit(1), 20000);
      endWithParent();
      console.log('ready');`;
    const starting = `require('child_process').spawn(${JSON.stringify(nodeExecutable())},
      ['--input-type=module', '-e', ${JSON.stringify(started)}],
      { stdio: 'inherit', env: { ...process.env, LEXALIGN_RELAUNCHED_BY: String(process.pid) } });`;
    const parent = spawn(nodeExecutable(), ['-e', starting]);
    await new Promise((resolve) => parent.stdout.once('data', resolve));
    expect(existsSync(mark)).toBe(false);
    parent.kill('SIGKILL');
    await vi.waitFor(() => expect(existsSync(mark)).toBe(true), { timeout: 10_000, interval: 100 });
  });
});

/**
 * Packs lexalign with everything it needs into one archive for a Linux x86-64 machine without network: Node, what the npm
 * package holds, the npm packages that it needs, and the Vulkan loader where this machine has one. The target needs a GPU
 * driver alone.
 *
 *     node scripts/bundle.mjs [lexalign-linux-x64.tar.xz]
 *     tar xJf lexalign-linux-x64.tar.xz && lexalign/lexalign doctor
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { load, orFail, prepare, root, SetupError } from './setup.mjs';

const launcher = `#!/bin/sh
# Runs lexalign with the Node and, where the system has none, the Vulkan loader that lie beside this file.
here=$(dirname "$(readlink -f "$0")")
if [ -d "$here/lib" ] && ! ldconfig -p 2>/dev/null | grep -q libvulkan.so.1; then
  export LD_LIBRARY_PATH="$here/lib\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
exec "$here/node" "$here/bin/lexalign.mjs" "$@"
`;

/**
 * The Vulkan loader of this system's own release, else that of its package, fetched without root; null without one.
 * Not the private software driver's: that one needs a newer C library than the target may have.
 */
function findVulkanLoader(work) {
  const inside = (base) => ['usr/lib/x86_64-linux-gnu', 'usr/lib64'].map((d) => join(base, d, 'libvulkan.so.1'));
  const own = inside('/').find(existsSync);
  if (own) return realpathSync(own);
  const fetched = join(work, 'loader');
  mkdirSync(fetched);
  const quiet = { cwd: fetched, stdio: 'ignore' };
  if (spawnSync('apt-get', ['download', 'libvulkan1'], quiet).status !== 0) return null;
  const [archive] = readdirSync(fetched);
  if (spawnSync('dpkg', ['-x', archive, fetched], quiet).status !== 0) return null;
  const file = inside(fetched).find(existsSync);
  return file ? realpathSync(file) : null;
}

/** Folders of the packages that a run needs, relative to the checkout. */
function productionPackages() {
  const args = ['ls', '--omit=dev', '--all', '--parseable'];
  const listed = spawnSync('npm', args, { cwd: root, encoding: 'utf8' });
  if (listed.status !== 0)
    throw new SetupError('npm ls finds node_modules not as package-lock.json has it: `npm ci` first, then run again.');
  return listed.stdout
    .trim()
    .split('\n')
    .map((path) => relative(root, path))
    .filter((path) => path.startsWith('node_modules'));
}

await orFail(async () => {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new SetupError('The bundle is made on Linux x86-64, for machines of its kind.');
  const target = resolve(process.argv[2] ?? 'lexalign-linux-x64.tar.xz');
  prepare();
  const { nodeExecutable } = await load('software-driver');
  const work = mkdtempSync(join(tmpdir(), 'lexalign-bundle-'));
  try {
    const stage = join(work, 'lexalign');
    const copy = (from, to = from) =>
      cpSync(resolve(root, from), join(stage, to), { recursive: true, dereference: true });
    const { files } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    for (const path of [...files, 'package.json', ...productionPackages()]) copy(path);
    const platforms = join(stage, 'node_modules/webgpu/dist');
    for (const name of readdirSync(platforms)) {
      if (name !== 'linux-x64' && !name.includes('.')) rmSync(join(platforms, name), { recursive: true });
    }
    copy(nodeExecutable(), 'node');
    chmodSync(join(stage, 'node'), 0o755);
    const loader = findVulkanLoader(work);
    if (loader) copy(loader, 'lib/libvulkan.so.1');
    else console.error('No Vulkan loader was found or fetched (package libvulkan1): the target must have its own.');
    writeFileSync(join(stage, 'lexalign'), launcher, { mode: 0o755 });
    execFileSync('tar', ['-cJf', target, '-C', work, 'lexalign'], {
      stdio: 'inherit',
      env: { ...process.env, XZ_OPT: '-T0' },
    });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  console.log(
    `Made ${relative(process.cwd(), target) || target}: unpack it anywhere and run lexalign/lexalign doctor.`,
  );
});

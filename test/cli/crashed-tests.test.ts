import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { crashedTests, notingTest } from '../../src/cli/crashed-tests.js';
import { nodeExecutable } from '../../src/cli/software-driver.js';
import type { Device } from '../../src/gpu/device.js';
import { temporaryDirectory } from '../formats/helpers.js';
import { skip } from '../skip.js';

const info = { vendor: 'maker', architecture: 'new', device: 'card', description: 'driver 1' };
const device = (driver = 'driver 1', cpu = false) =>
  ({ info: { ...info, description: driver }, features: { cpu } }) as unknown as Device;
const source = (path: string) => path;

let cache: string;
beforeEach(async () => {
  cache = await temporaryDirectory();
  vi.stubEnv('XDG_CACHE_HOME', cache);
});
afterEach(() => vi.unstubAllEnvs());
const notes = () => readdirSync(join(cache, 'lexalign', 'self-tests'));

/** Runs the self-test "tensor" in a process of its own, in which `code` is what the driver does; tells how it ended. */
async function test(code: string, signal?: NodeJS.Signals, cpu = false): Promise<number | NodeJS.Signals> {
  const built = join(import.meta.dirname, '../../dist/src/cli/crashed-tests.js');
  if (!existsSync(built)) skip('not built: run npm test');
  const script = `import { notingTest } from ${JSON.stringify(pathToFileURL(built).href)};
    const device = { info: ${JSON.stringify(info)}, features: { cpu: ${cpu} } };
    await notingTest(device, (path) => path, 'tensor', async () => { ${code} });`;
  const child = spawn(nodeExecutable(), ['--input-type=module', '-e', script]);
  if (signal) child.stdout.once('data', () => child.kill(signal));
  const [exit, by] = await once(child, 'exit');
  return exit ?? by;
}
const waits = 'console.log("testing"); await new Promise((resolve) => setTimeout(resolve, 60_000));';

it('knows the test in which a process crashed, on that driver and those kernels', async () => {
  expect(await test('process.abort()')).toBe('SIGABRT');
  expect(await crashedTests(device(), source)).toEqual(new Set(['tensor']));
  expect(await crashedTests(device('driver 2'), source)).toEqual(new Set());
  expect(await crashedTests(device(), (path) => `${path}, changed`)).toEqual(new Set());
  // Others' tests do not mend it; its own does, whether it passes or not.
  await notingTest(device(), source, 'f16', async () => {});
  expect(await crashedTests(device(), source)).toEqual(new Set(['tensor']));
  await expect(notingTest(device(), source, 'tensor', () => Promise.reject(new Error('wrong')))).rejects.toThrow(
    'wrong',
  );
  expect(await crashedTests(device(), source)).toEqual(new Set());
  expect(notes()).toEqual([]);
});

it('takes none for crashed that runs, is interrupted, or exits', async () => {
  await notingTest(device(), source, 'f16', async () => {
    expect(notes()).toHaveLength(1);
    expect(await crashedTests(device(), source)).toEqual(new Set());
  });
  expect(await test(waits, 'SIGINT')).toBe('SIGINT');
  expect(await test(waits, 'SIGTERM')).toBe('SIGTERM');
  expect(await test('process.exit(3)')).toBe(3);
  expect(notes()).toEqual([]);
  expect(await test(waits, 'SIGKILL')).toBe('SIGKILL');
  expect(notes()).toHaveLength(1);
});

it('notes nothing on a CPU driver, and does without a cache that cannot be written', async () => {
  expect(await test('process.abort()', undefined, true)).toBe('SIGABRT');
  expect(await crashedTests(device(), source)).toEqual(new Set());
  vi.stubEnv('XDG_CACHE_HOME', '/dev/null');
  expect(await notingTest(device(), source, 'f16', async () => 5)).toBe(5);
});

import { afterAll, afterEach, beforeEach, expect, it, onTestFinished, vi } from 'vitest';
import { openDevice } from '../../src/cli/session.js';
import { lexalign, makeWorkplace } from './sft-helpers.js';

// A GPU without matrix units whose subgroups add up wrongly.
vi.mock('../../src/cli/gpu.js', async (original) => {
  const gpu = await original<typeof import('../../src/cli/gpu.js')>();
  const withoutMatrices = (adapter: GPUAdapter) =>
    new Proxy(adapter, {
      get(target, name) {
        if (name === 'features') return new Set([...target.features].filter((feature) => !feature.includes('matrix')));
        const value = Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  const openAdapter: typeof gpu.openAdapter = async (options) => {
    const opened = await gpu.openAdapter(options);
    return { ...opened, kind: 'gpu', adapter: withoutMatrices(opened.adapter), release: () => opened.release() };
  };
  return { ...gpu, openAdapter };
});
const broken = vi.hoisted(() => ({ text: '', by: '' }));
vi.mock('../../src/cli/kernel-source.js', async (original) => {
  const kernels = await original<typeof import('../../src/cli/kernel-source.js')>();
  const kernelSource = () => {
    const read = kernels.kernelSource();
    return (path: string) => read(path).replaceAll(broken.text, broken.by);
  };
  return { ...kernels, kernelSource };
});

const crashed = vi.hoisted(() => new Set<string>());
vi.mock('../../src/cli/crashed-tests.js', async (original) => ({
  ...(await original<typeof import('../../src/cli/crashed-tests.js')>()),
  crashedTests: async () => crashed,
}));

const { remove } = makeWorkplace();
afterAll(remove);
beforeEach(() => Object.assign(broken, { text: 'subgroupAdd(', by: '1.01 * subgroupAdd(' }));
afterEach(() => vi.restoreAllMocks());

const fails = 'matmul of few rows is off by 1.0e-2';

async function open(tier: string) {
  const said: string[] = [];
  vi.spyOn(console, 'error').mockImplementation((line: string) => {
    // What a slow start says of the compiler is not meant here.
    if (!/^compil/i.test(line)) said.push(line);
  });
  const opened = await openDevice({ tier }).catch((error: Error) => error);
  if (opened instanceof Error) return { said, error: opened.message };
  const { device, describe } = opened;
  await opened.close();
  return { said, tier: opened.tier, features: device.features, describe };
}

it('runs without subgroups where every tier fails with them, and says so once, with what fails', async () => {
  const auto = await open('auto');
  expect(auto).toMatchObject({ tier: 'f16', features: { f16: true, subgroups: false, cpu: false } });
  expect(auto.describe).toMatch(/, tier f16 without subgroups$/);
  const because =
    'runs without subgroups, and so without matrix units, because with them this device fails its self-test';
  expect(auto.said).toEqual([`Warning: tier f16 ${because}: f16: ${fails}; f32: ${fails}.`]);
  // A run that is resumed asks for the tier that it began with.
  const asked = await open('f32');
  expect(asked).toMatchObject({ tier: 'f32', features: { subgroups: false } });
  expect(asked.said).toEqual([`Warning: tier f32 ${because}: f32: ${fails}.`]);
});

it('doctor shows both, and what runs', async () => {
  const { code, stdout } = await lexalign('doctor', '--json', '-');
  const { tiers, problems } = JSON.parse(stdout);
  expect(code).toBe(0);
  expect(tiers).toMatchObject([
    { name: 'f16', ok: false, detail: fails },
    { name: 'f32', ok: false, detail: fails },
    { name: 'f16 without subgroups', tier: 'f16', subgroups: false, ok: true },
    { name: 'f32 without subgroups', tier: 'f32', subgroups: false, ok: true },
  ]);
  expect(problems).toEqual([
    `The tier f16 fails its self-test: ${fails}.`,
    `The tier f32 fails its self-test: ${fails}.`,
    'The tier f16 runs without subgroups, and so without matrix units; a newer driver may have them right.',
  ]);
});

it('keeps subgroups that are right, and does not test without them', async () => {
  broken.by = broken.text;
  const { said, features, describe } = await open('f16');
  expect({ said, features }).toMatchObject({ said: [], features: { subgroups: true } });
  expect(describe).toMatch(/, tier f16$/);
  const { tiers } = JSON.parse((await lexalign('doctor', '--json', '-')).stdout);
  expect(tiers.map(({ name }: { name: string }) => name)).toEqual(['f16', 'f32']);
});

it('leaves out a tier whose test a process did not survive, unless it is asked for', async () => {
  broken.by = broken.text;
  crashed.add('f16');
  onTestFinished(() => crashed.clear());
  const { said, tier } = await open('auto');
  expect(tier).toBe('f32');
  expect(said[0]).toBe(
    'Warning: tier f16 is left out, because it fails its self-test: a process before this one ended in it, as where a driver crashes; `lexalign doctor` tries it again.',
  );
  expect(await open('f16')).toMatchObject({ tier: 'f16', said: [] });
  const { stdout } = await lexalign('doctor');
  expect(stdout).toMatch(/tier f32\s+ok[\s\S]*tier f16, in which a process ended before:\s+ok/);
});

it('refuses a device where the forms without subgroups fail too, naming all', async () => {
  Object.assign(broken, { text: 'var value = sum * p.alpha;', by: 'var value = sum * 1.01;' });
  const { said, error } = await open('f32');
  expect(said).toHaveLength(2);
  expect(error).toMatch(
    /^--tier f32 fails its self-test on this device: f32: matmul .*; f32 without subgroups: matmul/,
  );
});

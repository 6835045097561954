import { adapterKind } from '../gpu/adapter.js';
import { Device, type MatrixInfo } from '../gpu/device.js';
import { KernelCache } from '../gpu/kernels.js';
import { type Candidate, candidates, checkCandidate, nameCandidate, type TierCheck } from '../model/self-test.js';
import { crashedTests, notingTest } from './crashed-tests.js';
import {
  deviceWish,
  explainNoAdapter,
  listAdapterNames,
  type OpenAdapter,
  openAdapter,
  runOnSoftwareDriver,
} from './gpu.js';
import { installDriver } from './install-software-driver.js';
import { kernelSource } from './kernel-source.js';
import type { Command } from './main.js';
import { formatBytes } from './memory.js';
import { modelOptions } from './options.js';
import { checkJson, jsonOption, writeJson } from './output-file.js';
import { versions } from './run-record.js';
import { hasVulkanLoader, installedDriver, runsUnderLoader } from './software-driver.js';
import { visibleGpus } from './system-gpus.js';

const features = ['shader-f16', 'subgroups', 'subgroup-size-control', 'timestamp-query'];
const matrixFeature = 'chromium-experimental-subgroup-matrix';
const limits = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupsPerDimension',
] as const;

function describeConfigs(info: GPUAdapterInfo): string[] {
  const configs = (info as MatrixInfo).subgroupMatrixConfigs ?? [];
  return [...configs].map((c) => `${c.M}x${c.N}x${c.K} ${c.componentType} -> ${c.resultComponentType}`);
}

function describeAdapter(adapter: GPUAdapter) {
  const { info } = adapter;
  return {
    kind: adapterKind(info),
    vendor: info.vendor,
    architecture: info.architecture,
    device: info.device,
    driver: info.description,
    subgroupSize: [info.subgroupMinSize, info.subgroupMaxSize],
    features: [...features, matrixFeature].filter((name) => adapter.features.has(name)),
    subgroupMatrices: describeConfigs(info),
    limits: Object.fromEntries(limits.map((name) => [name, adapter.limits[name]])),
  };
}

/** A tier's self-test, and how long it took, compilation included. */
type CheckedTier = TierCheck & { readonly milliseconds: number };

/** What is known before anything is computed. */
async function examine(opened: OpenAdapter | null, wish: string) {
  const problems: string[] = [];
  const gpus = visibleGpus();
  const adapter = opened && describeAdapter(opened.adapter);
  if (adapter && !adapter.features.includes('shader-f16'))
    problems.push('The adapter has no 16-bit floats (shader-f16): only the f32 tier runs; update its driver.');
  if (opened?.kind === 'cpu' && gpus.length && wish !== 'cpu') problems.push(explainNoAdapter('auto', gpus));
  return {
    node: process.version,
    webgpu: versions().webgpu,
    system: `${process.platform} ${process.arch}`,
    vulkanLoader: hasVulkanLoader() || runsUnderLoader(),
    softwareDriver: installedDriver(),
    runsOnSoftwareDriver: runsUnderLoader(),
    visibleGpus: gpus,
    adapters: await listAdapterNames(),
    device: opened?.describe ?? null,
    adapter,
    problems,
  };
}

/**
 * Self-tests of every tier that the adapter offers, without subgroups only where all fail with them; `begin` and `end`
 * hear of each. Those that ended a process before come last.
 */
async function checkTiers(
  opened: OpenAdapter,
  begin: (name: string) => void,
  end: (check: CheckedTier) => void,
): Promise<CheckedTier[]> {
  const device = await Device.open(opened.adapter, { cpu: opened.kind === 'cpu' });
  const source = kernelSource();
  const kernels = new KernelCache(device, source);
  const crashed = await crashedTests(device, source);
  const last = (candidate: Candidate) => Number(crashed.has(nameCandidate(candidate)));
  const checks: CheckedTier[] = [];
  for (const candidate of candidates(device).sort((a, b) => last(a) - last(b))) {
    if (candidate.subgroups === false && checks.some(({ ok, subgroups }) => ok && subgroups !== false)) continue;
    const name = nameCandidate(candidate);
    begin(last(candidate) ? `${name}, in which a process ended before:` : name);
    const started = performance.now();
    const check = await notingTest(device, source, name, () => checkCandidate(device, kernels, candidate));
    checks.push({ ...check, milliseconds: Math.round(performance.now() - started) });
    end(checks[checks.length - 1]);
  }
  await device.close();
  return checks;
}

const column = (name: string) => `${name.padEnd(16)} `;

function formatExamined(report: Awaited<ReturnType<typeof examine>>): string[] {
  const lines: [string, string][] = [
    ['node', `${report.node}, webgpu ${report.webgpu}, ${report.system}`],
    ['GPUs seen', report.visibleGpus.join(', ') || (process.platform === 'linux' ? 'none' : 'asked of the adapter')],
    ['adapters', report.adapters.join(', ') || 'none'],
    [
      'software driver',
      report.softwareDriver
        ? `Mesa ${report.softwareDriver.version}, in ${report.softwareDriver.directory}`
        : 'not installed',
    ],
  ];
  const { adapter } = report;
  if (adapter) {
    const has = (name: string) => `${name} ${adapter.features.includes(name) ? 'yes' : 'no'}`;
    const [smallest, largest] = adapter.subgroupSize;
    lines.push(
      ['kind', adapter.kind === 'gpu' ? 'GPU' : 'CPU (software driver)'],
      ['vendor', [adapter.vendor, adapter.architecture].filter(Boolean).join(', ')],
      ['device', adapter.device],
      ['driver', adapter.driver],
      ['features', features.map(has).join(', ')],
      ['subgroups', smallest === largest ? `${smallest} lanes` : `${smallest} to ${largest} lanes`],
      ['matrices', adapter.subgroupMatrices.join('; ') || 'none'],
      ['largest buffer', formatBytes(adapter.limits.maxBufferSize)],
      ['largest binding', formatBytes(adapter.limits.maxStorageBufferBindingSize)],
      [
        'workgroup',
        `${formatBytes(adapter.limits.maxComputeWorkgroupStorageSize)} of memory, up to \
${adapter.limits.maxComputeInvocationsPerWorkgroup} invocations`,
      ],
      ['bindings', `${adapter.limits.maxStorageBuffersPerShaderStage} storage buffers a shader`],
    );
  }
  return lines.map(([name, value]) => column(name) + value);
}

/**
 * Prints what this machine offers: versions, adapters, features, limits, what is missing and the mend. A tier is named
 * before its test: a driver that crashes in it takes this process along.
 * @returns the exit code: 0 when a tier of the device computes rightly, else 1
 */
async function doctor(device: string | undefined, json: string | undefined): Promise<number> {
  await checkJson(json);
  const print = (text: string) => json !== '-' && process.stdout.write(text);
  const wish = deviceWish(device);
  let refusal: string | null = null;
  const opened = await openAdapter({ wish }).catch((error: Error) => {
    refusal = error.message;
    return null;
  });
  const report = await examine(opened, wish);
  for (const line of formatExamined(report)) print(`${line}\n`);
  let tiers: CheckedTier[] = [];
  if (opened) {
    tiers = await checkTiers(
      opened,
      (name) => print(column(`tier ${name}`)),
      ({ ok, detail, milliseconds }) => print(`${ok ? 'ok' : 'FAILS'}: ${detail} (${milliseconds} ms)\n`),
    );
    opened.release();
  }
  const failed = tiers.filter(({ ok }) => !ok);
  const without = tiers.find(({ ok, subgroups }) => ok && subgroups === false);
  const problems = [
    ...(refusal ? [refusal] : []),
    ...report.problems,
    ...failed.map(({ name, detail }) => `The tier ${name} fails its self-test: ${detail}.`),
    ...(without
      ? [
          `The tier ${without.tier} runs without subgroups, and so without matrix units; a newer driver may have them right.`,
        ]
      : []),
  ];
  print(`\n${[report.device ?? 'No device can be used.', ...problems].join('\n')}\n`);
  await writeJson(json, { ...report, tiers, problems });
  return tiers.some(({ ok }) => ok) ? 0 : 1;
}

export const doctorCommand: Command = {
  command: 'doctor',
  describe: 'Show adapters, drivers, features and limits, what is missing and how to mend it',
  options: {
    device: modelOptions.device,
    'install-driver': {
      type: 'boolean',
      default: false,
      describe: 'First set up a software driver for this user, where it is not there (Debian and Ubuntu, without root)',
    },
    ...jsonOption,
  },
  computes: true,
  run: async (args) => {
    const [device, json] = [args.device as string | undefined, args.json as string | undefined];
    if (args.installDriver && !installedDriver()) {
      await checkJson(json);
      await installDriver((line) => console.error(line));
      const again = ['doctor', ...(device ? ['--device', device] : []), ...(json ? [`--json=${json}`] : [])];
      const code = await runOnSoftwareDriver(again, device);
      if (code !== null) return code;
    }
    return doctor(device, json);
  },
};

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { adapterKind } from '../gpu/adapter.js';
import { Device } from '../gpu/device.js';
import { KernelCache } from '../gpu/kernels.js';
import { candidates, checkCandidate, type TierCheck } from '../model/self-test.js';
import { deviceWish, explainNoAdapter, listAdapterNames, type OpenAdapter, openAdapter } from './gpu.js';
import { kernelSource } from './kernel-source.js';
import type { Command } from './main.js';
import { formatBytes } from './memory.js';
import { modelOptions } from './options.js';
import { checkJson, jsonOption, writeJson } from './output-file.js';
import { hasVulkanLoader, installedDriver, runsUnderLoader } from './software-driver.js';
import { visibleGpus } from './system-gpus.js';

interface MatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

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

function webgpuVersion(): string {
  const file = createRequire(import.meta.url).resolve('webgpu/package.json');
  return JSON.parse(readFileSync(file, 'utf8')).version;
}

function describeConfigs(info: GPUAdapterInfo): string[] {
  const configs = (info as { subgroupMatrixConfigs?: Iterable<MatrixConfig> }).subgroupMatrixConfigs ?? [];
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

/** Self-tests of every tier that the adapter offers, and how long each took, compilation included. */
async function checkTiers(opened: OpenAdapter): Promise<(TierCheck & { milliseconds: number })[]> {
  const device = await Device.open(opened.adapter, { cpu: opened.kind === 'cpu' });
  const kernels = new KernelCache(device, kernelSource());
  const checks = [];
  for (const candidate of candidates(device)) {
    const started = performance.now();
    const check = await checkCandidate(device, kernels, candidate);
    checks.push({ ...check, milliseconds: Math.round(performance.now() - started) });
  }
  await device.close();
  return checks;
}

async function examine(device: string | undefined) {
  const problems: string[] = [];
  const gpus = visibleGpus();
  let adapter: ReturnType<typeof describeAdapter> | null = null;
  let tiers: Awaited<ReturnType<typeof checkTiers>> = [];
  const wish = deviceWish(device);
  const opened = await openAdapter({ wish }).catch((error: Error) => {
    problems.push(error.message);
    return null;
  });
  if (opened) {
    adapter = describeAdapter(opened.adapter);
    if (!adapter.features.includes('shader-f16'))
      problems.push('The adapter has no 16-bit floats (shader-f16): only the f32 tier runs; update its driver.');
    if (opened.kind === 'cpu' && gpus.length && wish !== 'cpu') problems.push(explainNoAdapter('auto', gpus));
    tiers = await checkTiers(opened);
    for (const { name, ok, detail } of tiers)
      if (!ok) problems.push(`The tier ${name} fails its self-test: ${detail}.`);
    opened.release();
  }
  return {
    node: process.version,
    webgpu: webgpuVersion(),
    system: `${process.platform} ${process.arch}`,
    vulkanLoader: hasVulkanLoader() || runsUnderLoader(),
    softwareDriver: installedDriver(),
    runsOnSoftwareDriver: runsUnderLoader(),
    visibleGpus: gpus,
    adapters: await listAdapterNames(),
    device: opened?.describe ?? null,
    adapter,
    tiers,
    problems,
  };
}

type Report = Awaited<ReturnType<typeof examine>>;

function formatReport(report: Report): string {
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
  for (const { name, ok, detail, milliseconds } of report.tiers)
    lines.push([`tier ${name}`, `${ok ? 'ok' : 'FAILS'}: ${detail} (${milliseconds} ms)`]);
  const table = lines.map(([name, value]) => `${name.padEnd(16)} ${value}`);
  const verdict = report.device ?? 'No device can be used.';
  return [...table, '', verdict, ...report.problems.filter((problem) => problem !== verdict)].join('\n');
}

/**
 * Prints what this machine offers: versions, adapters, features, limits, what is missing and the mend.
 * @returns the exit code: 0 when a tier of the device computes rightly, else 1
 */
async function doctor(device: string | undefined, json: string | undefined): Promise<number> {
  await checkJson(json);
  const report = await examine(device);
  if (json !== '-') console.log(formatReport(report));
  await writeJson(json, report);
  return report.tiers.some(({ ok }) => ok) ? 0 : 1;
}

export const doctorCommand: Command = {
  command: 'doctor',
  describe: 'Show adapters, drivers, features and limits, what is missing and the mend',
  options: {
    device: modelOptions.device,
    ...jsonOption,
  },
  computes: true,
  run: (args) => doctor(args.device as string | undefined, args.json as string | undefined),
};

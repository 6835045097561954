import { execFileSync } from 'node:child_process';
import { type Ceilings, measureCeilings } from '../../bench/ceilings.js';
import { randomCheckpoint } from '../../bench/random-checkpoint.js';
import { benchRollout } from '../../bench/rollout.js';
import { type BenchReport, type BenchRow, formatRows, withShare } from '../../bench/rows.js';
import { benchSft } from '../../bench/sft.js';
import { KNOWN_MODELS } from '../../models/known.js';
import { LINEAR_MODULES } from '../../models/tensors.js';
import type { Device } from '../gpu/device.js';
import { LanguageModel } from '../model/language-model.js';
import { QUANTIZED_FORMATS } from '../model/quantized-layouts.js';
import { packageRoot } from '../paths.js';
import { benchKernels, tuneKernels } from './bench-kernels.js';
import { benchPpoSteps } from './bench-ppo.js';
import { type BenchRequest, kernelKinds, parseRequest, planModels, smallModel } from './bench-request.js';
import type { Command } from './main.js';
import { modelOptions } from './options.js';
import { checkJson, jsonOption, writeJson } from './output-file.js';
import type { PlannedModel } from './plan-model.js';
import { type OpenDevice, openDevice, quantised } from './session.js';

export const benchCommand: Command = {
  command: 'bench <what>',
  describe: 'Measure kernels, whole training steps or rollouts on this device',
  options: {
    device: modelOptions.device,
    tier: { ...modelOptions.tier, describe: `${modelOptions.tier.describe}; of kernels every tier that there is` },
    model: {
      type: 'string',
      describe: `Of this model's sizes, with random weights: a directory (its config.json is enough), a model of the hub (ORG/NAME), small, ${KNOWN_MODELS.join(', ')}; for kernels several, comma-separated; by default small on a CPU, else llama-3.1-8b, for kernels qwen2.5-7b too`,
    },
    rows: {
      type: 'string',
      describe: 'kernels: row counts, comma-separated; by default 512 on a CPU, else 16,512,4096',
    },
    shapes: { type: 'string', describe: 'kernels: matmuls of these MxNxK instead, comma-separated' },
    only: { type: 'string', describe: `kernels: these operations only, comma-separated: ${kernelKinds.join(', ')}` },
    peer: { type: 'string', choices: ['tfjs', 'torch'], describe: 'kernels: measure a peer in the same run' },
    quantize: {
      type: 'string',
      choices: QUANTIZED_FORMATS,
      default: 'none',
      describe:
        'Base weights packed like this; those of a model that is quantised already are packed in its own format',
    },
    tune: {
      type: 'boolean',
      default: false,
      describe:
        'kernels: look for faster settings of matmul and attention on matrix units and keep them for all later runs',
    },
    profile: { type: 'boolean', default: false, describe: 'sft: also time one step by operation' },
    recompute: {
      type: 'boolean',
      default: false,
      describe: 'sft: also time steps with gradient checkpointing in every layer, in turn',
    },
    steps: { type: 'number', default: 5, describe: 'sft, and rollout with --ppo: steps measured' },
    sequences: { type: 'number', default: 4, describe: 'sft: rows a step' },
    length: { type: 'number', default: 128, describe: 'sft: tokens a row; rollout: tokens of a prompt' },
    lengths: {
      type: 'string',
      describe: 'rollout: prompts of these lengths in turn, comma-separated, not of --length',
    },
    batches: {
      type: 'string',
      describe: 'rollout: sequences at once, comma-separated; by default 1,8 on a CPU, else 1,16,64,128',
    },
    ppo: {
      type: 'boolean',
      default: false,
      describe: 'rollout: also time PPO steps of that many answers, by part: rollout, scoring, update',
    },
    'shared-prompt-length': {
      type: 'number',
      default: 0,
      describe: 'rollout with --ppo: so many tokens at the beginning of its prompts are the same in all',
    },
    'new-tokens': { type: 'number', default: 32, describe: 'rollout: tokens drawn, at least 3' },
    ...jsonOption,
  },
  computes: true,
  positional: (args) =>
    args.positional('what', { choices: ['kernels', 'sft', 'rollout'] as const, describe: 'What to measure' }),
  run: async (args, given) => {
    const request = await parseRequest(args, given);
    await checkJson(args.json as string | undefined);
    const open = await openDevice({ device: args.device as string, tier: args.tier as string });
    try {
      console.log(open.describe);
      const ceilings = await measureCeilings(open.device);
      const result =
        args.what === 'sft'
          ? await sft(open, request, args)
          : args.what === 'rollout'
            ? await rollout(open, request, args, ceilings)
            : args.tune
              ? await tuneKernels(open, request)
              : await benchKernels(open, request, args, ceilings);
      const report: BenchReport = {
        device: open.describe,
        adapter: describeAdapter(open.device),
        ceilings,
        commit: commit(),
        date: new Date().toISOString(),
        ...result,
      };
      for (const line of describeCeilings(ceilings)) console.log(line);
      if (report.rows.length) for (const line of formatRows(report.rows)) console.log(line);
      for (const line of report.profile ?? []) console.log(line);
      for (const [key, value] of Object.entries(report.summary ?? {})) {
        console.log(`${key.padEnd(20)} ${typeof value === 'number' ? Number(value.toPrecision(5)) : value}`);
      }
      await writeJson(args.json as string | undefined, report);
      return 0;
    } finally {
      await open.close();
    }
  },
};

/** The model that is measured, where it is one. */
async function modelOf({ models, quantize }: BenchRequest, { device }: OpenDevice): Promise<PlannedModel> {
  return (models ?? (await planModels([device.features.cpu ? 'small' : 'llama-3.1-8b'], quantize)))[0];
}

async function sft(open: OpenDevice, request: BenchRequest, args: Readonly<Record<string, unknown>>) {
  const { config, format } = await modelOf(request, open);
  return benchSft(open, {
    config,
    sequences: args.sequences as number,
    length: args.length as number,
    rank: 16,
    targetModules: config === smallModel ? LINEAR_MODULES.slice(0, 4) : LINEAR_MODULES,
    tier: open.tier,
    steps: args.steps as number,
    profile: args.profile as boolean,
    recompute: args.recompute as boolean,
    load: (checkpoint) => quantised(checkpoint, format),
  });
}

async function rollout(
  open: OpenDevice,
  request: BenchRequest,
  args: Readonly<Record<string, unknown>>,
  ceilings: Ceilings,
): Promise<{ rows: BenchRow[]; summary?: Record<string, string> }> {
  const { batches, lengths } = request;
  const { config, format: quantize } = await modelOf(request, open);
  const { cpu } = open.device.features;
  const asked = batches ?? (cpu ? [1, 8] : [1, 16, 64, 128]);
  const prompts = lengths ?? [args.length as number];
  const newTokens = args.newTokens as number;
  const { device, kernels, tier, tuning } = open;
  const checkpoint = quantised(randomCheckpoint(config), quantize);
  const maxPositions = Math.max(...prompts) + newTokens;
  const model = await LanguageModel.load(device, kernels, checkpoint, { tier, maxPositions, tuning });
  const rows: BenchRow[] = [];
  const summary: Record<string, string> = {};
  for (const length of prompts) {
    const common = { quantize, model, length, newTokens };
    rows.push(...(await benchRollout(open, { ...common, tier, batches: asked })).rows);
    for (const batch of args.ppo ? asked : []) {
      const steps = await benchPpoSteps(open, {
        ...common,
        batch,
        shared: args.sharedPromptLength as number,
        steps: args.steps as number,
      });
      rows.push(...steps.rows);
      Object.assign(summary, steps.shares);
    }
  }
  return { rows: rows.map((row) => withShare(row, ceilings)), ...(args.ppo ? { summary } : {}) };
}

function describeAdapter({ info, gpu, matrixUnits }: Device): BenchReport['adapter'] {
  const { vendor, architecture, device, description, subgroupMinSize, subgroupMaxSize } = info;
  const { maxBufferSize, maxComputeWorkgroupStorageSize, maxComputeInvocationsPerWorkgroup } = gpu.limits;
  return {
    vendor,
    architecture,
    device,
    driver: description,
    subgroups: [subgroupMinSize, subgroupMaxSize],
    matrices: matrixUnits.map(({ m, n, k, operand }) => `${m}x${n}x${k} of ${operand}`),
    limits: { maxBufferSize, maxComputeWorkgroupStorageSize, maxComputeInvocationsPerWorkgroup },
  };
}

function describeCeilings({ copy_gbps, f32_gflops, f16_gflops, matrix_gflops }: Ceilings): string[] {
  const rates = [`f32 ${f32_gflops.toFixed(0)}`, ...(f16_gflops === null ? [] : [`f16 ${f16_gflops.toFixed(0)}`])];
  for (const [name, rate] of Object.entries(matrix_gflops)) rates.push(`matrices of ${name} ${rate.toFixed(1)}`);
  return [`ceilings: copy ${copy_gbps.toFixed(1)} GB/s; GFLOP/s of ${rates.join(', ')}`];
}

/** The checkout's commit, with + where files differ from it; null outside a checkout. */
function commit(): string | null {
  const git = (...args: string[]) =>
    execFileSync('git', ['-C', packageRoot, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    return git('rev-parse', '--short', 'HEAD') + (git('status', '--porcelain', '-uno') ? '+' : '');
  } catch {
    return null;
  }
}

import { execFileSync } from 'node:child_process';
import { type Ceilings, measureCeilings } from '../../bench/ceilings.js';
import { benchMatmul, largestTensor, type MatmulShape } from '../../bench/kernels/matmul.js';
import { benchOperation, operations } from '../../bench/kernels/operations.js';
import { tfjsMatmul } from '../../bench/peer-tfjs.js';
import { torchTimes } from '../../bench/peer-torch.js';
import { type LlamaShape, llamaConfig, modelShapes, randomCheckpoint } from '../../bench/random-checkpoint.js';
import { benchRollout } from '../../bench/rollout.js';
import { type BenchReport, type BenchRow, formatRows, withPeer, withShare } from '../../bench/rows.js';
import { benchSft, matmulShapes } from '../../bench/sft.js';
import { UsageError } from '../errors.js';
import type { Device } from '../gpu/device.js';
import { LanguageModel, operandOf, type Tier } from '../model/language-model.js';
import type { QuantizedFormat } from '../model/quantized-layouts.js';
import type { PackedLayout } from '../ops/dequantize.js';
import { benchPpoSteps } from './bench-ppo.js';
import { tune } from './bench-tune.js';
import { checkWhole } from './check-numbers.js';
import { openAdapter } from './gpu.js';
import { packageRoot } from './kernel-source.js';
import type { Command } from './main.js';
import { formatBytes } from './memory.js';
import { modelOptions } from './options.js';
import { checkJson, jsonOption, writeJson } from './output-file.js';
import { type OpenDevice, openDevice, quantised } from './session.js';

/** All of a transformer's linear layers, as adapters of 7-8B models usually have them. */
const targets = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];
const kinds = ['matmul', ...Object.keys(operations)];

/** How each choice of --quantize packs weights. */
const formats = { none: null, nf4: 'nf4', int4: 'affine4', int8: 'affine8' } as const;

export const benchCommand: Command = {
  command: 'bench <what>',
  describe: 'Measure kernels, whole training steps or rollouts on this device',
  options: {
    device: modelOptions.device,
    tier: modelOptions.tier,
    model: {
      type: 'string',
      describe: `Layer shapes of these models, comma-separated: ${Object.keys(modelShapes).join(', ')}; by default small on a CPU, else for kernels both big ones, else llama-3.1-8b`,
    },
    rows: {
      type: 'string',
      describe: 'kernels: row counts, comma-separated; by default 512 on a CPU, else 16,512,4096',
    },
    shapes: { type: 'string', describe: 'kernels: matmuls of these MxNxK instead, comma-separated' },
    only: { type: 'string', describe: `kernels: these operations only, comma-separated: ${kinds.join(', ')}` },
    peer: { type: 'string', choices: ['tfjs', 'torch'], describe: 'kernels: measure a peer in the same run' },
    quantize: {
      type: 'string',
      choices: Object.keys(formats),
      default: 'none',
      describe: 'Base weights packed like this: of the matmuls (kernels), of the whole model (sft, rollout)',
    },
    tune: {
      type: 'boolean',
      default: false,
      describe: 'kernels: look for faster settings of the matmuls on matrix units and keep them for all later runs',
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
  run: async (args) => {
    const request = parseRequest(args);
    if (args.what === 'sft') checkSftArguments(args, request.models);
    if (args.what === 'rollout') checkRolloutArguments(args, request);
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
              ? await tuned(open, request)
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

interface Request {
  /** Null where the command line names none: what fits the device. */
  readonly models: readonly LlamaShape[] | null;
  readonly rows: readonly number[] | null;
  readonly batches: readonly number[] | null;
  readonly lengths: readonly number[] | null;
  readonly shapes: readonly MatmulShape[] | null;
  readonly only: ReadonlySet<string>;
  readonly packed: PackedLayout['format'] | null;
}

function parseRequest(args: Readonly<Record<string, unknown>>): Request {
  const list = (name: string) =>
    typeof args[name] === 'string' ? (args[name] as string).split(',').map((part) => part.trim()) : null;
  const among = (name: string, known: readonly string[]) => {
    const bad = list(name)?.find((part) => !known.includes(part));
    if (bad !== undefined) throw new UsageError(`--${name} ${bad}: known are ${known.join(', ')}.`);
    return list(name);
  };
  if (args.tune && args.what !== 'kernels') throw new UsageError('--tune belongs to bench kernels.');
  if (args.ppo && args.what !== 'rollout') throw new UsageError('--ppo belongs to bench rollout.');
  if (args.sharedPromptLength && !args.ppo) throw new UsageError('--shared-prompt-length belongs to rollout --ppo.');
  if (args.peer !== undefined && args.what !== 'kernels') throw new UsageError('--peer belongs to bench kernels.');
  const counts = (name: string) =>
    list(name)?.map((text) => {
      if (!/^[1-9]\d{0,6}$/.test(text))
        throw new UsageError(`--${name} ${text}: write whole numbers, for example 16,512.`);
      return Number(text);
    }) ?? null;
  return {
    models: among('model', Object.keys(modelShapes))?.map((name) => modelShapes[name]) ?? null,
    rows: counts('rows'),
    batches: counts('batches'),
    lengths: counts('lengths'),
    shapes: list('shapes')?.map(parseShape) ?? null,
    packed: formats[args.quantize as keyof typeof formats],
    only: new Set(among('only', kinds) ?? (args.shapes === undefined ? kinds : ['matmul'])),
  };
}

function parseShape(part: string): MatmulShape {
  const match = /^(\d+)x(\d+)x(\d+)$/.exec(part);
  if (!match) throw new UsageError(`--shapes ${part}: write MxNxK, for example 512x512x512.`);
  const [m, n, k] = match.slice(1).map(Number);
  if (n % 4 || k % 4) throw new UsageError(`--shapes ${part}: N and K must be multiples of 4.`);
  return { m, n, k };
}

function checkSftArguments(args: Readonly<Record<string, unknown>>, models: Request['models']): void {
  for (const name of ['steps', 'sequences', 'length']) checkWhole(name, args[name] as number, 1);
  if (models && models.length > 1) throw new UsageError('--model: bench sft measures one model at a time.');
  // Each row starts with a token of its own.
  const { vocab } = models?.[0] ?? modelShapes.small;
  if ((args.sequences as number) > vocab)
    throw new UsageError(`--sequences must be at most ${vocab}, the vocabulary of the bench's model.`);
}

function checkRolloutArguments(args: Readonly<Record<string, unknown>>, { models, batches, lengths }: Request): void {
  if (models && models.length > 1) throw new UsageError('--model: bench rollout measures one model at a time.');
  const { vocab } = models?.[0] ?? modelShapes.small;
  if (Math.max(...(batches ?? [1])) > vocab)
    throw new UsageError(`--batches must be at most ${vocab}, the vocabulary of the bench's model.`);
  for (const name of ['steps', 'length']) checkWhole(name, args[name] as number, 1);
  checkWhole('new-tokens', args.newTokens as number, 3);
  const shared = args.sharedPromptLength as number;
  checkWhole('shared-prompt-length', shared, 0);
  const shortest = Math.min(...(lengths ?? [args.length as number]));
  if (shared >= shortest)
    throw new UsageError(`--shared-prompt-length ${shared} must be less than the prompts' ${shortest} tokens.`);
}

/** The layers and rows to measure, and the products among them without repetition. */
function sweep({ models, rows, shapes }: Request, cpu: boolean) {
  const layers = models ?? (cpu ? [modelShapes.small] : [modelShapes['llama-3.1-8b'], modelShapes['qwen2.5-7b']]);
  const counts = rows ?? (cpu ? [512] : [16, 512, 4096]);
  const products = new Map<string, MatmulShape>();
  for (const m of counts) {
    for (const layer of layers)
      for (const { n, k } of matmulShapes(layer, m)) products.set(`${m}x${n}x${k}`, { m, n, k });
  }
  return { layers, counts, products: shapes ?? [...products.values()] };
}

async function benchKernels(
  open: OpenDevice,
  request: Request,
  args: Readonly<Record<string, unknown>>,
  ceilings: Ceilings,
): Promise<{ rows: BenchRow[] }> {
  const { only, packed } = request;
  const { layers, counts, products } = sweep(request, open.device.features.cpu);
  const tiers = tiersOf(args.tier as string, open.device);
  const opened = args.peer === 'tfjs' ? await openAdapter({ wish: args.device as string }) : null;
  const tfjs = opened ? { name: 'tfjs f32', matmul: await tfjsMatmul(open.device, opened.gpu) } : null;
  const rows: BenchRow[] = [];
  const attentions: number[][] = [];
  if (only.has('matmul')) {
    for (const shape of products) {
      for (const tier of tiers) {
        const bytes = largestTensor(shape, operandOf(tier));
        if (bytes > open.device.maxBinding) {
          const name = `matmul ${shape.m}x${shape.n}x${shape.k} in tier ${tier}`;
          console.log(`${name}: left out, ${formatBytes(bytes)} are more than this device binds at once`);
          continue;
        }
        for (const form of ['nt', 'nn'] as const)
          rows.push(await benchMatmul(open, tier, form, shape, form === 'nn' ? tfjs : null, packed));
      }
    }
  }
  for (const operation of Object.keys(operations)) {
    if (!only.has(operation)) continue;
    for (const layer of layers) {
      for (const count of counts) {
        if (operation === 'attention') attentions.push([count, layer.heads, layer.kvHeads, layer.hidden / layer.heads]);
        for (const tier of tiers) rows.push(...(await benchOperation(open, operation, tier, layer, count)));
      }
    }
  }
  opened?.release();
  const shared = rows.map((row) => withShare(row, ceilings));
  if (args.peer !== 'torch') return { rows: shared };
  await open.device.finish();
  const matmul = only.has('matmul') ? products.map(({ m, n, k }) => [m, n, k]) : [];
  const torch = await torchTimes(packageRoot, { matmul, attention: attentions });
  const times = new Map<string, number>();
  matmul.forEach((dims, i) => {
    times.set(`matmul ${dims.join('x')}`, torch.matmul[i]);
  });
  attentions.forEach(([count, heads, kvHeads, dim], i) => {
    const name = `attention ${count} rows, ${heads}/${kvHeads} heads of ${dim}`;
    times.set(`${name} forward`, torch.attention[i][0]).set(`${name} forward and backward`, torch.attention[i][1]);
  });
  return { rows: shared.map((row) => withPeer(row, torch.name, times)) };
}

async function tuned(open: OpenDevice, request: Request): Promise<{ rows: BenchRow[] }> {
  await tune(open, sweep(request, open.device.features.cpu).products, request.packed);
  return { rows: [] };
}

async function sft(open: OpenDevice, { models }: Request, args: Readonly<Record<string, unknown>>) {
  const { cpu } = open.device.features;
  const shape = models?.[0] ?? modelShapes[cpu ? 'small' : 'llama-3.1-8b'];
  return benchSft(open, {
    shape,
    sequences: args.sequences as number,
    length: args.length as number,
    rank: 16,
    targetModules: shape === modelShapes.small ? targets.slice(0, 4) : targets,
    tier: open.tier,
    steps: args.steps as number,
    profile: args.profile as boolean,
    recompute: args.recompute as boolean,
    load: (checkpoint) => quantised(checkpoint, args.quantize as QuantizedFormat),
  });
}

async function rollout(
  open: OpenDevice,
  { models, batches, lengths }: Request,
  args: Readonly<Record<string, unknown>>,
  ceilings: Ceilings,
): Promise<{ rows: BenchRow[]; summary?: Record<string, string> }> {
  const { cpu } = open.device.features;
  const shape = models?.[0] ?? modelShapes[cpu ? 'small' : 'llama-3.1-8b'];
  const quantize = args.quantize as QuantizedFormat;
  const asked = batches ?? (cpu ? [1, 8] : [1, 16, 64, 128]);
  const prompts = lengths ?? [args.length as number];
  const newTokens = args.newTokens as number;
  const { device, kernels, tier, tuning } = open;
  const checkpoint = quantised(randomCheckpoint(llamaConfig(shape)), quantize);
  const maxPositions = Math.max(...prompts) + newTokens;
  const model = await LanguageModel.load(device, kernels, checkpoint, { tier, maxPositions, tuning });
  const rows: BenchRow[] = [];
  const summary: Record<string, string> = {};
  for (const length of prompts) {
    const common = { shape, quantize, model, length, newTokens };
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

/** Without --tier, all that the device has. */
function tiersOf(tier: string, device: Device): Tier[] {
  if (tier === 'tensor' || tier === 'f16' || tier === 'f32') return [tier];
  return [
    'f32',
    ...(device.features.f16 ? ['f16' as const] : []),
    ...(device.matrixUnits.length > 0 ? ['tensor' as const] : []),
  ];
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

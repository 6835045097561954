import { execFileSync } from 'node:child_process';
import { type BenchDevice, type BenchTier, benchMatmul, type MatmulShape } from '../../bench/kernels/matmul.js';
import { tfjsMatmul } from '../../bench/peer-tfjs.js';
import { type BenchReport, formatRows } from '../../bench/rows.js';
import { benchSft, smallShape } from '../../bench/sft.js';
import { UsageError } from '../errors.js';
import type { Device } from '../gpu/device.js';
import { openAdapter } from './gpu.js';
import { packageRoot } from './kernel-source.js';
import type { Command } from './main.js';
import { modelOptions } from './options.js';
import { checkJson, jsonOption, writeJson } from './output-file.js';
import { openDevice } from './session.js';

/** Shapes measured without --shapes: a square one, and the layers of the small bench model at 512 rows. */
const defaultShapes: readonly MatmulShape[] = [
  { m: 512, n: 512, k: 512 },
  { m: 512, n: 1408, k: 512 },
  { m: 512, n: 512, k: 1408 },
  { m: 512, n: 4096, k: 512 },
];

export const benchCommand: Command = {
  command: 'bench <what>',
  describe: 'Measure kernels, or whole training steps, on this device',
  options: {
    device: modelOptions.device,
    tier: modelOptions.tier,
    shapes: { type: 'string', describe: 'kernels: MxNxK, comma-separated' },
    only: { type: 'string', describe: 'kernels: this operation only (matmul)' },
    peer: { type: 'string', choices: ['tfjs'], describe: 'kernels: measure a peer in the same run' },
    profile: { type: 'boolean', default: false, describe: 'sft: also time one step by operation' },
    steps: { type: 'number', default: 5, describe: 'sft: steps measured' },
    sequences: { type: 'number', default: 4, describe: 'sft: rows a step' },
    length: { type: 'number', default: 128, describe: 'sft: tokens a row' },
    ...jsonOption,
  },
  computes: true,
  positional: (args) => args.positional('what', { choices: ['kernels', 'sft'] as const, describe: 'What to measure' }),
  run: async (args) => {
    const shapes = typeof args.shapes === 'string' ? parseShapes(args.shapes) : defaultShapes;
    if (args.only !== undefined && args.only !== 'matmul')
      throw new UsageError(`--only ${args.only}: only matmul has a bench so far.`);
    if (args.what === 'sft') checkSftArguments(args);
    await checkJson(args.json as string | undefined);
    const open = await openDevice({ device: args.device as string, tier: args.tier as string });
    try {
      console.log(open.describe);
      const report: BenchReport = {
        device: open.describe,
        commit: commit(),
        date: new Date().toISOString(),
        ...(args.what === 'kernels'
          ? {
              rows: await benchKernels(
                open,
                shapes,
                tiersOf(args.tier as string, open.device),
                args.peer === undefined ? null : (args.device as string),
              ),
            }
          : await benchSft(open, {
              shape: smallShape,
              sequences: args.sequences as number,
              length: args.length as number,
              rank: 16,
              targetModules: ['q_proj', 'k_proj', 'v_proj', 'o_proj'],
              tier: open.tier,
              steps: args.steps as number,
              profile: args.profile as boolean,
            })),
      };
      for (const line of formatRows(report.rows)) console.log(line);
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

function checkSftArguments(args: Readonly<Record<string, unknown>>): void {
  for (const name of ['steps', 'sequences', 'length']) {
    if (!Number.isSafeInteger(args[name]) || (args[name] as number) < 1)
      throw new UsageError(`--${name} must be a whole number of at least 1.`);
  }
  // Each row starts with a token of its own.
  if ((args.sequences as number) > smallShape.vocab)
    throw new UsageError(`--sequences must be at most ${smallShape.vocab}, the vocabulary of the bench's model.`);
}

/** With `peerDevice`, the peer on that device too; null for no peer. */
async function benchKernels(
  bench: BenchDevice,
  shapes: readonly MatmulShape[],
  tiers: readonly BenchTier[],
  peerDevice: string | null,
) {
  const opened = peerDevice === null ? null : await openAdapter({ wish: peerDevice });
  const peer = opened ? { name: 'tfjs f32', matmul: await tfjsMatmul(bench.device, opened.gpu) } : null;
  const rows = [];
  for (const shape of shapes) {
    for (const tier of tiers) {
      for (const form of ['nt', 'nn'] as const)
        rows.push(await benchMatmul(bench, tier, form, shape, form === 'nn' ? peer : null));
    }
  }
  opened?.release();
  return rows;
}

/** Without --tier, all that the device has. */
function tiersOf(tier: string, device: Device): BenchTier[] {
  if (tier === 'tensor' || tier === 'f16' || tier === 'f32') return [tier];
  return [
    'f32',
    ...(device.features.f16 ? ['f16' as const] : []),
    ...(device.matrixUnits.length > 0 ? ['tensor' as const] : []),
  ];
}

function parseShapes(text: string): MatmulShape[] {
  return text.split(',').map((part) => {
    const match = /^(\d+)x(\d+)x(\d+)$/.exec(part.trim());
    if (!match) throw new UsageError(`--shapes ${part}: write MxNxK, for example 512x512x512.`);
    const [m, n, k] = match.slice(1).map(Number);
    if (n % 4 || k % 4) throw new UsageError(`--shapes ${part}: N and K must be multiples of 4.`);
    return { m, n, k };
  });
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

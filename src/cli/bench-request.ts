import type { MatmulShape } from '../../bench/kernels/matmul.js';
import { operations } from '../../bench/kernels/operations.js';
import { modelConfigs } from '../../bench/random-checkpoint.js';
import type { ModelConfig } from '../../models/config.js';
import { readModelConfig } from '../../models/index.js';
import { UsageError } from '../errors.js';
import type { QuantizedFormat } from '../model/quantized-layouts.js';
import { checkWhole } from './check-numbers.js';
import { type PlannedModel, planModel } from './plan-model.js';

/** What `bench kernels` measures. */
export const kernelKinds: readonly string[] = ['matmul', ...Object.keys(operations)];

/** What `bench kernels --tune` looks for settings of. */
const tunedKinds: readonly string[] = ['matmul', 'attention'];

/** What benches measure on a CPU where the command line names no model. */
export const smallModel = readModelConfig({ path: 'small', value: modelConfigs.small });
const ownModels = new Map([['small', smallModel]]);

export interface BenchRequest {
  /** Null where the command line names none: what fits the device. */
  readonly models: readonly PlannedModel[] | null;
  readonly quantize: QuantizedFormat;
  readonly rows: readonly number[] | null;
  readonly batches: readonly number[] | null;
  readonly lengths: readonly number[] | null;
  readonly shapes: readonly MatmulShape[] | null;
  readonly only: ReadonlySet<string>;
}

type Arguments = Readonly<Record<string, unknown>>;

/** Where each option has an effect; those that are not here have one everywhere. */
function placesOf({ what, ...args }: Arguments, only: ReadonlySet<string>): Record<string, [string, boolean]> {
  const [kernels, sft, rollout] = ['kernels', 'sft', 'rollout'].map((name) => what === name);
  const products = kernels && only.has('matmul');
  const layers = kernels && (args.shapes === undefined || [...only].some((kind) => kind !== 'matmul'));
  return {
    model: ['to whole models: leave out --shapes', !kernels || layers],
    rows: ['to bench kernels without --shapes', layers],
    shapes: ['to bench kernels, of matmul', products],
    only: ['to bench kernels', kernels],
    peer: ['to bench kernels without --tune', kernels && args.tune !== true],
    quantize: ['to what has weights, as matmul does', !kernels || products],
    tune: ['to bench kernels', kernels],
    profile: ['to bench sft', sft],
    recompute: ['to bench sft', sft],
    sequences: ['to bench sft', sft],
    steps: ['to bench sft and to bench rollout --ppo', sft || (rollout && args.ppo === true)],
    length: ['to bench sft and to bench rollout without --lengths', sft || (rollout && args.lengths === undefined)],
    lengths: ['to bench rollout', rollout],
    batches: ['to bench rollout', rollout],
    'new-tokens': ['to bench rollout', rollout],
    ppo: ['to bench rollout', rollout],
    'shared-prompt-length': ['to bench rollout --ppo', rollout && args.ppo === true],
  };
}

/** Reads and checks a command line. Throws UsageError, also for an option without effect, and InputError for a bad model. */
export async function parseRequest(args: Arguments, given: ReadonlySet<string>): Promise<BenchRequest> {
  const kinds = args.tune === true ? tunedKinds : kernelKinds;
  const only = new Set(among(args, 'only', kinds) ?? (args.shapes === undefined ? kinds : ['matmul']));
  for (const [name, [place, fits]] of Object.entries(placesOf(args, only)))
    if (given.has(name) && !fits) throw new UsageError(`--${name} has no effect here: it belongs ${place}.`);
  const quantize = args.quantize as QuantizedFormat;
  const request = {
    quantize,
    rows: counts(args, 'rows'),
    batches: counts(args, 'batches'),
    lengths: counts(args, 'lengths'),
    shapes: list(args, 'shapes')?.map((part) => parseShape(part, quantize)) ?? null,
    only,
  };
  const names = list(args, 'model');
  if (args.what !== 'kernels' && names && names.length > 1)
    throw new UsageError(`--model: bench ${args.what} measures one model at a time.`);
  const models = names && (await planModels(names, quantize));
  const config = models?.[0].config ?? smallModel;
  if (args.what === 'sft') checkSft(args, config);
  if (args.what === 'rollout') checkRollout(args, request, config);
  return { ...request, models };
}

/** Directories, names of the hub, well-known names, and `small`. */
export function planModels(names: readonly string[], quantize: QuantizedFormat): Promise<PlannedModel[]> {
  return Promise.all(names.map((name) => planModel(name, quantize, ownModels)));
}

function list(args: Arguments, name: string): string[] | null {
  return typeof args[name] === 'string' ? args[name].split(',').map((part) => part.trim()) : null;
}

function among(args: Arguments, name: string, known: readonly string[]): string[] | null {
  const bad = list(args, name)?.find((part) => !known.includes(part));
  if (bad !== undefined) throw new UsageError(`--${name} ${bad}: known are ${known.join(', ')}.`);
  return list(args, name);
}

function counts(args: Arguments, name: string): number[] | null {
  const found = list(args, name);
  const bad = found?.find((text) => !/^[1-9]\d{0,6}$/.test(text));
  if (bad !== undefined) throw new UsageError(`--${name} ${bad}: write whole numbers, for example 16,512.`);
  return found?.map(Number) ?? null;
}

/** How each choice of --quantize packs a matrix, and what both its sides are multiples of. */
const packings = {
  none: { packed: null, unit: 4 },
  nf4: { packed: 'nf4', unit: 8 },
  int4: { packed: 'affine4', unit: 64 },
  int8: { packed: 'affine8', unit: 64 },
} as const;

function parseShape(part: string, quantize: QuantizedFormat): MatmulShape {
  const match = /^(\d+)x(\d+)x(\d+)$/.exec(part);
  if (!match) throw new UsageError(`--shapes ${part}: write MxNxK, for example 512x512x512.`);
  const [m, n, k] = match.slice(1).map(Number);
  const { packed, unit } = packings[quantize];
  if (m === 0 || n === 0 || k === 0 || n % unit || k % unit)
    throw new UsageError(`--shapes ${part}: M must be at least 1, N and K multiples of ${unit}.`);
  return { m, n, k, packed };
}

function checkSft(args: Arguments, { vocabSize, maxPositions }: ModelConfig): void {
  for (const name of ['steps', 'sequences', 'length']) checkWhole(name, args[name] as number, 1);
  // Each row starts with a token of its own.
  checkMost('--sequences', args.sequences as number, vocabSize, 'tokens of vocabulary');
  checkMost('--length', args.length as number, maxPositions, 'positions');
}

function checkRollout(
  args: Arguments,
  { batches, lengths }: Pick<BenchRequest, 'batches' | 'lengths'>,
  { vocabSize, maxPositions }: ModelConfig,
): void {
  checkMost('--batches', Math.max(...(batches ?? [1])), vocabSize, 'tokens of vocabulary');
  for (const name of ['steps', 'length']) checkWhole(name, args[name] as number, 1);
  const newTokens = args.newTokens as number;
  checkWhole('new-tokens', newTokens, 3);
  const shared = args.sharedPromptLength as number;
  checkWhole('shared-prompt-length', shared, 0);
  const prompts = lengths ?? [args.length as number];
  checkMost('the prompt and --new-tokens', Math.max(...prompts) + newTokens, maxPositions, 'positions');
  const shortest = Math.min(...prompts);
  if (shared >= shortest)
    throw new UsageError(`--shared-prompt-length ${shared} must be less than the prompts' ${shortest} tokens.`);
}

function checkMost(name: string, value: number, most: number, of: string): void {
  if (value > most) throw new UsageError(`${name} must be at most the model's ${most} ${of}, not ${value}.`);
}

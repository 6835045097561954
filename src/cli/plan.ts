import type { ArgumentsCamelCase, InferredOptionTypes, Options } from 'yargs';
import { linearShapes } from '../../models/tensors.js';
import type { Overlong } from '../batch/examples.js';
import { UsageError } from '../errors.js';
import { readAdapter } from '../formats/peft.js';
import type { QuantizedFormat } from '../model/quantized-layouts.js';
import { findData, type LoadedData, loadData } from './load-data.js';
import { newAdapterConfig } from './lora.js';
import type { Command } from './main.js';
import {
  type Checkpointing,
  checkMicroBatch,
  describePlan,
  formatBytes,
  type MemoryLimit,
  measure,
  memoryLimit,
  type PlannedRun,
  type PlanRequest,
  parseBytes,
  planRun,
} from './memory.js';
import { configOption, modelOptions, sftOptions } from './options.js';
import { checkJson, writeJson } from './output-file.js';
import { findMends, type Mend } from './plan-mends.js';
import { type PlannedModel, planModel } from './plan-model.js';
import { typicalTarget } from './plan-target.js';
import { countWork, describeTime, measureSpeed } from './plan-time.js';
import { openDevice } from './session.js';
import { checkArguments, settingsOf } from './sft.js';

/** Options of sft that decide nothing here are taken all the same: the words of a run are those of its plan. */
const deciding = [
  'data',
  'eval-data',
  'init-adapter',
  'lora-r',
  'lora-target-modules',
  'batch-size',
  'micro-batch-tokens',
  'gradient-checkpointing',
  'max-length',
  'overlong',
  'num-train-epochs',
  'max-steps',
  'json',
];

const options = {
  ...modelOptions,
  model: {
    type: 'string',
    describe: 'Model directory, of which config.json is enough, or a well-known name as llama-3.1-8b',
  },
  device: {
    type: 'string',
    default: 'auto',
    describe: 'As of sft; typical: a GPU that need not be here',
  },
  'tokens-per-second': { type: 'number', describe: 'Base the time on this instead of measuring the device' },
  ...(Object.fromEntries(
    Object.entries(sftOptions).map(([name, option]) => [name, { ...option, hidden: !deciding.includes(name) }]),
  ) as unknown as typeof sftOptions),
  data: { type: 'string', describe: 'As of sft; without it, rows of --max-length are planned for' },
  ...configOption,
} as const satisfies Record<string, Options>;
type Arguments = ArgumentsCamelCase<InferredOptionTypes<typeof options>>;

export const planCommand: Command = {
  command: 'plan',
  describe: 'Show the memory and time that a run of sft would take, and what to change where it does not fit',
  options,
  section: 'sft',
  computes: true,
  run: (args) => runPlan(args as Arguments),
};

async function runPlan(args: Arguments): Promise<number> {
  checkArguments(args);
  const given = args.memoryLimit === undefined ? null : parseBytes('--memory-limit', args.memoryLimit);
  const { tokensPerSecond } = args;
  if (tokensPerSecond !== undefined && !(tokensPerSecond > 0))
    throw new UsageError('--tokens-per-second must be above 0.');
  await checkJson(args.json);
  const model = await planModel(args.model, args.quantize as QuantizedFormat);
  const { config } = model;
  const maxLength = Math.min(args.maxLength, config.maxPositions);
  const data = await readRows(args, model, maxLength);
  const request: PlanRequest = {
    config,
    packed: model.packed,
    adapter:
      args.initAdapter === undefined
        ? newAdapterConfig(args)
        : (await readAdapter(args.initAdapter, linearShapes(config))).config,
    maxLength,
    asked: args.microBatchTokens,
    checkpointing: args.gradientCheckpointing as Checkpointing,
    data: data
      ? measure([...data.train.examples, ...(data.valid?.examples ?? [])], args.batchSize)
      : { longest: maxLength, fill: maxLength * args.batchSize },
  };
  checkMicroBatch(request);
  const open = args.device === 'typical' ? null : await openDevice(args);
  try {
    const target = open ?? typicalTarget(args.tier);
    const limit = open ? memoryLimit(open, given) : { bytes: given, given: true };
    const run = planRun(target, request, limit.bytes);
    const mends = run.fits ? [] : findMends(target, model, request, limit.bytes ?? 0);
    const work = data && countWork(data.train.examples, settingsOf(args, run), run.microBatchTokens);
    const speed =
      tokensPerSecond !== undefined
        ? { tokensPerSecond, basis: 'as --tokens-per-second says', atMost: false }
        : open && run.fits
          ? await measureSpeed(open, request, run)
          : null;
    for (const line of [
      target.describe,
      describeModel(model, request),
      ...describePlan(run, config.layers, limit),
      ...(run.fits ? describeTime(speed, work) : describeMends(run, limit, mends)),
    ])
      console.log(line);
    const { slots: _, ...memory } = run.bytes;
    await writeJson(args.json, {
      model: model.name,
      parameters: model.parameters,
      format: model.format,
      device: target.describe,
      tier: target.tier,
      fits: run.fits,
      memory_limit: limit.bytes,
      micro_batch_tokens: run.microBatchTokens,
      recomputed_layers: run.recompute,
      layers: config.layers,
      memory,
      mends,
      speed,
      work,
    });
    return run.fits ? 0 : 1;
  } finally {
    await open?.close();
  }
}

/** The rows of --data, as sft would read them; null without. */
async function readRows(
  args: Arguments,
  model: PlannedModel,
  maxLength: number,
): Promise<{ train: LoadedData; valid: LoadedData | null } | null> {
  if (args.data === undefined) return null;
  const files = await findData(args.data, args.evalData);
  const limits = { maxLength, overlong: args.overlong as Overlong };
  return {
    train: await loadData(files.train, model, limits),
    valid: files.valid ? await loadData(files.valid, model, limits) : null,
  };
}

function describeModel(model: PlannedModel, { adapter, data }: PlanRequest): string {
  const weights = model.format === 'none' ? 'in the type of the tier' : `in ${model.format}`;
  return (
    `Model: ${model.name}, ${formatCount(model.parameters)} parameters ${weights}; adapter of rank ` +
    `${adapter.r} on ${adapter.targetModules.join(', ')}; rows of up to ${data.longest} tokens.`
  );
}

function formatCount(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(2)} billion`;
  return count >= 1e6 ? `${(count / 1e6).toFixed(0)} million` : `${count}`;
}

function describeMends(run: PlannedRun, limit: MemoryLimit, mends: readonly Mend[]): string[] {
  const over = `It does not fit: ${formatBytes(run.bytes.total - (limit.bytes ?? 0))} too much.`;
  if (mends.length === 0) return [`${over} No change of options helps: take a smaller model or a larger device.`];
  return [
    `${over} What would fit${mends.length > 1 ? ', each by itself' : ''}:`,
    ...mends.map(({ options, total }) => `  ${options.padEnd(40)} ${formatBytes(total).padStart(12)}`),
  ];
}

import type { ArgumentsCamelCase } from 'yargs';
import type { QuantizedFormat } from '../model/quantized-layouts.js';
import type { Command } from './main.js';
import { formatBytes, type MemoryLimit, memoryLimit, parseBytes } from './memory.js';
import { checkJson, writeJson } from './output-file.js';
import { readGeneratePlan } from './plan-generate.js';
import type { Mend } from './plan-mends.js';
import { type PlannedModel, planModel } from './plan-model.js';
import { type PlanArguments, type PlannableRun, planOptions, readPlanConfig } from './plan-options.js';
import { readPpoPlan } from './plan-ppo.js';
import { readSftPlan } from './plan-sft.js';
import type { PlanSubject } from './plan-subject.js';
import { typicalTarget } from './plan-target.js';
import { openDevice } from './session.js';

export const planCommand: Command = {
  command: 'plan',
  describe: 'Show the memory that a run would take, of sft its time too, and what to change where it does not fit',
  options: planOptions,
  readConfig: readPlanConfig,
  computes: true,
  run: (args, given) => runPlan(args as ArgumentsCamelCase & PlanArguments, given),
};

const readers: Readonly<
  Record<PlannableRun, (args: PlanArguments, given: ReadonlySet<string>, model: PlannedModel) => Promise<PlanSubject>>
> = { sft: readSftPlan, ppo: readPpoPlan, generate: readGeneratePlan };

async function runPlan(args: PlanArguments, given: ReadonlySet<string>): Promise<number> {
  const limitGiven = args.memoryLimit === undefined ? null : parseBytes('--memory-limit', args.memoryLimit);
  await checkJson(args.json);
  const model = await planModel(args.model, args.quantize as QuantizedFormat);
  const subject = await readers[args.run as PlannableRun](args, given, model);
  const open = args.device === 'typical' ? null : await openDevice(args);
  try {
    const target = open ?? typicalTarget(args.tier);
    const limit = open ? memoryLimit(open, limitGiven) : { bytes: limitGiven, given: true };
    const outcome = subject.plan(target, limit);
    const { fits, total } = outcome;
    const mends = fits ? [] : outcome.mends(limit.bytes ?? 0);
    const time = await outcome.time(fits ? open : null);
    for (const line of [
      target.describe,
      describeModel(model, subject),
      ...outcome.lines,
      ...(fits ? time.lines : describeMends(total, limit, mends)),
    ])
      console.log(line);
    await writeJson(args.json, {
      run: args.run,
      model: model.name,
      parameters: model.parameters,
      format: model.format,
      device: target.describe,
      tier: target.tier,
      fits,
      memory_limit: limit.bytes,
      layers: model.config.layers,
      ...outcome.record,
      mends,
      ...time.record,
    });
    return fits ? 0 : 1;
  } finally {
    await open?.close();
  }
}

function describeModel(model: PlannedModel, subject: PlanSubject): string {
  const weights = model.format === 'none' ? 'in the type of the tier' : `in ${model.format}`;
  return `Model: ${model.name}, ${formatCount(model.parameters)} parameters ${weights}; ${subject.describe}.`;
}

function formatCount(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(2)} billion`;
  return count >= 1e6 ? `${(count / 1e6).toFixed(0)} million` : `${count}`;
}

function describeMends(total: number, limit: MemoryLimit, mends: readonly Mend[]): string[] {
  const over = `It does not fit: ${formatBytes(total - (limit.bytes ?? 0))} too much.`;
  if (mends.length === 0) return [`${over} No change of options helps: take a smaller model or a larger device.`];
  return [
    `${over} What would fit${mends.length > 1 ? ', each by itself' : ''}:`,
    ...mends.map((mend) => `  ${mend.options.padEnd(40)} ${formatBytes(mend.total).padStart(12)}`),
  ];
}

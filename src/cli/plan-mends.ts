import type { AdapterConfig } from '../formats/adapter.js';
import { type QuantizedFormat, quantizedLayouts } from '../model/quantized-layouts.js';
import { firstThatFits, leastMemory, type PlanRequest, type PlanTarget, planRun } from './memory.js';
import type { PlannedModel } from './plan-model.js';

/** A change of options under which a run fits, found by planning it. */
export interface Mend {
  /** As they stand on the command line. */
  readonly options: string;
  /** Bytes of the run with them. */
  readonly total: number;
}

interface Step {
  readonly options: string;
  readonly apply: (request: PlanRequest) => PlanRequest;
}

/** Steps of one kind, mildest first: the first that makes the run fit is the one to tell. */
type Ladder = readonly Step[];

/**
 * What to change so that a run fits: each kind of change that is enough by itself, mildest first; where none is, the
 * changes taken together one after the other until they are. Empty where nothing helps.
 */
export function findMends(target: PlanTarget, model: PlannedModel, request: PlanRequest, limit: number): Mend[] {
  const ladders = laddersFor(model, request);
  const climb = (ladder: Ladder, from: PlanRequest) =>
    firstThatFits(ladder, ({ options, apply }) => {
      const changed = apply(from);
      return { options, changed, fits: leastMemory(target, changed) <= limit };
    });
  const total = (changed: PlanRequest) => planRun(target, changed, limit).bytes.total;
  const mends = ladders.flatMap((ladder): Mend[] => {
    const found = climb(ladder, request);
    return found ? [{ options: found.options, total: total(found.changed) }] : [];
  });
  if (mends.length > 0) return mends;
  // None is enough by itself: each at its strongest, one after the other, and of the last as little as will do.
  let changed = request;
  const taken: string[] = [];
  for (const ladder of ladders) {
    const strongest = ladder[ladder.length - 1];
    if (leastMemory(target, strongest.apply(changed)) <= limit) {
      const found = climb(ladder, changed)!;
      return [{ options: [...taken, found.options].join(' '), total: total(found.changed) }];
    }
    changed = strongest.apply(changed);
    taken.push(strongest.options);
  }
  return [];
}

function laddersFor(
  model: PlannedModel,
  { checkpointing, asked, data, adapter, maxLength, config }: PlanRequest,
): Ladder[] {
  const ladders: Ladder[] = [];
  if (checkpointing === 'off')
    ladders.push([
      { options: '--gradient-checkpointing auto', apply: (request) => ({ ...request, checkpointing: 'auto' }) },
    ]);
  if (asked > data.longest)
    ladders.push(
      halves(asked, data.longest).map((tokens) => ({
        options: `--micro-batch-tokens ${tokens}`,
        apply: (request) => ({ ...request, asked: tokens }),
      })),
    );
  const smaller = byFalling.slice(byFalling.indexOf(model.format) + 1);
  if (!model.stored && smaller.length > 0)
    ladders.push(
      smaller.map((format) => ({
        options: `--quantize ${format}`,
        apply: (request) => ({ ...request, packed: quantizedLayouts(config, format) }),
      })),
    );
  if (adapter.r > 4)
    ladders.push(
      halves(adapter.r, 4).map((r) => ({
        options: `--lora-r ${r}`,
        apply: (request) => ({ ...request, adapter: { ...request.adapter, r } }),
      })),
    );
  if (adapter.targetModules.length > attention.length)
    ladders.push([
      {
        options: `--lora-target-modules ${attention.join(',')}`,
        apply: (request) => ({ ...request, adapter: withModules(request.adapter) }),
      },
    ]);
  if (data.longest > 64)
    ladders.push(
      halves(Math.min(maxLength, data.longest), 64).map((length) => ({
        options: `--max-length ${length}`,
        apply: (request) => shortened(request, length),
      })),
    );
  return ladders;
}

/** Formats by falling size on the device: int4 packs the embedding and the head too. */
const byFalling: readonly QuantizedFormat[] = ['none', 'int8', 'nf4', 'int4'];
const attention = ['q_proj', 'v_proj'];

function withModules(adapter: AdapterConfig): AdapterConfig {
  return { ...adapter, targetModules: adapter.targetModules.filter((module) => attention.includes(module)) };
}

/** Rows cut to `length`: no step has more tokens than as many rows of it. */
function shortened(request: PlanRequest, length: number): PlanRequest {
  const { asked, data } = request;
  const fill = Math.ceil((data.fill / data.longest) * length);
  return { ...request, maxLength: length, asked: Math.min(asked, fill), data: { longest: length, fill } };
}

/** value / 2, value / 4, … down to `least`, whole numbers. */
function halves(value: number, least: number): number[] {
  const found: number[] = [];
  for (let half = Math.floor(value / 2); half > least; half = Math.floor(half / 2)) found.push(half);
  return [...found, least];
}

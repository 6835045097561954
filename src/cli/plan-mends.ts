import type { AdapterConfig } from '../formats/adapter.js';
import { type QuantizedFormat, quantizedLayouts } from '../model/quantized-layouts.js';
import { firstThatFits, type PlanRequest } from './memory.js';
import type { PlannedModel } from './plan-model.js';

/** A change of options under which a run fits, found by planning it. */
export interface Mend {
  /** As they stand on the command line. */
  readonly options: string;
  /** Bytes of the run with them. */
  readonly total: number;
}

interface Step<R> {
  readonly options: string;
  readonly apply: (request: R) => R;
}

/** Steps of one kind, mildest first: the first that makes the run fit is the one to tell. */
export type Ladder<R> = readonly Step<R>[];

/** How requests of one kind of run are planned, bytes. */
export interface Planner<R> {
  /** With as little memory as its options allow. */
  readonly least: (request: R) => number;
  /** As it would run. */
  readonly total: (request: R) => number;
}

/**
 * What to change so that a run fits: each kind of change that is enough by itself, mildest first; where none is, the
 * changes taken together one after the other until they are. Empty where nothing helps.
 */
export function findMends<R>(
  kinds: readonly Ladder<R>[],
  request: R,
  limit: number,
  { least, total }: Planner<R>,
): Mend[] {
  const ladders = kinds.filter((ladder) => ladder.length > 0);
  const climb = (ladder: Ladder<R>, from: R) =>
    firstThatFits(ladder, ({ options, apply }) => {
      const changed = apply(from);
      return { options, changed, fits: least(changed) <= limit };
    });
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
    if (least(strongest.apply(changed)) <= limit) {
      const found = climb(ladder, changed)!;
      return [{ options: [...taken, found.options].join(' '), total: total(found.changed) }];
    }
    changed = strongest.apply(changed);
    taken.push(strongest.options);
  }
  return [];
}

/** Steps of training's own kinds; `longest` is the least that a micro-batch holds, tokens. */
export function trainingLadders<R extends Pick<PlanRequest, 'config' | 'packed' | 'checkpointing' | 'asked'>>(
  model: PlannedModel,
  { checkpointing, asked }: R,
  longest: number,
): Ladder<R>[] {
  const ladders: Ladder<R>[] = [];
  if (checkpointing === 'off')
    ladders.push([
      { options: '--gradient-checkpointing auto', apply: (request) => ({ ...request, checkpointing: 'auto' }) },
    ]);
  if (asked > longest)
    ladders.push(
      halves(asked, longest).map((tokens) => ({
        options: `--micro-batch-tokens ${tokens}`,
        apply: (request) => ({ ...request, asked: tokens }),
      })),
    );
  return [...ladders, ...weightLadders<R>(model)];
}

/** Smaller formats of the weights, where they are made while loading. */
export function weightLadders<R extends Pick<PlanRequest, 'packed'>>({
  config,
  format,
  stored,
}: PlannedModel): Ladder<R>[] {
  const smaller = byFalling.slice(byFalling.indexOf(format) + 1);
  if (stored || smaller.length === 0) return [];
  return [
    smaller.map((format) => ({
      options: `--quantize ${format}`,
      apply: (request) => ({ ...request, packed: quantizedLayouts(config, format) }),
    })),
  ];
}

/** Smaller new adapters. */
export function adapterLadders<R extends Pick<PlanRequest, 'adapter'>>({ adapter }: R): Ladder<R>[] {
  const ladders: Ladder<R>[] = [];
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
  return ladders;
}

/** Formats by falling size on the device: int4 packs the embedding and the head too. */
const byFalling: readonly QuantizedFormat[] = ['none', 'int8', 'nf4', 'int4'];
const attention = ['q_proj', 'v_proj'];

function withModules(adapter: AdapterConfig): AdapterConfig {
  return { ...adapter, targetModules: adapter.targetModules.filter((module) => attention.includes(module)) };
}

/** value / 2, value / 4, … down to `least`, whole numbers. */
export function halves(value: number, least: number): number[] {
  const found: number[] = [];
  for (let half = Math.floor(value / 2); half > least; half = Math.floor(half / 2)) found.push(half);
  return [...found, least];
}

import { InputError } from '../errors.js';
import { Recorder } from '../gpu/program.js';
import { bytesOf, type DType, type Tensor } from '../gpu/tensor.js';
import { appendToCache, cacheAttention, type KvCache } from '../ops/cache-attention.js';
import { type DecodeTables, decodeRows, rowWords } from '../ops/decode-rows.js';
import { type GivenTokens, type SamplingOptions, sample } from '../ops/sample.js';
import type { AdapterLayout } from './adapter.js';
import { bindableRows } from './bindable-rows.js';
import { attentionShape, decoder } from './decoder.js';
import type { LanguageModel } from './language-model.js';
import type { DecoderContext } from './linear.js';
import { logitStride, recordLogits } from './logits.js';

/** How much a rollout holds at once. */
export interface RolloutSize {
  /** Sequences decoded together. */
  readonly slots: number;
  readonly maxNewTokens: number;
  /** Places of the KV cache that prompts share; behind them every slot has `maxNewTokens` of its own. */
  readonly promptPlaces: number;
  readonly maxPromptTokens: number;
  /** Rows of a step: of sequences that go, and tokens of prompts; more than slots. */
  readonly stepRows: number;
}

/** What asks for a size; see RolloutOptions. */
export interface RolloutWishes {
  readonly batchSize: number;
  readonly maxNewTokens: number;
  readonly maxPromptTokens: number;
  readonly promptPlaces?: number;
  readonly promptTokens: number;
  readonly cacheTokens?: number;
}

/** Throws InputError where a KV cache of `limit` tokens, bounded by an option or by the device, holds not one sequence. */
export function checkCacheRoom(
  limit: number,
  by: 'option' | 'device',
  maxPromptTokens: number,
  maxNewTokens: number,
): void {
  const need = Math.max(1, maxPromptTokens - 1) + maxNewTokens;
  if (need <= limit) return;
  const [bound, mend] =
    by === 'option' ? ['--kv-cache-tokens allows', 'raise it, or '] : ['this device binds at once', ''];
  throw new InputError(
    `a prompt of ${maxPromptTokens} tokens and an answer of ${maxNewTokens} need ${need} places in the KV cache, more than the ${limit} that ${bound}: ${mend}shorten the prompt or the answer (--max-new-tokens, of ppo --response-length).`,
  );
}

/** Attention over the cache has a workgroup a row in one dimension of its grid. */
const mostStepRows = 65_535;

/**
 * The size of a rollout: as many sequences at once as asked for, or as the KV cache has room for, be it bounded by
 * `cacheTokens` or by what the device binds at once. Throws InputError where not one sequence finds room.
 */
export function rolloutSize(
  { config, weights, maxBinding, operand }: Pick<LanguageModel, 'config' | 'weights' | 'maxBinding' | 'operand'>,
  { batchSize, maxNewTokens, maxPromptTokens, promptPlaces, promptTokens, cacheTokens }: RolloutWishes,
): RolloutSize {
  const bindable = Math.floor(maxBinding / (config.kvHeads * config.headDim * bytesOf[operand]));
  const limit = Math.min(cacheTokens ?? bindable, bindable);
  checkCacheRoom(limit, limit === cacheTokens ? 'option' : 'device', maxPromptTokens, maxNewTokens);
  const longest = Math.max(1, maxPromptTokens - 1);
  const prompts = (slots: number) =>
    Math.max(longest, Math.min(promptPlaces ?? Number.POSITIVE_INFINITY, slots * longest));
  const mostRows = Math.min(mostStepRows, bindableRows(config, operand, maxBinding));
  const mostSlots = Math.min(Math.floor(maxBinding / (4 * logitStride(weights.head))), Math.floor(mostRows / 2));
  let slots = Math.max(1, Math.min(batchSize, mostSlots));
  while (slots > 1 && slots * maxNewTokens + prompts(slots) > limit) slots--;
  return {
    slots,
    maxNewTokens,
    maxPromptTokens,
    promptPlaces: prompts(slots),
    stepRows: Math.max(2 * slots, Math.min(promptTokens, slots + prompts(slots), mostRows)),
  };
}

/** The tensors of a rollout that outlive a step. */
export interface RolloutTensors extends DecodeTables {
  /** By layer, [places, kvHeads · headDim]. */
  readonly caches: readonly KvCache[];
  /** u32 [slots or a few more, 4] of `sample`. */
  readonly sampled: Tensor;
  /** Where there is a presence penalty. */
  readonly notes: GivenTokens | null;
}

/** With these tiles, and at least these rows, a row comes out the same whatever batch it is in. */
const steadyRows = 64;

export interface RolloutPrograms {
  readonly adapter: AdapterLayout | null;
  readonly sampling: SamplingOptions;
  readonly deterministic: boolean;
}

/** Lays out a rollout's tensors with whatever `make` makes of them. */
export function layOutRollout(
  make: (label: string, dtype: DType, shape: readonly number[]) => Tensor,
  { config, operand }: Pick<LanguageModel, 'config' | 'operand'>,
  size: RolloutSize,
  { sampling, deterministic }: Pick<RolloutPrograms, 'sampling' | 'deterministic'>,
): RolloutTensors {
  const { slots, maxNewTokens, promptPlaces, maxPromptTokens, stepRows } = size;
  const places = [promptPlaces + slots * maxNewTokens, config.kvHeads * config.headDim];
  const words = Math.ceil(config.vocabSize / 32);
  return {
    rows: make('rows', 'u32', [stepRows, rowWords]),
    paths: make('paths', 'u32', [slots, Math.max(1, maxPromptTokens - 1)]),
    caches: Array.from({ length: config.layers }, (_, i) => ({
      keys: make(`cache.${i}.keys`, operand, places),
      values: make(`cache.${i}.values`, operand, places),
    })),
    sampled: make('sampled', 'u32', [logitRows(slots, deterministic), 4]),
    notes:
      sampling.presencePenalty === 0
        ? null
        : { given: make('given', 'u32', [slots, words]), spared: make('spared', 'u32', [words]) },
  };
}

function logitRows(rows: number, deterministic: boolean): number {
  return deterministic ? Math.max(rows, steadyRows) : rows;
}

/** Row counts that steps are recorded for, ascending: the slots, and from there by quarters and fourfold. */
export function stepCapacities({ slots, stepRows }: RolloutSize, deterministic: boolean): number[] {
  const counts = new Set([slots, stepRows]);
  for (let n = slots; n > 1; n = Math.ceil(n / 4)) counts.add(Math.ceil(n / 4));
  for (let n = 4 * slots; n < stepRows; n *= 4) counts.add(n);
  return [...new Set([...counts].map((n) => logitRows(n, deterministic)))].sort((a, b) => a - b);
}

/** What recording asks of a model; a stand-in without memory will do for planning. */
export type RolloutModel = Pick<LanguageModel, 'kernels' | 'config' | 'weights' | 'ropeTable' | 'ops'>;

/**
 * Records a step of at most `capacity` rows: each row's keys and values go into the cache, and the first `logitRows` of
 * the batch draw a token each. The rows behind them are tokens of prompts.
 */
export function recordStep(
  model: RolloutModel,
  { adapter, sampling, deterministic }: RolloutPrograms,
  tensors: RolloutTensors,
  size: RolloutSize,
  capacity: number,
): Recorder {
  const recorder = new Recorder(model.kernels);
  const ops = { ...model.ops(recorder), ...(deterministic ? { tileRows: steadyRows } : {}) };
  const { config, weights, ropeTable } = model;
  const d: DecoderContext = { ops, config, weights, adapter, capacity, training: false };
  const { rows, paths, caches, sampled, notes } = tensors;
  const [tokens, positions, place] = ['tokens', 'positions', 'place'].map((label) =>
    recorder.tensor(label, 'u32', [capacity]),
  );
  decodeRows(ops, { rows, paths, sampled, tokens, positions, place });
  const tape = decoder(d, { tokens, positions, ropeTable }, (layer, q, k, v, o) => {
    appendToCache(ops, caches[layer], { k, v, place });
    cacheAttention(ops, attentionShape(d, layer), caches[layer], { rows, paths, q, o });
  });
  const most = logitRows(Math.min(size.slots, capacity), deterministic);
  const logits = recordLogits(d, tape.x, most, 'batch.logitRows');
  sample(ops, sampling, { logits, vocab: config.vocabSize, rows, sampled, notes });
  return recorder;
}

import { type PackedBatch, packMicroBatches } from '../batch/pack.js';
import { buildTrie } from '../batch/trie.js';
import { type Example, type TokenTrie, unsupervised } from '../batch/types.js';
import type { Samples } from '../model/loss-program.js';
import type { PerToken } from './ppo-math.js';

/** A prompt and what was sampled after it. */
export interface Sequence {
  readonly prompt: Int32Array;
  readonly response: readonly number[];
}

/** Some of the sequences, merged into one trie: those that share a prompt, or begin alike, share its computation. */
export interface SequenceTrie {
  readonly trie: TokenTrie;
  /** Which sequences, by index; in the trie they stand in this order. */
  readonly members: readonly number[];
}

/** Cuts a list into `count` parts, whose sizes differ by at most one. */
export function cutEvenly<T>(list: readonly T[], count: number): T[][] {
  const from = (part: number) => Math.floor((part * list.length) / count);
  return Array.from({ length: count }, (_, part) => list.slice(from(part), from(part + 1)));
}

/** Packs the sequences named by `members` into tries of at most `maxTokens` nodes. */
export function packSequences(
  sequences: readonly Sequence[],
  members: readonly number[],
  maxTokens: number,
): SequenceTrie[] {
  const examples: Example[] = members.map((index) => {
    const { prompt, response } = sequences[index];
    const ids = Int32Array.from([...prompt, ...response]);
    return { ids, labels: ids.map((id, i) => (i < prompt.length ? unsupervised : id)), weight: 1 };
  });
  return packMicroBatches(examples, maxTokens).map((group) => ({
    trie: buildTrie(group.map((i) => examples[i])),
    members: group.map((i) => members[i]),
  }));
}

/** For each member the edge that predicts each of its response's tokens. */
export function edgePlaces({ trie, members }: SequenceTrie, sequences: readonly Sequence[]): Int32Array[] {
  return members.map((index, i) => trie.edgeOf[i].slice(sequences[index].prompt.length));
}

/** For each member the logit row in front of each of its response's tokens: the state that is valued. */
export function rowPlaces(
  { trie, members }: SequenceTrie,
  sequences: readonly Sequence[],
  batch: PackedBatch,
): Int32Array[] {
  return members.map((index, i) => {
    const first = sequences[index].prompt.length - 1;
    return Int32Array.from(trie.nodeOf[i].subarray(first, trie.nodeOf[i].length - 1), (node) => batch.rowToLogit[node]);
  });
}

/** Lists what was sampled at each place: pairs (old, target) of the members' tokens, in the members' order. */
export function listSamples(
  places: readonly Int32Array[],
  count: number,
  old: readonly PerToken[],
  target: readonly PerToken[],
): Samples {
  const start = new Uint32Array(count + 1);
  for (const member of places) for (const place of member) start[place + 1]++;
  for (let i = 0; i < count; i++) start[i + 1] += start[i];
  const next = start.slice(0, count);
  const numbers = new Float32Array(2 * start[count]);
  places.forEach((member, m) => {
    member.forEach((place, t) => {
      numbers.set([old[m][t], target[m][t]], 2 * next[place]++);
    });
  });
  return { start, numbers };
}

/** The largest sum of `size` over the samples of one place, for the loss scale. */
export function heaviestPlace({ start, numbers }: Samples, size: (old: number, target: number) => number): number {
  let heaviest = 0;
  for (let place = 0; place + 1 < start.length; place++) {
    let sum = 0;
    for (let s = start[place]; s < start[place + 1]; s++) sum += size(numbers[2 * s], numbers[2 * s + 1]);
    heaviest = Math.max(heaviest, sum);
  }
  return heaviest;
}

/** Puts what a program gave at each place into arrays a sequence, by the members' indices. */
export function scatter(
  into: Float64Array[],
  { members }: SequenceTrie,
  places: readonly Int32Array[],
  results: Float32Array,
): void {
  members.forEach((index, i) => {
    into[index] = Float64Array.from(places[i], (place) => results[place]);
  });
}

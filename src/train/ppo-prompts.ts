import { countPromptPlaces } from '../batch/prompt-places.js';
import type { RolloutWishes } from '../model/rollout-program.js';
import { createRandom, shuffle } from '../random.js';
import type { PpoOptions } from './ppo.js';

/** How many rollouts a run makes. */
export function countRollouts(options: Pick<PpoOptions, 'totalEpisodes' | 'batchSize'>): number {
  return Math.ceil(options.totalEpisodes / options.batchSize);
}

/** Rollouts whose prompts are looked at for how much they share; the others have much the same. */
const lookedAt = 50;

/** What the rollouts need room for; should one's prompts share less, fewer of its sequences go at once. */
export function rolloutShape(
  prompts: readonly Int32Array[],
  options: Pick<
    PpoOptions,
    'totalEpisodes' | 'batchSize' | 'numGenerations' | 'responseLength' | 'kvCacheTokens' | 'seed' | 'shuffle'
  >,
): RolloutWishes & { readonly promptPlaces: number } {
  const maxPromptTokens = prompts.reduce((most, { length }) => Math.max(most, length), 0);
  let promptPlaces = 1;
  for (let step = 0; step < Math.min(lookedAt, countRollouts(options)); step++) {
    const chosen = rolloutPrompts(prompts.length, step, options);
    promptPlaces = Math.max(promptPlaces, countPromptPlaces(chosen.map((index) => prompts[index])));
  }
  return {
    batchSize: options.batchSize,
    maxNewTokens: options.responseLength,
    maxPromptTokens,
    promptPlaces,
    promptTokens: Math.min(Math.max(512, maxPromptTokens), 2048),
    cacheTokens: options.kvCacheTokens || undefined,
  };
}

/** The prompts of a rollout, by index: each pass over them in an order of its own, a rollout may begin one within. */
export function rolloutPrompts(
  count: number,
  step: number,
  options: Pick<PpoOptions, 'batchSize' | 'numGenerations' | 'seed' | 'shuffle'>,
): number[] {
  const wanted = options.batchSize / options.numGenerations;
  const orders = new Map<number, number[]>();
  return Array.from({ length: wanted }, (_, i) => {
    const place = step * wanted + i;
    const epoch = Math.floor(place / count);
    let order = orders.get(epoch);
    if (!order) {
      order = [...Array(count).keys()];
      if (options.shuffle) order = shuffle(order, createRandom(options.seed * 1_000_003 + epoch));
      orders.set(epoch, order);
    }
    return order[place % count];
  });
}

import { bootstrapGain, bootstrapMean, type Estimate, type Gain } from './statistics.js';

/** One thing that an answer must fulfil. */
export type Check =
  /** The whole answer, quotes and final stops aside; in any case unless `exact`. */
  | { readonly equals: string; readonly exact?: boolean }
  /** A pattern, in any case. */
  | { readonly matches: string }
  | { readonly includes: readonly string[] }
  | { readonly excludes: readonly string[] }
  /** Least and most words. */
  | { readonly words: readonly [number, number] }
  /** A JSON object, in a code fence or not, with these keys. */
  | { readonly json: readonly string[] };

/** An instruction with what a program can check of its answer. */
export interface Instruction {
  readonly id: string;
  readonly language: string;
  readonly prompt: string;
  readonly checks: readonly Check[];
}

/** Whether an answer follows its instruction. */
export function follows({ checks }: Instruction, answer: string): boolean {
  const text = answer.trim();
  return checks.every((check) => {
    if ('equals' in check) {
      const bare = text.replace(/^["'“”‘’*`]+|["'“”‘’*`.。！!]+$/gu, '');
      return check.exact ? bare === check.equals : bare.toLowerCase() === check.equals.toLowerCase();
    }
    if ('matches' in check) return new RegExp(check.matches, 'iu').test(text);
    if ('includes' in check) return check.includes.every((part) => text.toLowerCase().includes(part.toLowerCase()));
    if ('excludes' in check) return !check.excludes.some((part) => text.toLowerCase().includes(part.toLowerCase()));
    if ('json' in check) return hasKeys(text, check.json);
    const count = text.split(/\s+/u).filter(Boolean).length;
    return count >= check.words[0] && count <= check.words[1];
  });
}

function hasKeys(text: string, keys: readonly string[]): boolean {
  try {
    const value: unknown = JSON.parse(text.replace(/^```(?:json)?\s*|\s*```$/g, ''));
    return typeof value === 'object' && value !== null && keys.every((key) => Object.hasOwn(value, key));
  } catch {
    return false;
  }
}

/** What one text costs a model. */
export interface TextScore {
  /** Tokens that were predicted. */
  readonly tokens: number;
  /** Sum of −log p, nats. */
  readonly nll: number;
}

/** A run's side effects. */
export interface SideEffects {
  /** exp of the mean −log p of a token over all texts; of the interval whole texts are drawn, with their tokens. */
  readonly perplexity: Estimate;
  /** Share of the instructions that were followed. */
  readonly followed: Estimate;
}

export function summarizeSideEffects(
  texts: readonly TextScore[],
  followed: readonly boolean[],
  seed = 42,
): SideEffects {
  const { mean, low, high, n } = bootstrapMean(tokenRates(texts), seed, tokenCounts(texts));
  return {
    perplexity: { mean: Math.exp(mean), low: Math.exp(low), high: Math.exp(high), n },
    followed: bootstrapMean(followed.map(Number), seed),
  };
}

/**
 * From a first run to a last on the same tokens: by which factor perplexity grew, and the change of the share that is
 * followed. The factor's test is of each text's mean −log p of a token, all texts alike.
 */
export function sideEffectChange(
  before: { readonly texts: readonly TextScore[]; readonly followed: readonly boolean[] },
  after: { readonly texts: readonly TextScore[]; readonly followed: readonly boolean[] },
  seed = 42,
): { readonly perplexityFactor: Gain; readonly followed: Gain } {
  const rates = [before.texts, after.texts].map(tokenRates);
  const { mean, low, high, ...rest } = bootstrapGain(rates[0], rates[1], seed, tokenCounts(before.texts));
  return {
    perplexityFactor: { mean: Math.exp(mean), low: Math.exp(low), high: Math.exp(high), ...rest },
    followed: bootstrapGain(before.followed.map(Number), after.followed.map(Number), seed),
  };
}

/** Mean −log p of a token in each text, nats. */
export function tokenRates(texts: readonly TextScore[]): number[] {
  return texts.map(({ nll, tokens }) => nll / tokens);
}

/** What each text's rate weighs in the mean over the tokens of all. */
export function tokenCounts(texts: readonly TextScore[]): number[] {
  return texts.map(({ tokens }) => tokens);
}

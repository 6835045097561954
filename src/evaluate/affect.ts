import { wordKey } from './association.js';
import {
  bootstrapGain,
  bootstrapMean,
  type Estimate,
  type Gain,
  quantile,
  type SignedRankTest,
  wilcoxonSignedRank,
} from './statistics.js';

/** Ratings of words: for each dimension (valence, concreteness, …) the value of a word as `wordKey` has it. */
export interface Lexicon {
  readonly dimensions: ReadonlyMap<string, ReadonlyMap<string, number>>;
  /** Words with any rating. */
  readonly size: number;
}

/** Ratings of the associates of each cue in one dimension. */
export interface AffectMedians {
  /** A cue's median over those of its first words that the lexicon holds; null where it holds none. */
  readonly medians: readonly (number | null)[];
  /** Share of the first words that the lexicon holds, over all cues; 0 without words. */
  readonly coverage: number;
}

/** Of a list of associates the words that are rated. */
export const firstWords = 10;

/** Below this share of words the medians say little. */
export const leastCoverage = 0.1;

/** Medians of `lists` (associates of a cue, in their order), of their first ten words, by the ratings of one dimension. */
export function affectMedians(
  lists: readonly (readonly string[])[],
  ratings: ReadonlyMap<string, number>,
): AffectMedians {
  let words = 0;
  let held = 0;
  const medians = lists.map((list) => {
    const considered = [...new Set(list.map(wordKey))].slice(0, firstWords);
    const values = considered.flatMap((word) => ratings.get(word) ?? []).sort((a, b) => a - b);
    words += considered.length;
    held += values.length;
    return values.length === 0 ? null : quantile(values, 0.5);
  });
  return { medians, coverage: words === 0 ? 0 : held / words };
}

/** One dimension of one run against people's lists. */
export interface AffectRun {
  readonly coverage: number;
  /** Mean of the medians, over the cues that both run and people have one for. */
  readonly mean: Estimate;
  /** Mean of |median − people's median|. */
  readonly distance: Estimate;
  /** Whether the medians differ from people's. */
  readonly test: SignedRankTest;
  /** From the first run, over the cues that both and people have a median for; null of the first run itself. */
  readonly change: {
    readonly mean: Gain;
    /** By how much the distance to people shrank. */
    readonly nearer: Gain;
  } | null;
  readonly medians: readonly (number | null)[];
}

/** One dimension of the affect measure. */
export interface AffectSummary {
  readonly dimension: string;
  readonly human: { readonly coverage: number; readonly mean: Estimate; readonly medians: readonly (number | null)[] };
  readonly runs: readonly AffectRun[];
}

/** Compares runs (their associates of each cue, cues in one order) with people's lists in every dimension. */
export function summarizeAffect(
  human: readonly (readonly string[])[],
  runs: readonly (readonly (readonly string[])[])[],
  lexicon: Lexicon,
  seed = 42,
): AffectSummary[] {
  return [...lexicon.dimensions].map(([dimension, ratings]) => {
    const people = affectMedians(human, ratings);
    const own = runs.map((lists) => affectMedians(lists, ratings));
    return {
      dimension,
      human: {
        ...people,
        mean: bootstrapMean(
          people.medians.filter((median) => median !== null),
          seed,
        ),
      },
      runs: own.map(({ medians, coverage }, i): AffectRun => {
        const pairs = paired([people.medians, medians]);
        return {
          coverage,
          medians,
          mean: bootstrapMean(
            pairs.map(([, median]) => median),
            seed,
          ),
          distance: bootstrapMean(
            pairs.map(([theirs, median]) => Math.abs(median - theirs)),
            seed,
          ),
          test: wilcoxonSignedRank(pairs.map(([theirs, median]) => median - theirs)),
          change: i === 0 ? null : change(people.medians, own[0].medians, medians, seed),
        };
      }),
    };
  });
}

function change(
  human: readonly (number | null)[],
  before: readonly (number | null)[],
  after: readonly (number | null)[],
  seed: number,
): AffectRun['change'] {
  const triples = paired([human, before, after]);
  const from = triples.map(([people, first]) => Math.abs(first - people));
  const to = triples.map(([people, , last]) => Math.abs(last - people));
  return {
    mean: bootstrapGain(
      triples.map(([, first]) => first),
      triples.map(([, , last]) => last),
      seed,
    ),
    nearer: bootstrapGain(to, from, seed),
  };
}

/** The cues that every series has a value for, one tuple a cue. */
function paired(series: readonly (readonly (number | null)[])[]): number[][] {
  return series[0].flatMap((_, i) => {
    const values = series.flatMap((own) => own[i] ?? []);
    return values.length === series.length ? [values] : [];
  });
}

import { createRandom, derange } from '../random.js';
import { spearman } from './statistics.js';

/** One cue's human associates, most frequent first, with their counts. */
export interface HumanList {
  readonly cue: string;
  readonly responses: readonly { readonly word: string; readonly count: number }[];
}

/** The measures of one cue. */
export interface CueScore {
  readonly cue: string;
  /** Distinct words of the generated list, in its order. */
  readonly predictions: readonly string[];
  /** P@K against the cue's own list and against another cue's, in the order of the ks asked for. */
  readonly precision: readonly number[];
  readonly otherPrecision: readonly number[];
  /** Null with fewer than three shared words. */
  readonly spearman: number | null;
}

/** What two spellings of one word have in common: NFKC, lower case, no space around, single spaces within. */
export function normalizeWord(word: string): string {
  return word.normalize('NFKC').toLowerCase().trim().replace(/\s+/gu, ' ');
}

/**
 * Distinct words of a generated list, in its order: parts between commas (, ， 、), semicolons and line ends, without
 * numbering ("1." "2)" "(3)" "4、"), bullets, emphasis, quotes and final stops. The cue itself is no associate and is
 * left out, as it is from the human lists.
 */
export function parseAssociates(text: string, cue?: string): string[] {
  const own = cue === undefined ? null : normalizeWord(cue);
  // Before the split: the comma of "1、狗" belongs to the number.
  const unnumbered = text.replace(/^[\s>*•·–—-]*(?:[(（]?\d{1,3}\s*[.．)）、:：]|[(（]\d{1,3}[)）])/gmu, '');
  const words = new Set<string>();
  for (const part of unnumbered.split(/[,，、;；\r\n]+/u)) {
    const word = normalizeWord(
      part
        .replace(/^[\s>*_•·–—\-"'“”‘’「」《》`]+(?=\S)/u, '')
        .replace(/^\d{1,3}[.)]\s+/u, '')
        .replace(/[\s.。．!！*_"'“”‘’「」《》`]+$/u, ''),
    );
    if (/[\p{L}\p{N}]/u.test(word) && word !== own) words.add(word);
  }
  return [...words];
}

/** |first K distinct predictions ∩ all human associates| / K. Fewer than K predictions count as misses. */
export function precisionAtK(predictions: readonly string[], human: readonly string[], k: number): number {
  const known = new Set(human.map(normalizeWord));
  const first = [...new Set(predictions.map(normalizeWord))].slice(0, k);
  return first.filter((word) => known.has(word)).length / k;
}

/**
 * Spearman's correlation of human rank (by falling count, equal counts sharing their average rank) and predicted
 * position over the words in both lists; null with fewer than three of them.
 */
export function rankCorrelation(predictions: readonly string[], human: HumanList['responses']): number | null {
  const position = new Map([...new Set(predictions.map(normalizeWord))].map((word, i) => [word, i]));
  const shared = human.filter(({ word }) => position.has(normalizeWord(word)));
  if (shared.length < 3) return null;
  return spearman(
    shared.map(({ count }) => -count),
    shared.map(({ word }) => position.get(normalizeWord(word))!),
  );
}

/**
 * Scores one generated text a cue. `otherPrecision` is P@K against the list of another cue of the set, the same
 * pairing for every model: what word frequency alone would score.
 */
export function scoreAssociations(
  human: readonly HumanList[],
  texts: readonly string[],
  ks: readonly number[],
  seed = 42,
): CueScore[] {
  if (human.length !== texts.length || human.length < 2) {
    throw new RangeError('scoring associations needs two cues at least and one text a cue');
  }
  const other = derange(human.length, createRandom(seed));
  const lists = human.map(({ responses }) => responses.map(({ word }) => word));
  return human.map(({ cue, responses }, i) => {
    const predictions = parseAssociates(texts[i], cue);
    return {
      cue,
      predictions,
      precision: ks.map((k) => precisionAtK(predictions, lists[i], k)),
      otherPrecision: ks.map((k) => precisionAtK(predictions, lists[other[i]], k)),
      spearman: rankCorrelation(predictions, responses),
    };
  });
}

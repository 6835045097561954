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
  /** The answer declined to give words. */
  readonly refused: boolean;
}

/** What two spellings of one word have in common: NFKC, lower case, no space around, single spaces within. */
export function normalizeWord(word: string): string {
  return word.normalize('NFKC').toLowerCase().trim().replace(/\s+/gu, ' ');
}

/** Beginnings of an answer that declines to give words. */
const refusals = [
  /^\W*(?:i['’]?m|i am|we are)?\s*(?:so |very |truly )?(?:sorry|afraid)\b[,.!]?\s*(?:but|i\b|as|that|we)/iu,
  /^\W*(?:i (?:can['’]?t|can ?not|won['’]?t|do not|don['’]?t)|i['’]?m (?:not able|unable)|i am (?:not able|unable)|i apologi[sz]e|as an ai)\b/iu,
  /^\W*unfortunately[,]?\s+i\b/iu,
  /^[^\p{L}]*(?:很|非常)?(?:抱歉|对不起|不好意思)[，,。！!]?\s*(?:但|我|作为|您|你|这|无法)/u,
  /^[^\p{L}]*(?:作为(?:一个|一名|一款)?(?:人工智能|AI|语言模型|大语言模型)|我(?:无法|不能|不会|没有办法))/u,
];

/** Whether an answer declines to give words. */
export function isRefusal(text: string): boolean {
  return refusals.some((pattern) => pattern.test(text));
}

/** "1." "2)" "(3)" "4、" "- " "* " "• " at the start of a line. */
const bullet =
  /^[\s>]*(?:[*•·–—-]+\s*)?(?:[(（]?\d{1,3}\s*[.．)）、:：]|[(（]\d{1,3}[)）])|^[\s>]*(?:[*•·]|[–—-](?=\s))\s*/u;
/** What stands around a word and is none of it. */
const before = /^[\s>*_•·–—\-"'“”‘’「」《》`[\]{}]+(?=\S)/u;
const behind = /[\s.。．!！*_"'“”‘’「」《》`[\]{}]+$/u;

/**
 * Distinct words of a generated list, in its order: parts between commas (, ， 、), semicolons and line ends, of Chinese
 * without any also between spaces. Numbering, bullets, emphasis, quotes, the brackets of a JSON list and final stops are
 * taken off; so are what leads in before a colon ("Here are some words: …"), a last "and", glosses in parentheses and,
 * in a line with a number or bullet, what explains behind a colon or dash. Nothing of a refusal. The cue itself is no
 * associate and is left out, as it is from the human lists.
 */
export function parseAssociates(text: string, cue?: string): string[] {
  if (isRefusal(text)) return [];
  const own = cue === undefined ? null : normalizeWord(cue);
  const words = new Set<string>();
  const parts = text.split(/[\r\n]+/u).flatMap(partsOfLine);
  const spaced = parts.length === 1 && /\p{Script=Han}\s+\p{Script=Han}/u.test(parts[0]);
  (spaced ? parts[0].split(/\s+/u) : parts).forEach((part, i) => {
    const bare = part
      .replace(before, '')
      .replace(/^\d{1,3}[.)]\s+/u, '')
      .replace(/(?<=.)[(（][^)）]*[)）]/gu, '')
      .replace(behind, '');
    const word = normalizeWord(i > 0 ? bare.replace(/^and\s+/iu, '') : bare);
    if (/[\p{L}\p{N}]/u.test(word) && word !== own) words.add(word);
  });
  return [...words];
}

function partsOfLine(line: string): string[] {
  if (/^\s*```/.test(line)) return [];
  const unnumbered = line.replace(bullet, '');
  const bare =
    unnumbered === line
      ? line.replace(/^[^,，、;；:：]*[:：]/u, '')
      : unnumbered.replace(/(?:\s[–—-]+\s|[:：](?=\s|\*|\p{Script=Han})).*$/u, '');
  return bare.split(/[,，、;；]+/u);
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
      refused: isRefusal(texts[i]),
    };
  });
}

import { createRandom, derange } from '../random.js';
import { lastPart, proseParts, separators } from './prose-list.js';
import { attainableCorrelation, spearman } from './statistics.js';

/** One cue's human associates, most frequent first, with their counts; none twice by `wordKey`. */
export interface HumanList {
  readonly cue: string;
  readonly responses: readonly { readonly word: string; readonly count: number }[];
}

/** The measures of one cue. */
export interface CueScore {
  readonly cue: string;
  /** Distinct words of the generated list, in its order. */
  readonly predictions: readonly string[];
  /** Words that the list gave again, and that were left out. */
  readonly repeated: number;
  /** P@K against the cue's own list and against another cue's, in the order of the ks asked for. */
  readonly precision: readonly number[];
  readonly otherPrecision: readonly number[];
  /** Null with fewer than three shared words, or with all of one count. */
  readonly spearman: number | null;
  /** What the same words would score in people's order: less than 1 where people's counts tie. Null where that is. */
  readonly attainable: number | null;
  /** The answer declined to give words. */
  readonly refused: boolean;
}

/** P@K own − P@K other at the k-th of the ks: what is left when word frequency is taken away. */
export function aboveOther({ precision, otherPrecision }: CueScore, k: number): number {
  return precision[k] - otherPrecision[k];
}

/** How a word is spelled here: NFKC, lower case, straight apostrophes, no space around, single spaces within. */
export function normalizeWord(word: string): string {
  return word.normalize('NFKC').toLowerCase().replace(/[‘’]/gu, "'").trim().replace(/\s+/gu, ' ');
}

/**
 * What two spellings of one word have in common, people's or a model's: `normalizeWord` without stops, quotes, emphasis and
 * brackets around it: "U.S.A." and "u.s.a", "“don’t”" and "don't" are one word. Empty of stops alone.
 */
export function wordKey(word: string): string {
  return normalizeWord(word).replace(before, '').replace(behind, '');
}

/** Begins a clause behind an apology, and goes on: "but I can't", not the next word of a list. */
const clause = /\b[,.!]?\s*(?:but|i|we|as|that|for (?:any|the))\b['’]?\w*\s+\p{L}/u.source;
/** Beginnings of an answer that declines to give words. */
const refusals = [
  new RegExp(
    `^\\W*(?:(?:(?:i|we)['’ ]?(?:m|am|re|are) )?(?:(?:so|very|truly|really|deeply) )*(?:sorry|afraid)|i (?:\\w+ )?apologi[sz]e|my apologies)${clause}`,
    'iu',
  ),
  /^\W*(?:i (?:can['’]?t|can ?not|won['’]?t|will not|do not|don['’]?t|refuse)|i['’ ]?a?m (?:not able|not comfortable|unable))\s+\p{L}/iu,
  /^\W*i (?:must|have to|need to) (?:\w+ )?decline\b/iu,
  /^\W*(?:as|i['’ ]?a?m(?: just| only)?) an? (?:\w+ )?(?:ai|language model)\b/iu,
  /^\W*unfortunately,?\s+i\b['’]?\w*\s+\p{L}/iu,
  /^[^\p{L}]*我?(?:很|非常|十分|真的)?(?:抱歉|对不起|不好意思)[，,。！!]?\s*(?:但|我|作为|您|你|这|该|由于|根据|无法)\p{Script=Han}/u,
  /^[^\p{L}]*(?:作为|我(?:只)?是)(?:一[个名款种])?(?:大型|大)?(?:人工智能|AI|语言模型)/iu,
  /^[^\p{L}]*我(?:无法|不能|不会|没有办法)\p{Script=Han}/u,
];
/** What a model writes before it answers. */
const thought = /^\s*<think>[\s\S]*?(?:<\/think>|$)/u;
/** Says that a list follows, and one does. */
const goesOn = /(?:\bhere(?:['’]s| is| are)\b|以下[是为]|下面是)[^\n:：]*[:：\n]\s*\S/iu;

/** Whether an answer declines to give words, and gives none after all ("As an AI I have none, but here are some: …"). */
export function isRefusal(text: string): boolean {
  const said = text.replace(thought, '');
  return declines(said) && !goesOn.test(said);
}

function declines(text: string): boolean {
  return refusals.some((pattern) => pattern.test(text)) && !isShortList(text);
}

/** Three parts or more of at most three words, or four Chinese characters: "I don't know, maybe, perhaps". */
function isShortList(text: string): boolean {
  const parts = text.split(separators).filter((part) => part.trim() !== '');
  return parts.length >= 3 && parts.every((part) => countWords(part) <= 3 && !/\p{Script=Han}{5}/u.test(part));
}

function countWords(text: string): number {
  return text.trim().split(/\s+/u).length;
}

/** "1." "2)" "(3)" "4、" "**5." at the start of a line. */
const number = /^[\s>]*(?:[*•·–—-]+\s*)?(?:[(（]?\d{1,3}\s*[.．)）、:：](?!\d)|[(（]\d{1,3}[)）])/u;
/** "- " "* " "• " at the start of a line. */
const bullet = /^[\s>]*(?:[*•·](?!\*)|[–—-](?=\s))\s*/u;
const bold = /^[\s>]*\*\*/u;
/** Between the words of a line that is numbered within: "1. blood 2. rose". */
const nextNumber = /[\s,，;；]+(?=[*_]*[(（]?\d{1,3}[.．)）、](?!\d))/u;
/** In parentheses behind a word. */
const gloss = /(?<=[^\s,，、;；:：]\s*)[(（](?!\d{1,3}[)）])[^()（）]*[)）]/gu;
/** What explains a word of a list, behind a dash or colon. */
const explanation = /(?:\s[–—-]+\s|——|[:：](?=\s|\*|\p{Script=Han})).*$/u;
/** What stands around a word and is none of it. */
const before = /^[\s>*_•·–—\-"'“”‘’「」《》`[\]{}]+(?=\S)/u;
const behind = /[\s.。．!！:：,，;；*_"'“”‘’「」《》`[\]{}]+$/u;

const polite = '(?:sure(?: thing)?|of course|certainly|absolutely|ok(?:ay)?|当然(?:可以)?|好的|没问题)';
/** Before what leads in: "Sure, …". */
const courtesy = new RegExp(`^(?:${polite}\\s*[,，!！.。]\\s*)+`, 'iu');
/** By itself before a list: "Sure! …". */
const exclamation = new RegExp(`^${polite}\\s*[!！。]\\s*`, 'iu');
/** Speaks of the list. */
const announcement =
  /^(?:here(?:['’]s| is| are)|these are|below (?:is|are)|the following)\s+\p{L}|^i(?:['’](?:d|ll)| can| will| would)\s+\p{L}|\bcomes? to (?:my |your )?mind\b|\b(?:words|associations)\b[^,;]*\b(?:with|for|to)\b|^(?:以下|下面|这些|这里)[是为]|我.*(?:想到|联想)|(?:想到|联想)的/iu;

/** What an answer holds. */
export interface ReadAnswer {
  /** Distinct words in their order, as `wordKey` has them. */
  readonly words: readonly string[];
  /** Words that were there before, and were left out. */
  readonly repeated: number;
}

/**
 * Reads a generated list: parts between commas (, ， 、), semicolons and line ends, of Chinese without any also between
 * spaces, and of a numbered line between its numbers. Numbering, bullets, emphasis, quotes, the brackets of a JSON list,
 * headings, final stops and a <think> part are taken off; so are what leads in before a colon ("Sure, here are some
 * words: …") or on a line of its own ("Here are ten words that come to mind"), a last "and", a closing "etc.", glosses in
 * parentheses and, in a line with a number or bullet, what explains behind a colon or dash. Sentences that list words
 * without a colon are read by `proseParts`. Nothing of a refusal, unless a list follows it. The cue itself is no associate
 * and is left out, as it is from the human lists.
 */
function readAnswer(text: string, cue?: string): ReadAnswer {
  if (isRefusal(text)) return { words: [], repeated: 0 };
  const said = text.replace(thought, '');
  const list = declines(said) ? said.slice(said.search(goesOn)) : said;
  const own = cue === undefined ? null : wordKey(cue);
  const lines = list.split(/[\r\n]+/u).filter((line) => line.trim() !== '');
  const parts = lines.flatMap((line, i) => partsOfLine(line, i === lines.length - 1, lines.length > 1));
  const spaced = parts.length === 1 && /\p{Script=Han}\s+\p{Script=Han}/u.test(parts[0]);
  const items = (spaced ? parts[0].split(/\s+/u) : parts).filter((part) => /[\p{L}\p{N}]/u.test(part));
  const given = items.flatMap((part, i) => {
    const bare = part
      .replace(before, '')
      .replace(/^\d{1,3}[.)]\s+/u, '')
      .replace(behind, '');
    const item = i > 0 ? bare.replace(/^and\s+/iu, '') : bare;
    const word = wordKey(i > 1 && i === items.length - 1 ? lastPart(item) : item);
    return /[\p{L}\p{N}]/u.test(word) && word !== own ? [word] : [];
  });
  const words = [...new Set(given)];
  return { words, repeated: given.length - words.length };
}

/** The words of `readAnswer`. */
export function parseAssociates(text: string, cue?: string): string[] {
  return [...readAnswer(text, cue).words];
}

function partsOfLine(line: string, last: boolean, several: boolean): string[] {
  if (/^\s*(?:```|#{1,6}\s)/u.test(line)) return [];
  const plain = line.replace(gloss, '');
  const listed = number.test(plain) || bullet.test(plain);
  const prose = listed || /[:：]/u.test(plain) ? null : proseParts(withoutCourtesy(plain), several);
  if (prose) return prose;
  const list = listed ? plain : withoutLeadIn(plain, last, several && bold.test(plain));
  return (number.test(list) ? list.split(nextNumber) : [list]).flatMap((item) => {
    const bare = item.replace(number, '').replace(bullet, '');
    const explained = bare !== item || (several && bold.test(item));
    return (explained ? bare.replace(explanation, '') : item).split(separators);
  });
}

/** A line without what is polite before it; a sentence begins with a capital still: "Sure, red …" gives "Red …". */
function withoutCourtesy(line: string): string {
  const start = line.replace(/^[\s>*_"“]+/u, '');
  const rest = start.replace(courtesy, '');
  return /^\p{Lu}/u.test(start) ? rest.charAt(0).toUpperCase() + rest.slice(1) : rest;
}

/** A line without what leads in; of an `item` that stands in bold ("**Blood**: what flows") only a heading is that. */
function withoutLeadIn(line: string, last: boolean, item: boolean): string {
  const start = line.replace(/^[\s>*_"“]+/u, '');
  const text = start.replace(exclamation, '');
  const rest = text === start ? line : text;
  const at = rest.search(/：|:(?!\d)/u);
  if (at < 0) return !last && announcement.test(text.replace(courtesy, '')) ? '' : rest;
  const behindColon = rest.slice(at + 1);
  if (!last && /^[\s*_"”]*$/u.test(behindColon)) return '';
  const lead = rest
    .slice(0, at)
    .replace(/^[\s>*_"“]+/u, '')
    .replace(courtesy, '')
    .split(separators);
  // A list may hold a colon too: what leads in is one part, or a sentence begins it.
  const leads =
    (lead.length === 1 && !item) ||
    lead
      .slice(0, 2)
      .some((part) => announcement.test(part) || (!item && (countWords(part) >= 3 || /我|词/u.test(part))));
  return leads ? behindColon : rest;
}

/** |first K distinct predictions ∩ all human associates| / K. Fewer than K predictions count as misses. */
export function precisionAtK(predictions: readonly string[], human: readonly string[], k: number): number {
  const known = new Set(human.map(wordKey));
  const first = [...new Set(predictions.map(wordKey))].slice(0, k);
  return first.filter((word) => known.has(word)).length / k;
}

/**
 * Spearman's correlation of human rank (by falling count, equal counts sharing their average rank) and predicted
 * position over the words in both lists, and what these words score in people's own order; null with fewer than three of
 * them, and where all were given equally often.
 */
export function rankCorrelation(
  predictions: readonly string[],
  human: HumanList['responses'],
): Pick<CueScore, 'spearman' | 'attainable'> {
  const position = new Map([...new Set(predictions.map(wordKey))].map((word, i) => [word, i]));
  const shared = human.filter(({ word }) => position.has(wordKey(word)));
  if (shared.length < 3) return { spearman: null, attainable: null };
  const order = shared.map(({ count }) => -count);
  const places = shared.map(({ word }) => position.get(wordKey(word))!);
  return { spearman: spearman(order, places), attainable: attainableCorrelation(order) };
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
    const { words: predictions, repeated } = readAnswer(texts[i], cue);
    return {
      cue,
      predictions,
      repeated,
      precision: ks.map((k) => precisionAtK(predictions, lists[i], k)),
      otherPrecision: ks.map((k) => precisionAtK(predictions, lists[other[i]], k)),
      ...rankCorrelation(predictions, responses),
      refused: isRefusal(texts[i]),
    };
  });
}

/** What separates the words of a list. */
export const separators = /[,，、;；\r\n]+/u;

/** How a sentence of English begins that goes on with words: "Some words that come to mind are", "Red makes me think of". */
const english = new RegExp(
  `^(?:(?:when|if|for|as|hearing|seeing|thinking)\\b[^,;]*,\\s*)?(?:${[
    '[^,;]*\\b(?:words?|associations?|associates|things?|terms)\\s+(?:that|which|i|we|people|related|associated|connected|linked)\\b[^,;]*\\b(?:are|is|includes?|would be)',
    'my\\b[^,;]*\\bassociations?\\b[^,;]*\\b(?:are|is|include)',
    'what (?:comes|springs) to (?:my )?mind (?:is|are)',
    '[^,;]*\\b(?:makes? (?:me|us|you|one|people) think of|reminds? (?:me|us|you|one|people) of|brings? to (?:my |the )?mind)',
    '[^,;]*\\b(?:is|are) (?:\\w+ )?associated with',
    "i(?:['’]d| would) say",
    "i(?:['’]d| would| also| often| first| immediately)* (?:think of|associate [^,;]* with)",
  ].join('|')})\\s+(?!as follows|the following|these\\b)`,
  'iu',
);
/** The same of Chinese: "我想到的词有", "红色让我想到", "看到红色我会想到". */
const chinese = new RegExp(
  `^(?:(?:每当|一)?(?:看到|提到|提起|说到|说起|听到|想到|当|对于)[^，,、；]*?(?:[，,]\\s*|(?=我)))?(?:${[
    '(?:我|[^，,、；]*[让使令](?:我|我们|人|人们))(?:就|便|也|总|会|首先|最先|立刻|立即|马上|常常?|还)*(?:联?想到|想起)了?(?!了?的)',
    '(?:我|首先)?[^，,、；]{0,4}联?想到的(?:词语?|词汇|东西|事物)?(?:有|是|包括)',
    '[与和跟][^，,、；]*[相有]关的(?:词语?|词汇|东西|事物)?(?:有|是|包括)',
  ].join('|')})\\s*(?=\\p{Script=Han})`,
  'u',
);

/** Ends of a sentence within a line; "U.S. Army", "Mr. Bean" and "Mrs. Bean" have none. */
const sentenceEnd = /(?<=\p{Ll}{2}[.!])(?<!\b(?:Mrs|Prof|Capt|Sgt|Gen|Rev)\.)\s+(?=\p{Lu})|(?<=[。！])(?=.)/u;

/** After it 和 is no "and" but begins a word: 和平, 和尚, 和服, … */
const word =
  '平谐尚服气睦解蔼弦声约田风好局面善美缓煦牛暖顺乐婉悦合议谈棋亲衷鸣畅盘光颜稀泥数式值而音韵诗药事胃县珅氏纸歌食果室文洋路';
const leadingAnd = new RegExp(`^(?:以及|还有|和(?![${word}]))(?=\\p{Script=Han})`, 'u');
/** Between words of two characters or more, and not within one: 饱和, 共和, 颐和, … */
const innerAnd = new RegExp(
  `^(\\p{Script=Han}{2,})(?:以及|(?<![共饱中柔温缓平总调附维颐雍呼昭亲随谦祥暖义])和(?![${word}]))(\\p{Script=Han}{2,})$`,
  'u',
);

/** Says that a list could go on; 等 ends words too: 平等, 高等, 三六九等, 请稍等, … */
const andSoOn =
  /^(?:etc|et cetera|so (?:on|forth)|等等)$|\s+etc$|(?<=\p{Script=Han}{2})(?<![平高优中头上同对初不相均下次何一二三九劣稍久苦再别])等(?:等|词语?|词汇)?$/iu;

/**
 * The last of three or more parts of a list without "and so on", "热情等", and of a Chinese one without the "and" that it
 * begins with: "和李子", not "和平". Empty where nothing is left.
 */
export function lastPart(part: string): string {
  return part.replace(andSoOn, '').replace(leadingAnd, '');
}

/**
 * The words of a line that lists them in sentences, without a colon: "Some words that come to mind are apple, pear and plum.
 * They are fruit." Sentences that list none are left out. Null for any other line, and for a sentence of fewer than three
 * words where other lines stand beside it (`several`): then it may be an item itself, or an announcement.
 */
export function proseParts(line: string, several: boolean): string[] | null {
  const sentences = line.trim().split(sentenceEnd);
  const words = sentences.flatMap((sentence) => {
    const start = /^\p{Lu}/u.test(sentence) ? english.exec(sentence) : chinese.exec(sentence);
    return start ? wordsOf(sentence.slice(start[0].length)) : [];
  });
  return words.length < (several ? 3 : 1) ? null : words;
}

/** Parts of what follows; the last "and" of a whole sentence parts two words, unless others have an "and" as well. */
function wordsOf(list: string): string[] {
  const ended = /[.。!！]\s*$/u.test(list);
  const parts = list
    .replace(/[.。!！\s]+$/u, '')
    .split(separators)
    .map((part) => part.trim())
    .filter((part) => part !== '');
  const last = parts.at(-1) ?? '';
  if (!ended || parts.length < 2 || parts.slice(0, -1).some((part) => /\sand\s/iu.test(part))) return parts;
  const two =
    innerAnd.exec(last) ?? (/\sand\s.*\sand\s/iu.test(last) ? null : /^(?!and\s)(.+)\sand\s(.+)$/iu.exec(last));
  return two ? [...parts.slice(0, -1), two[1], two[2]] : parts;
}

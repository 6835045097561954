import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { loadMiniNorms } from '../../datasets/mini-norms.js';
import {
  isRefusal,
  parseAssociates,
  precisionAtK,
  rankCorrelation,
  scoreAssociations,
} from '../../src/evaluate/association.js';

interface GoldenPrecision {
  input: { predicted: string[]; gold: string[]; ks: number[] };
  expected: Record<string, number>;
}

test('precision at K equals the golden figures exactly', () => {
  const file = new URL('../fixtures/metrics.json', import.meta.url);
  const golden: { precision_at_k: GoldenPrecision[] } = JSON.parse(readFileSync(file, 'utf8'));
  expect(golden.precision_at_k.length).toBeGreaterThan(0);
  for (const { input, expected } of golden.precision_at_k) {
    for (const k of input.ks) expect(precisionAtK(input.predicted, input.gold, k)).toBe(expected[k]);
  }
});

test('precision counts distinct words against all associates and missing predictions as misses', () => {
  expect(precisionAtK(['Blood ', 'blood', 'rose', 'x'], ['blood', 'apple', 'ROSE'], 3)).toBe(2 / 3);
  expect(precisionAtK(['blood'], ['blood', 'rose'], 5)).toBe(0.2);
  expect(precisionAtK([], ['blood'], 5)).toBe(0);
});

test.each([
  ['commas', ' blood, Rose,  wedding   dress,', ['blood', 'rose', 'wedding dress']],
  ['Chinese commas', '国旗，血、灯笼,春节；红包。', ['国旗', '血', '灯笼', '春节', '红包']],
  ['a numbered list', '1. blood\n2) rose\n(3) apple\n10: stop', ['blood', 'rose', 'apple', 'stop']],
  ['numbers with an enumeration comma', '1、国旗\n2、血', ['国旗', '血']],
  ['numbers within a line', '1. blood, 2. rose, 3) apple', ['blood', 'rose', 'apple']],
  ['bullets and emphasis', '- **blood**\n* rose\n• "apple"\r\n– stop', ['blood', 'rose', 'apple', 'stop']],
  ['repeats, gaps and the cue', 'blood, , red, Blood, rose, blood', ['blood', 'rose']],
  [
    'words with digits, hyphens and apostrophes',
    "t-shirt, 3d film, mp3, child's play",
    ['t-shirt', '3d film', 'mp3', "child's play"],
  ],
  ['nothing', ' \n, 、', []],
  ['what leads in', 'Here are some words: blood, rose', ['blood', 'rose']],
  ['a lead-in on its own line', 'Sure! Words for "red":\n1. blood\n2. rose', ['blood', 'rose']],
  ['a Chinese lead-in', '联想词：血，玫瑰', ['血', '玫瑰']],
  [
    'explanations in a list',
    '1. **Blood** – what flows\n2. rose: a flower\n- apple (fruit)',
    ['blood', 'rose', 'apple'],
  ],
  ['a JSON list', '["blood", "rose",\n "apple"]', ['blood', 'rose', 'apple']],
  ['a JSON object in a fence', '```json\n{"words": ["blood", "rose"]}\n```', ['blood', 'rose']],
  ['a last and', 'blood, rose, and apple', ['blood', 'rose', 'apple']],
  ['and as a beginning', 'and so on, rock and roll', ['and so on', 'rock and roll']],
  ['Chinese parted by spaces', '血 玫瑰 苹果', ['血', '玫瑰', '苹果']],
  ['numbers as words', '7, 1984, 3d', ['7', '1984', '3d']],
  ['a refusal', "I'm sorry, but I can't help with blood, rose", []],
  ['a courtesy before the lead-in', 'Sure, here are words: blood, rose', ['blood', 'rose']],
  ['another', 'Sure, words: blood, rose', ['blood', 'rose']],
  ['a Chinese courtesy', '当然，以下是十个词：血，玫瑰', ['血', '玫瑰']],
  ['a cut Chinese lead-in', '当然，以下是…：血，玫瑰', ['血', '玫瑰']],
  ['two Chinese courtesies', '好的，没问题，我想到的有：血、玫瑰', ['血', '玫瑰']],
  ['a person that leads in', 'As someone from the United States, I would say: blood, rose', ['blood', 'rose']],
  ['a lead-in of many commas', 'When I think of a colour, any, even red, I think of: blood, rose', ['blood', 'rose']],
  ['a sentence on its own line', 'Here are ten words that come to mind\nblood, rose', ['blood', 'rose']],
  ['it above a numbered list', 'Here are ten words that come to mind\n\n1. blood\n2. rose', ['blood', 'rose']],
  ['courtesy and sentence on their own line', 'Sure, here are the words:\n1. blood\n2. rose', ['blood', 'rose']],
  ['it without a colon', 'Sure, here are the words\nblood\nrose', ['blood', 'rose']],
  ['an exclamation', 'Sure! Blood, rose', ['blood', 'rose']],
  ['an exclamation on its own line', 'Sure!\nHere are ten associations\n- blood\n- rose', ['blood', 'rose']],
  ['a Chinese sentence on its own line', '好的！\n以下是我想到的词语\n1. 血\n2. 玫瑰', ['血', '玫瑰']],
  ['a heading', '## Associations\n**Words for red:**\nblood, rose', ['blood', 'rose']],
  ['a heading in bold before words', '**Words:** blood, rose', ['blood', 'rose']],
  ['words in bold', '**blood**, **rose**', ['blood', 'rose']],
  ['words in bold, explained', '**Blood**: what flows\n**Rose** - a flower', ['blood', 'rose']],
  ['a promise on its own line', 'Sure, I can help with that!\n\nblood, rose', ['blood', 'rose']],
  ['a Chinese explanation', '1. 血——红色，流动\n2. 玫瑰：花', ['血', '玫瑰']],
  ['what was thought before', '<think>\nRed, hm: sky, sea.\n</think>\n\nblood, rose', ['blood', 'rose']],
  ['a thought that was cut', '<think>\nRed, hm: sky, sea', []],
  ['a gloss with commas', '1. blood (red, wet)\n2. rose', ['blood', 'rose']],
  ['glosses in a row', 'blood (red, wet), rose（花，红色）, apple', ['blood', 'rose', 'apple']],
  ['a gloss in what leads in', 'Words (strongest first, ten): blood, rose', ['blood', 'rose']],
  ['numbers in one line', '1. blood 2. rose 3) apple', ['blood', 'rose', 'apple']],
  [
    'numbers in one line behind a lead-in',
    'Sure, here are three: 1. blood, 2. rose; (3) apple',
    ['blood', 'rose', 'apple'],
  ],
  ['Chinese numbers in one line', '1、血 2、玫瑰，3、苹果', ['血', '玫瑰', '苹果']],
  ['explanations in one numbered line', '1. blood – it flows, red 2. rose: a flower', ['blood', 'rose']],
  ['a number that is no numbering', '1. catch 22, half past 2.5\n2. rose', ['catch 22', 'half past 2.5', 'rose']],
  ['courtesies as words', 'sure, certain, safe', ['sure', 'certain', 'safe']],
  ['them in lines', 'here\nsure\nok\n下面\n当然', ['here', 'sure', 'ok', '下面', '当然']],
  ['them in the midst', 'there, here, of course, 当然', ['there', 'here', 'of course', '当然']],
  ['here as a cue’s first word', 'here, there, now', ['here', 'there', 'now']],
  ['a colon in the midst of a list', 'blood, rose, star wars: a new hope', ['blood', 'rose', 'star wars: a new hope']],
  ['a list that ends in a colon', 'blood, rose, apple: ', ['blood', 'rose', 'apple']],
  ['a lead-in that nothing follows', 'Sure, here are the words:', []],
  ['long words of a list', 'made of metal, used to cut\nsharp', ['made of metal', 'used to cut', 'sharp']],
  ['times', 'morning, 7:30', ['morning', '7:30']],
  [
    'a list behind a reservation',
    'As an AI language model, I have no associations, but here are some: blood, rose',
    ['blood', 'rose'],
  ],
  [
    'it in lines',
    "I'm sorry, as an AI I can't feel, but I try.\nHere are some words people give:\n1. blood\n2. rose",
    ['blood', 'rose'],
  ],
])('reads %s', (_, text, words) => {
  expect(parseAssociates(text, 'Red')).toEqual(words);
});

const fruit = ['apple', 'pear', 'plum'];
const obst = ['苹果', '梨子', '李子'];
/** Sentences that list words without a colon. */
test.each([
  ['Some words that come to mind are apple, pear and plum.', fruit],
  ['Some words that come to mind are apple, pear, and plum.', fruit],
  ['The words I associate with red are apple, pear and plum', ['apple', 'pear and plum']], // cut: who knows how it ends
  ['Words related to "red" include apple, pear and plum.', fruit],
  ['The first things that come to mind when I hear red are apple, pear and plum!', fruit],
  ['My first associations with red are apple, pear and plum.', fruit],
  ['What comes to mind is apple, pear and plum.', fruit],
  ['When I think of red, I think of apple, pear and plum.', fruit],
  ['As someone from the United States, I would say apple, pear and plum.', fruit],
  ['Sure! Red makes me think of apple, pear and plum.', fruit],
  ['Of course, red reminds me of apple, pear and plum.', fruit],
  ['red reminds me of apple, pear and plum', ['red reminds me of apple', 'pear and plum']], // no sentence
  ['I associate red with apple, pear and plum. These are all fruits.', fruit],
  ['Red is a strong color. It makes me think of apple, pear and plum.', fruit],
  [
    'I think of apple, pear and plum. I also think of the U.S. Army, Mr. Bean, and tea.',
    [...fruit, 'the u.s. army', 'mr. bean', 'tea'],
  ],
  ['I think of apple, pear and plum.\nI also think of stones, trees and wood.', [...fruit, 'stones', 'trees', 'wood']],
  ['The word that comes to mind is apple.', ['apple']],
  // An "and" that is not the sentence's own.
  ['I think of bread, butter, and salt and pepper.', ['bread', 'butter', 'salt and pepper']],
  ['I think of bread and butter, tea, salt and pepper.', ['bread and butter', 'tea', 'salt and pepper']],
  ['I think of bread, tea, salt and pepper and oil.', ['bread', 'tea', 'salt and pepper and oil']],
  ['Here are some: bread, butter, salt and pepper.', ['bread', 'butter', 'salt and pepper']],
  ['bread, butter, salt and pepper', ['bread', 'butter', 'salt and pepper']],
  ['Bread, butter, salt and pepper.', ['bread', 'butter', 'salt and pepper']],
  // Items that hold such words.
  ['i think of you, love, heart', ['i think of you', 'love', 'heart']],
  ['Words, things that are, my mind', ['words', 'things that are', 'my mind']],
  ['Love\nI think of you\nHeart', ['love', 'i think of you', 'heart']],
  ['words that hurt, things to do, associations', ['words that hurt', 'things to do', 'associations']],
  ['Words that come to mind are as follows\n- apple\n- pear', ['apple', 'pear']],
  // Chinese.
  ['我想到苹果、梨子和李子。', obst],
  ['我会想到苹果、梨子、和李子。', obst],
  ['我想到的词有苹果、梨子以及李子。', obst],
  ['看到红色，我首先想到的是苹果、梨子、李子。', obst],
  ['红色让我联想到苹果、梨子、以及李子。', obst],
  ['与红色相关的词语包括苹果，梨子，还有李子。', obst],
  ['当然，我想到了苹果、梨子和李子。它们都是水果。', obst],
  ['我想到苹果、梨和杏。', ['苹果', '梨和杏']], // like 颐和园
  ['苹果、梨子、和李子', obst],
  ['苹果、梨子、李子、', obst],
  ['苹果、梨子和李子', ['苹果', '梨子和李子']],
  ['战争、鸽子、和平', ['战争', '鸽子', '和平']],
  ['我想到战争、鸽子、和平。', ['战争', '鸽子', '和平']],
  ['我想到鸽子、世界和平。', ['鸽子', '世界和平']],
  ['我想到中国、北京、颐和园。', ['中国', '北京', '颐和园']],
  ['我想到中国、人民共和国。', ['中国', '人民共和国']],
  ['我想到橄榄、不饱和脂肪。', ['橄榄', '不饱和脂肪']],
  ['和尚、和服、和', ['和尚', '和服', '和']],
  ['以及、还有', ['以及', '还有']],
  ['我想到的词\n苹果\n梨子', ['苹果', '梨子']],
  ['看到红色我会想到苹果、梨子和李子。', obst],
  ['一提到红色，我就想到苹果、梨子和李子。', obst],
  ['看到我想到的，苹果，梨子', ['看到我想到的', '苹果', '梨子']],
  ['Red makes people think of apple, pear and plum.', fruit],
  ['The color red is often associated with apple, pear and plum.', fruit],
  ['Some words that are associated with red are apple, pear and plum.', fruit],
  ['红色容易让人联想到苹果、梨子和李子。', obst],
  ['红色让人们想起苹果、梨子、李子。', obst],
  ['让人想到的，苹果，梨子', ['让人想到的', '苹果', '梨子']],
  ['I think of Mrs. Bean, tea, apple and pear.', ['mrs. bean', 'tea', 'apple', 'pear']],
  // What says that a list could go on.
  ['I think of apple, pear, plum, etc.', fruit],
  ['apple, pear, plum etc.', fruit],
  ['apple, pear, plum, and so on.', fruit],
  ['1. apple\n2. pear\n3. plum\n4. etc.', fruit],
  ['so on, etc, so forth, plum', ['so on', 'etc', 'so forth', 'plum']],
  ['红色让我想到苹果、梨子、李子等。', obst],
  ['我想到苹果、梨子和李子等等。', obst],
  ['苹果、梨子、李子，等等', obst],
  ['苹果，梨子，李子等词语。', obst],
  ['自由、平等', ['自由', '平等']],
  ['自由、博爱、男女平等', ['自由', '博爱', '男女平等']],
  ['排队、时间、等', ['排队', '时间', '等']],
  ['电话、医院、请稍等', ['电话', '医院', '请稍等']],
  ['我，想到，联想', ['我', '想到', '联想']],
])('reads the sentence %j', (text, words) => {
  expect(parseAssociates(text, 'Red')).toEqual(words);
  expect(isRefusal(text)).toBe(false);
});

test.each([
  ['en', ['x1', 'x2'], ', ', 'I think of ', ', and ', '.'],
  ['zh', ['甲甲', '乙乙'], '、', '我想到', '、', '。'],
] as const)(
  'every word of the embedded norms can stand last in a list, sentence or not (%s)',
  (language, others, comma, lead, and, stop) => {
    const words = new Set(loadMiniNorms(language).cues.flatMap(({ responses }) => responses.map(({ word }) => word)));
    expect(words.size).toBeGreaterThan(2000);
    for (const word of words) {
      const list = [...others, word];
      expect(parseAssociates(list.join(comma))).toEqual(list);
      expect(parseAssociates(`${lead}${others.join(comma)}${and}${word}${stop}`)).toEqual(list);
    }
  },
);

test.each([
  "I'm sorry, but I think of apple, pear and plum.",
  'As an AI language model, I think of nothing, pear and plum.',
  '我无法想到苹果、梨子和李子。',
])('%j is a refusal still', (text) => {
  expect(isRefusal(text)).toBe(true);
  expect(parseAssociates(text)).toEqual([]);
});

test.each([
  ["I'm sorry, but I cannot do that.", true],
  ['Sorry, I can not give words.', true],
  ["I can't help with that", true],
  ['As an AI language model, I have no associations.', true],
  ['Unfortunately, I am not able to', true],
  ['抱歉，我无法回答这个问题。', true],
  ['作为一个人工智能，我没有联想。', true],
  ["I'm really sorry, but I can't do that.", true],
  ["I'm sorry, I can't.", true],
  ['We are very sorry, but that is not possible.', true],
  ['I apologize, but I have no associations.', true],
  ['I must decline.', true],
  ['I must respectfully decline to answer', true],
  ["I won't answer that.", true],
  ["I'm unable to have associations", true],
  ['As a language model, I have no associations.', true],
  ['As a large language model I do not think of words', true],
  ['作为一个语言模型，我没有联想。', true],
  ['作为一名大型语言模型，我没有感情', true],
  ["I'm just a language model and have no associations", true],
  ['我是一个人工智能，没有联想。', true],
  ["<think>\n\n</think>\n\nI can't help with that.", true],
  ['我无法回答这个问题。', true],
  ['很抱歉，我不能回答。', true],
  ['非常抱歉，但我无法提供', true],
  ['sorry, apology, regret', false],
  ['afraid, fear, dark', false],
  ['unfortunately, sadly', false],
  ['抱歉，道歉，遗憾', false],
  ['我，你，他', false],
  ["I won't, no, deny", false],
  ["I can't", false],
  ["i don't know, maybe, perhaps", false],
  ['i must decline, refuse, no', false],
  ['sorry, but, however', false],
  ['unfortunately, i, you', false],
  ['as a language, as a model', false],
  ['i am a model, a language, a person', false],
  ['我是，你是，他是', false],
  ['我无法，不能，拒绝', false],
  ['很抱歉，遗憾，难过', false],
  ['抱歉，我，你', false],
  ['As an AI I have none, but here are some: blood', false],
  ['作为一个语言模型，我没有联想，但以下是一些词：血', false],
  ['', false],
])('%j: a refusal is %s', (text, refused) => {
  expect(isRefusal(text)).toBe(refused);
});

test('people’s words and answers are compared without stops, quotes and curls', () => {
  const cue = (name: string, words: readonly string[]) => ({
    cue: name,
    responses: words.map((word, i) => ({ word, count: 9 - i })),
  });
  const human = [cue('mr.', ['u.s.a.', "don't", 'yahoo!', '"yes"', '《红楼梦》', '-ing']), cue('x', ['y'])];
  const texts = ['U.S.A., don’t, U.S.A, Yahoo!, “Yes”, 红楼梦…, wait…, wait, Mr, ing', 'y'];
  const [scored] = scoreAssociations(human, texts, [6, 8]);
  expect(scored.predictions).toEqual(['u.s.a', "don't", 'yahoo', 'yes', '红楼梦', 'wait', 'ing']);
  expect(scored.repeated).toBe(2);
  expect(scored.precision).toEqual([5 / 6, 6 / 8]);
  expect(scored.spearman).toBe(1);
});

test('rank correlation is taken over shared words, three at least', () => {
  const human = [
    { word: 'a', count: 9 },
    { word: 'b', count: 5 },
    { word: 'c', count: 5 },
    { word: 'd', count: 1 },
  ];
  expect(rankCorrelation(['a', 'x', 'b', 'd'], human)).toEqual({ spearman: 1, attainable: 1 });
  expect(rankCorrelation(['d', 'b', 'x', 'a'], human)).toEqual({ spearman: -1, attainable: 1 });
  // ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / √(4.5 · 5)
  const best = 4.5 / Math.sqrt(22.5);
  for (const middle of [
    ['b', 'c'],
    ['c', 'b'],
  ]) {
    const { spearman, attainable } = rankCorrelation(['a', ...middle, 'd'], human);
    expect([spearman, attainable]).toEqual([expect.closeTo(best, 12), expect.closeTo(best, 12)]);
  }
  // Reversed, ties reach no further down than up.
  expect(rankCorrelation(['d', 'c', 'b', 'a'], human).spearman).toBeCloseTo(-best, 12);
  expect(rankCorrelation(['a', 'b', 'x'], human)).toEqual({ spearman: null, attainable: null });
  const even = human.map(({ word }) => ({ word, count: 2 }));
  expect(rankCorrelation(['a', 'b', 'c'], even)).toEqual({ spearman: null, attainable: null });
});

test('scores against the own list and another', () => {
  const human = [
    { cue: 'red', responses: [{ word: 'blood', count: 2 }] },
    { cue: 'blue', responses: [{ word: 'sky', count: 2 }] },
  ];
  const [red, blue] = scoreAssociations(human, ['blood, sky, red, Blood', 'sea'], [1, 2]);
  expect(red).toEqual({
    cue: 'red',
    predictions: ['blood', 'sky'],
    repeated: 1,
    precision: [1, 0.5],
    otherPrecision: [0, 0.5],
    spearman: null,
    attainable: null,
    refused: false,
  });
  expect(blue.precision).toEqual([0, 0]);
  const [refusal] = scoreAssociations(human, ["I'm sorry, but blood", 'sky'], [1]);
  expect(refusal).toMatchObject({ refused: true, predictions: [], precision: [0] });
  expect(() => scoreAssociations(human, ['blood'], [5])).toThrow(RangeError);
});

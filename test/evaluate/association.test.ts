import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
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
])('reads %s', (_, text, words) => {
  expect(parseAssociates(text, 'Red')).toEqual(words);
});

test.each([
  ["I'm sorry, but I cannot do that.", true],
  ['Sorry, I can not give words.', true],
  ["I can't help with that", true],
  ['As an AI language model, I have no associations.', true],
  ['Unfortunately, I am not able to', true],
  ['抱歉，我无法回答这个问题。', true],
  ['作为一个人工智能，我没有联想。', true],
  ['sorry, apology, regret', false],
  ['afraid, fear, dark', false],
  ['unfortunately, sadly', false],
  ['抱歉，道歉，遗憾', false],
  ['我，你，他', false],
  ['', false],
])('%j: a refusal is %s', (text, refused) => {
  expect(isRefusal(text)).toBe(refused);
});

test('rank correlation is taken over shared words, three at least', () => {
  const human = [
    { word: 'a', count: 9 },
    { word: 'b', count: 5 },
    { word: 'c', count: 5 },
    { word: 'd', count: 1 },
  ];
  expect(rankCorrelation(['a', 'x', 'b', 'd'], human)).toBe(1);
  expect(rankCorrelation(['d', 'b', 'x', 'a'], human)).toBe(-1);
  // ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / √(4.5 · 5)
  expect(rankCorrelation(['a', 'b', 'c', 'd'], human)).toBeCloseTo(4.5 / Math.sqrt(22.5), 12);
  expect(rankCorrelation(['a', 'b', 'x'], human)).toBeNull();
});

test('scores against the own list and another', () => {
  const human = [
    { cue: 'red', responses: [{ word: 'blood', count: 2 }] },
    { cue: 'blue', responses: [{ word: 'sky', count: 2 }] },
  ];
  const [red, blue] = scoreAssociations(human, ['blood, sky', 'sea'], [1, 2]);
  expect(red).toEqual({
    cue: 'red',
    predictions: ['blood', 'sky'],
    precision: [1, 0.5],
    otherPrecision: [0, 0.5],
    spearman: null,
    refused: false,
  });
  expect(blue.precision).toEqual([0, 0]);
  const [refusal] = scoreAssociations(human, ["I'm sorry, but blood", 'sky'], [1]);
  expect(refusal).toMatchObject({ refused: true, predictions: [], precision: [0] });
  expect(() => scoreAssociations(human, ['blood'], [5])).toThrow(RangeError);
});

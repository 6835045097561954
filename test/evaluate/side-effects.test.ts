import { expect, test } from 'vitest';
import { loadInstructions, loadTexts } from '../../datasets/side-effects.js';
import { type Check, follows, sideEffectChange, summarizeSideEffects } from '../../src/evaluate/side-effects.js';

const followed = (answer: string, ...checks: Check[]) =>
  follows({ id: '', language: 'en', prompt: '', checks }, answer);

test('checks of answers', () => {
  expect(followed(' "Ready." ', { equals: 'ready' })).toBe(true);
  expect(followed('ready now', { equals: 'ready' })).toBe(false);
  expect(followed('lantern', { equals: 'LANTERN', exact: true })).toBe(false);
  expect(followed('Apple, fig', { matches: '^apple,\\s*fig$' })).toBe(true);
  expect(followed('The Grey sea', { includes: ['grey'] }, { words: [3, 3] })).toBe(true);
  expect(followed('The grey', { includes: ['grey'] }, { words: [3, 9] })).toBe(false);
  expect(followed('a maze', { excludes: ['z'] })).toBe(false);
  expect(followed('```json\n{"name": "A", "age": 3}\n```', { json: ['name', 'age'] })).toBe(true);
  expect(followed('{"name": "A"}', { json: ['name', 'age'] })).toBe(false);
  expect(followed('name, age', { json: ['name'] })).toBe(false);
});

test('the embedded instructions can be followed, and are not by silence', () => {
  const answers: Record<string, string> = {
    'en-1': 'Ready',
    'en-2': '42',
    'en-3': 'LANTERN',
    'en-4': 'red, dark green, blue',
    'en-5': 'The sea was grey today.',
    'en-6': 'yes',
    'en-7': '{"name": "Ann", "age": 30}',
    'en-8': '1\n2\n3\n4\n5',
    'en-9': 'A dog is a loyal animal.',
    'en-10': 'The garden is green.',
    'en-11': 'The quick answer is rarely the best.',
    'en-12': '0.9',
    'en-13': 'It is Paris, and that is all.',
    'en-14': 'apple, fig, pear',
    'en-15': 'chat',
    'en-16': 'Because the days get shorter.',
    'zh-1': '收到。',
    'zh-2': '42',
    'zh-3': '苹果，梨，桃子。',
    'zh-4': '炉火照亮了冬夜。',
    'zh-5': '是',
    'zh-6': '巴黎。',
    'zh-7': 'cat',
    'zh-8': '慢慢来，比较快。',
  };
  const instructions = loadInstructions(undefined);
  expect(instructions.map(({ id }) => id)).toEqual(Object.keys(answers));
  for (const instruction of instructions) {
    expect(follows(instruction, answers[instruction.id]), instruction.id).toBe(true);
    expect(follows(instruction, ''), instruction.id).toBe(false);
  }
  expect(loadTexts('zh').length).toBe(6);
  expect(() => loadTexts('fr')).toThrow(/only in en and zh/);
});

test('perplexity is over all tokens, its factor paired by text', () => {
  const texts = [
    { tokens: 10, nll: 20 },
    { tokens: 30, nll: 30 },
  ];
  const before = { texts, followed: [true, false] };
  expect(summarizeSideEffects(texts, before.followed).perplexity.mean).toBeCloseTo(Math.exp(50 / 40), 12);
  expect(summarizeSideEffects(texts, before.followed).followed.mean).toBe(0.5);
  const after = {
    texts: texts.map(({ tokens, nll }) => ({ tokens, nll: nll + tokens * Math.log(2) })),
    followed: [true, true],
  };
  const { perplexityFactor, followed: change } = sideEffectChange(before, after);
  expect(perplexityFactor.mean).toBeCloseTo(2, 12);
  expect(change.mean).toBe(0.5);
  // Both texts rise, whatever their length: 2 of the 4 signs.
  expect([perplexityFactor.test, change.test]).toMatchObject([
    { n: 2, p: 0.5, effect: 1 },
    { n: 1, p: 1 },
  ]);
});

test('the interval of perplexity tells how texts differ by token, not how long they are', () => {
  const lengths = [20, 30, 50, 80, 120, 200, 300, 500, 800, 1000];
  const even = (rate: number) => lengths.map((tokens) => ({ tokens, nll: rate * tokens }));
  const run = (rate: number) => ({ texts: even(rate), followed: [true] });
  const { perplexity } = summarizeSideEffects(even(3), [true]);
  for (const bound of [perplexity.low, perplexity.mean, perplexity.high]) expect(bound).toBeCloseTo(Math.exp(3), 10);
  const { perplexityFactor: factor } = sideEffectChange(run(3), run(3.1));
  for (const bound of [factor.low, factor.mean, factor.high]) expect(bound).toBeCloseTo(Math.exp(0.1), 10);
  expect(factor.test).toMatchObject({ n: 10, p: 2 / 1024, effect: 1 });

  // 1 nat a token over 10, 4 over 90: a draw of one text twice is at either, in a quarter of the cases each.
  const two = [
    { tokens: 10, nll: 10 },
    { tokens: 90, nll: 360 },
  ];
  const apart = summarizeSideEffects(two, [true]).perplexity;
  expect([apart.low, apart.mean, apart.high].map(Math.log)).toEqual(
    [1, 3.7, 4].map((nats) => expect.closeTo(nats, 12)),
  );
  // A short text that rises by 2 nats a token against nine long ones that fall by 1: ranks 10 against 1 to 9, tied at 5.
  const mixed = lengths.map((tokens, i) => ({ tokens, nll: (i === 0 ? 5 : 2) * tokens }));
  const { perplexityFactor: split } = sideEffectChange(run(3), { texts: mixed, followed: [true] });
  expect(Math.log(split.mean)).toBeCloseTo((2 * 20 - 3080) / 3100, 12);
  expect(split.test).toMatchObject({ n: 10, statistic: 10 });
});

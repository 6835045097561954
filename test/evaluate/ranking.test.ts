import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseRanking, rankingReward, strictRankingReward } from '../../src/evaluate/ranking.js';
import { moduleReward, namedReward, type RewardSample } from '../../src/evaluate/rewards.js';

interface GoldenReward {
  readonly input: { predicted?: string[]; text?: string; human: string[]; language?: 'en' | 'zh' };
  readonly expected: number;
}
const golden: GoldenReward[] = JSON.parse(readFileSync(new URL('../fixtures/rewards.json', import.meta.url), 'utf8'));
const rewards = {
  rank: namedReward('rank', { coverageK: 0 }),
  'strict-rank': namedReward('strict-rank', { coverageK: 0 }),
};
const sample = (answer: string, ranking: string[], language: 'en' | 'zh' = 'en'): RewardSample => ({
  answer,
  ranking,
  counts: null,
  language,
  cue: 'cue',
  messages: [],
});

describe('the published reward', () => {
  it.each(golden)('of %o', async ({ input: { predicted, text, human, language }, expected }) => {
    if (predicted) expect(rankingReward(predicted, { ranking: human })).toBe(expected);
    else expect((await rewards.rank(sample(text!, human, language))).score).toBe(expected);
  });
});

describe('the strict reward', () => {
  const human = { ranking: ['wolf', 'fur', 'moon', 'pack'], counts: null };
  it('is the correlation of a whole ranking', () => {
    expect(strictRankingReward(['Wolf', 'fur', 'MOON', 'pack'], human)).toBe(1);
    expect(strictRankingReward(['pack', 'moon', 'fur', 'wolf'], human)).toBe(-1);
    expect(strictRankingReward(['fur', 'wolf', 'moon', 'pack'], human)).toBe(0.8);
  });
  it('is −1 for anything else', () => {
    for (const predicted of [
      [],
      ['wolf'],
      ['wolf', 'fur', 'moon'],
      ['wolf', 'fur', 'moon', 'moon'],
      ['wolf', 'fur', 'moon', 'cat'],
      ['wolf', 'fur', 'moon', 'pack', 'cat'],
      ['wolf', 'fur', 'moon', 'pack', 'wolf'],
    ])
      expect(strictRankingReward(predicted, human)).toBe(-1);
  });
  it('lets words of one count share a rank', () => {
    // Ranks 1, 2.5, 2.5, 4: of (1, 2.5, 2.5, 4) and (1, 2, 3, 4) Pearson's correlation is 4.5 / √(4.5 · 5).
    const tied = { ...human, counts: [9, 4, 4, 1] };
    for (const middle of [
      ['fur', 'moon'],
      ['moon', 'fur'],
    ])
      expect(strictRankingReward(['wolf', ...middle, 'pack'], tied)).toBeCloseTo(4.5 / Math.sqrt(4.5 * 5), 12);
    expect(strictRankingReward(['wolf', 'moon', 'fur', 'pack'], human)).toBe(0.8);
  });
  it('compares words without what stands around them, on both sides', () => {
    const quoted = { ranking: ['《红楼梦》', 'etc.', 'USA'], counts: null };
    const answer = '最终排名：\n排名1：《红楼梦》\n排名2：etc.\n排名3：USA';
    expect(strictRankingReward(parseRanking(answer, 'zh')!, quoted)).toBe(1);
    expect(rankingReward(parseRanking(answer, 'zh')!, quoted)).toBe(1);
  });
});

describe('an answer', () => {
  it('is read after its last heading, by rank, the first of equal ranks', () => {
    const text = 'Final Ranking: Rank 1: a\nFINAL RANKING\n- Rank 2 : "b c".\n*Rank 1:* **A**, Rank 3: d\nRank 2: e';
    expect(parseRanking(text, 'en')).toEqual(['a', 'b c', 'd']);
    expect(parseRanking('最终排名：\n排名 2: 乙。\n排名１：甲，排名3：丙', 'zh')).toEqual(['甲', '乙', '丙']);
    expect(parseRanking('最终排名\n排名1：「甲」、排名2：乙', 'zh')).toEqual(['甲', '乙']);
  });
  it('without heading or ranks is none, and counted so', async () => {
    for (const text of [
      '',
      'Rank 1: a',
      'Final Ranking: a, b',
      'Rank 1: a\nFinal Ranking:',
      'Final Ranking:\nRank 1: **',
    ])
      expect(parseRanking(text, 'en')).toBeNull();
    expect(parseRanking('Final Ranking:\nRank 1: a', 'zh')).toBeNull();
    expect(await rewards['strict-rank'](sample('no', ['a', 'b']))).toEqual({ score: -1, parsed: false });
    expect(await rewards['strict-rank'](sample('Final Ranking: Rank 1: a', ['a', 'b']))).toEqual({
      score: -1,
      parsed: true,
    });
  });
});

describe('other rewards', () => {
  it('coverage is P@K against the human list, of as many words as that has or as asked for', async () => {
    const people = ['wolf', 'fur', 'moon', 'pack'];
    const score = async (coverageK: number, answer: string, ranking = people) =>
      namedReward('coverage', { coverageK })(sample(answer, ranking));
    expect(await score(0, 'fur, moon, cue, cat')).toEqual({ score: 2 / 4, parsed: true });
    // The cue is no word of the list, and what is said twice counts once.
    expect(await score(3, 'cue, Fur, fur, cat, moon, wolf')).toEqual({ score: 2 / 3, parsed: true });
    expect(await score(1, 'cat, fur')).toEqual({ score: 0, parsed: true });
    expect(await score(5, 'fur, moon')).toEqual({ score: 2 / 5, parsed: true });
    expect(await score(0, ' … ', ['wolf'])).toEqual({ score: 0, parsed: false });
  });
  it('a module may give a number, an object, or promises of them', async () => {
    const ask = (value: unknown) => moduleReward('mine.mjs', () => value)(sample('', []));
    expect(await ask(0.5)).toEqual({ score: 0.5, parsed: true });
    expect(await ask(Promise.resolve({ score: -2, parsed: false }))).toEqual({ score: -2, parsed: false });
    for (const value of [Number.NaN, '1', undefined, null, {}, { score: 1, parsed: 'no' }])
      await expect(ask(value)).rejects.toThrow(/^mine\.mjs gave /);
    const people = ['wolf', 'fur'];
    const sorting = moduleReward('mine.mjs', ({ ranking }) => (ranking as string[]).sort().indexOf('wolf'));
    expect(await sorting(sample('', people))).toEqual({ score: 1, parsed: true });
    expect(people).toEqual(['wolf', 'fur']); // the next answer's too
    const throwing = moduleReward('mine.mjs', () => {
      throw new TypeError('oops');
    });
    await expect(throwing(sample('', []))).rejects.toThrow('mine.mjs threw: oops');
  });
});

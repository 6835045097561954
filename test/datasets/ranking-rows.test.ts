import { expect, it } from 'vitest';
import { loadMiniNorms } from '../../datasets/mini-norms.js';
import { splitByCue } from '../../datasets/norms.js';
import { rankingRows } from '../../datasets/ranking-rows.js';
import { parseRanking, strictRankingReward } from '../../src/evaluate/ranking.js';
import { LEXI_BASE_RANKING_PROMPTS, RANKING_PROMPTS, rankingAnswer } from '../../src/text/prompts.js';

it.each(['en', 'zh'] as const)(
  'questions about %s cues show k associates shuffled, and keep their order',
  (language) => {
    const norms = loadMiniNorms(language);
    const [train, test] = splitByCue(norms, [0.7, 0.3], 42);
    const options = { prompt: RANKING_PROMPTS[language], k: 10, questions: 3, seed: 1 };
    const { rows, skipped } = rankingRows(train, options);
    expect(rows.length).toBe(3 * (train.cues.length - skipped));
    const separator = language === 'en' ? ', ' : '，';
    let asShown = 0;
    for (const { messages, ranking, cue } of rows) {
      const order = train.cues.find((one) => one.cue === cue)!.responses.map(({ word }) => word);
      const places = ranking.map((word) => order.indexOf(word));
      expect(places).toEqual([...new Set(places)].sort((a, b) => a - b));
      const shown = messages
        .at(-1)!
        .content!.split(/Words: |词语：/)
        .at(-1)!
        .split(separator);
      expect([...shown].sort()).toEqual([...ranking].sort());
      if (shown.join() === ranking.join()) asShown++;
      // What varies stands last.
      expect(messages.at(-1)!.content).toMatch(new RegExp(`(Cue word: |提示词：)${cue}\n.+$`));
    }
    expect(asShown).toBeLessThan(3);
    expect(new Set(rows.slice(0, 3).map(({ ranking }) => ranking.join())).size).toBe(3);
    expect(rankingRows(train, options)).toEqual({ rows, skipped, unaskable: 0 });
    const cues = new Set(rows.map(({ cue }) => cue));
    expect(rankingRows(test, options).rows.some(({ cue }) => cues.has(cue))).toBe(false);
  },
);

it('cues with fewer than k associates are left out and counted', () => {
  const cue = (name: string, words: number) => ({
    cue: name,
    responses: Array.from({ length: words }, (_, i) => ({ word: `${name}${i}`, count: 9 - i })),
  });
  const norms = { language: 'en', cues: [cue('a', 3), cue('b', 4), cue('{cue}', 5)] } as const;
  const { rows, skipped } = rankingRows(norms, {
    prompt: LEXI_BASE_RANKING_PROMPTS.en,
    k: 4,
    questions: 1,
    seed: 1,
  });
  expect(skipped).toBe(1);
  expect(rows.map((row) => row.cue)).toEqual(['b', '{cue}']);
  expect(rows[1].messages[0].content).toMatch(/^Cue: \{cue\}\nWords: (\{cue\}\d, ){3}\{cue\}\d$/);
});

it('words are never all of one count, and none would be two words in a question', () => {
  const counts = [5, 1, 1, 1, 1, 1, 1, 1];
  const words = ['first', 'a', 'b', 'c', 'd', 'e', 'ship, boat', '“a”'];
  const tied = { cue: 'tied', responses: words.map((word) => ({ word, count: 1 })) };
  const norms = {
    language: 'en',
    cues: [{ cue: 'x', responses: words.map((word, i) => ({ word, count: counts[i] })) }, tied],
  };
  const made = rankingRows(norms, { prompt: LEXI_BASE_RANKING_PROMPTS.en, k: 2, questions: 20, seed: 1 });
  expect(made).toMatchObject({ skipped: 1, unaskable: 2 });
  expect(made.rows).toHaveLength(20);
  for (const row of made.rows) {
    expect([row.ranking[0], row.counts]).toEqual(['first', [5, 1]]);
    expect('abcde').toContain(row.ranking[1]);
  }
});

it.each(['en', 'zh'] as const)('an answer in the form asked for is read back: %s', (language) => {
  const words = ['甲', 'b c', '“d”', 'St. e.'];
  const answer = parseRanking(rankingAnswer(language, words), language)!;
  expect(strictRankingReward(answer, { ranking: words, counts: null })).toBe(1);
});

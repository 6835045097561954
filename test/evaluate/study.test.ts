import { describe, expect, it } from 'vitest';
import { rankingGain, scoreRankings, summarizeRankings } from '../../src/evaluate/ranking-summary.js';
import { type StudyAnswers, type StudyCultureAnswers, summarizeStudy } from '../../src/evaluate/study.js';
import { cultureResults } from '../../src/evaluate/study-results.js';
import { studyTables } from '../../src/evaluate/study-tables.js';
import type { SurveyAnswer, SurveyQuestion } from '../../src/evaluate/survey.js';

const ranks = (...words: string[]) => `Final Ranking:\n${words.map((word, i) => `Rank ${i + 1}: ${word}`).join('\n')}`;
const questions = Array.from({ length: 4 }, () => ({
  ranking: ['a', 'b', 'c'],
  counts: null,
  cue: 'letter',
  language: 'en' as const,
}));

describe('rankings', () => {
  const answers = [ranks('a', 'b', 'c'), ranks('c', 'b', 'a'), ranks('a', 'b'), 'a, b, c'];

  it('count form and order apart: the correlation is of whole rankings alone', () => {
    const scores = scoreRankings(questions, answers);
    expect(scores).toEqual([
      { parsed: true, spearman: 1, attainable: 1 },
      { parsed: true, spearman: -1, attainable: 1 },
      { parsed: true, spearman: null, attainable: 1 },
      { parsed: false, spearman: null, attainable: 1 },
    ]);
    const summary = summarizeRankings(scores);
    expect([summary.parsed.mean, summary.whole.mean]).toEqual([0.75, 0.5]);
    expect(summary.spearman).toMatchObject({ mean: 0, n: 2 });
    expect(summary.reward).toMatchObject({ mean: (1 - 1 - 1 - 1) / 4, n: 4 });
  });

  it('tell what people’s own order scores where their counts tie', () => {
    // Ranks 1, 2.5, 2.5 against 1, 2, 3: 1.5 / √(1.5 · 2). Where all tie nothing is to be had.
    const tied = [
      [9, 4, 4],
      [5, 3, 1],
      [2, 2, 2],
      [9, 9, 1],
    ].map((counts) => ({ ...questions[0], counts }));
    const scores = scoreRankings(tied, [ranks('a', 'c', 'b'), ranks('b', 'a', 'c'), ranks('a', 'b', 'c'), 'a']);
    expect(scores.map(({ attainable }) => attainable?.toFixed(6) ?? null)).toEqual([
      (1.5 / Math.sqrt(3)).toFixed(6),
      '1.000000',
      null,
      (1.5 / Math.sqrt(3)).toFixed(6),
    ]);
    // Of the whole rankings alone: 0.866 and 1; the third, of which no order is better, scores -1 as it did.
    expect(summarizeRankings(scores).attainable).toBeCloseTo((1.5 / Math.sqrt(3) + 1) / 2, 12);
    expect(summarizeRankings(scores.slice(3)).attainable).toBeNull();
  });

  it('know a word twice, or one of another list, as no whole ranking', () => {
    expect(scoreRankings(questions.slice(0, 2), [ranks('a', 'b', 'b'), ranks('a', 'b', 'd')])).toEqual([
      { parsed: true, spearman: null, attainable: 1 },
      { parsed: true, spearman: null, attainable: 1 },
    ]);
  });

  it('gain in pairs: the reward over all, the correlation where both are whole', () => {
    const before = scoreRankings(questions, ['', ranks('c', 'b', 'a'), ranks('b', 'a', 'c'), '']);
    const gain = rankingGain(before, scoreRankings(questions, answers));
    expect(gain.reward.mean).toBeCloseTo((2 + 0 - 1.5 + 0) / 4, 12);
    expect(gain.reward.test).toMatchObject({ n: 2, statistic: 1, p: 1 });
    expect(gain.spearman).toMatchObject({ mean: 0, n: 1 });
    expect(
      rankingGain(scoreRankings(questions, ['', '', '', '']), scoreRankings(questions, answers)).spearman,
    ).toBeNull();
  });

  it('of one cue are first averaged, so that intervals are over cues', () => {
    const cues = ['x', 'x', 'y', 'x'];
    const scores = scoreRankings(questions, answers);
    const summary = summarizeRankings(scores, 42, cues);
    expect(summary.parsed).toMatchObject({ mean: (2 / 3 + 1) / 2, n: 2 });
    expect(summary.whole).toMatchObject({ mean: (2 / 3 + 0) / 2, n: 2 });
    expect(summary.spearman).toMatchObject({ mean: 0, n: 1 }); // 1 and −1 of x; y has no whole ranking
    expect(summary.reward).toMatchObject({ mean: ((1 - 1 - 1) / 3 - 1) / 2, n: 2 });
    const best = scoreRankings(questions, new Array(4).fill(ranks('a', 'b', 'c')));
    const gain = rankingGain(scores, best, 42, cues);
    expect(gain.spearman).toMatchObject({ mean: (0 + 2) / 2, n: 1 });
    expect(gain.reward.mean).toBeCloseTo(((0 + 2 + 2) / 3 + 2) / 2, 12);
  });
});

describe('a study', () => {
  const human = ['red', 'sea'].map((cue, i) => ({
    cue,
    responses: [
      ['blood', 'fire', 'rose'],
      ['wave', 'ship', 'salt'],
    ][i].map((word) => ({ word, count: 1 })),
  }));
  const model = (id: string, of: string | null, lists: string[]): StudyAnswers => ({
    id,
    name: id,
    seed: null,
    adapter: of && `adapters/${of}`,
    of,
    lists,
    rankings: of === 'us' || of === null ? [ranks('a', 'b', 'c'), of ? ranks('c', 'a', 'b') : ''] : null,
    survey: null,
    sideEffects: null,
  });
  const culture = (name: string, models: StudyAnswers[]): StudyCultureAnswers => ({
    name,
    language: 'en',
    human,
    questions: questions.slice(0, 2),
    lexicon: null,
    surveyed: null,
    models,
  });
  const cultures = [
    culture('us', [
      model('base', null, ['x', 'wave']),
      model('sft', 'us', ['blood', 'wave']),
      model('adapter-of-cn', 'cn', ['x', 'y']),
    ]),
    culture('cn', [
      model('base', null, ['x', 'y']),
      model('sft', 'cn', ['fire', 'y']),
      model('adapter-of-us', 'us', ['x', 'y']),
    ]),
  ];
  const settings = { ks: [1], highTension: 5, seed: 42 };
  const study = summarizeStudy(cultures, settings);

  it('has a line for the base and each of a culture’s own models, with gains over the base', () => {
    const [us] = study.cultures;
    expect(us.variants.map(({ id }) => id)).toEqual(['base', 'sft']);
    expect(us.variants[0].gains).toBeNull();
    expect(us.variants[1].gains?.[0].aboveOther.mean).toBe(0.5);
    expect(us.variants[1].ranking?.whole.mean).toBe(1);
    expect(us.variants[1].rankingGain?.reward.mean).toBeCloseTo((0 + 0.5) / 2, 12);
  });

  it('tells what a training gained over the one that it went on from, paired', () => {
    const trained = [
      model('base', null, ['x', 'y']),
      model('sft', 'us', ['blood', 'wave']),
      { ...model('sft-ppo', 'us', ['blood', 'y']), startedFrom: 'sft', rankings: [ranks('b', 'a', 'c'), ''] },
    ];
    const stepped = summarizeStudy([culture('us', trained)], settings);
    const [step] = stepped.cultures[0].steps;
    expect(step).toMatchObject({ name: 'sft-ppo', startedFrom: 'sft' });
    // From both words to one of two; rewards from 1 and −0.5 to 0.5 and −1.
    expect(step.aboveOther).toMatchObject([{ mean: -0.5, low: -1, high: 0, n: 2 }]);
    expect(step.reward).toMatchObject({ mean: -0.5, low: -0.5, high: -0.5, n: 2 });
    // Both whole on the first cue alone, from 1 to 0.5: the form that the second lost counts for nothing.
    expect(step.spearman).toMatchObject({ mean: -0.5, n: 1, test: { n: 1 } });
    const [association, ranking, order] = studyTables(stepped);
    const blank = ['–', '–', '–', '–', '–', '–'];
    expect(association.rows.at(-1)).toEqual([
      'sft-ppo over sft',
      '–',
      '–',
      '-50.0',
      '[-100.0, 0.0]',
      '1.000 (n 1)',
      ...blank,
    ]);
    // Two cues that fall alike: 2 of the 4 signs.
    expect(ranking.rows.at(-1)?.slice(-3)).toEqual(['-0.500', '[-0.500, -0.500]', '0.500']);
    expect(ranking.rows.map((row) => row.at(-1))).toEqual(['–', '1.000 (n 1)', '1.000 (n 1)', '0.500']);
    expect(order.rows).toEqual([
      ['base', '1.000', '[1.000, 1.000]', '1.000', '1', '–', '–', '–', '–'],
      ['sft', '0.250', '[-0.500, 1.000]', '1.000', '2', '0.000', '[0.000, 0.000]', '1.000 (n 0)', '1'],
      ['sft-ppo', '0.500', '[0.500, 0.500]', '1.000', '1', '-0.500', '[-0.500, -0.500]', '1.000', '1'],
      ['sft-ppo over sft', '–', '–', '–', '–', '-0.500', '[-0.500, -0.500]', '1.000', '1'],
    ]);
    for (const { head, rows } of [association, ranking, order])
      for (const row of rows) expect(row).toHaveLength(head.length);
    expect(study.cultures[0].steps).toEqual([]);
  });

  it('crosses models and cultures, and tells whether adapters are distinct', () => {
    expect(study.matrix.map(({ model: name, cells }) => [name, ...cells.map(({ mean }) => mean)])).toEqual([
      ['base', 0.5, 0],
      ['us', 1, 0],
      ['cn', 0, 0.5],
    ]);
    const [{ cultures: pair, crossGap: gaps, lists, survey }] = study.distances;
    expect(pair).toEqual(['us', 'cn']);
    expect(gaps.map(({ mean }) => mean)).toEqual([1, 0.5]);
    expect(lists.map(({ mean }) => mean)).toEqual([1, 0.5]);
    expect(survey).toEqual({ crossGap: [null, null], before: null, after: null, people: null });
    expect(study.surveyMatrix.map(({ cells }) => cells)).toEqual([
      [null, null],
      [null, null],
      [null, null],
    ]);
  });

  it('crosses models and cultures in the survey too, each asked its own questions', () => {
    const question = (id: string, here: number[], there: number[]): SurveyQuestion => ({
      ...{ id, language: 'en', question: id },
      options: here.map((_, i) => ({ code: String(i), text: String(i) })),
      countries: { USA: { shares: here, n: 1 }, CHN: { shares: there, n: 1 } },
    });
    const q1 = question('q1', [1, 0], [0, 1]);
    const q2 = question('q2', [1, 0], [1, 0]);
    /** Answers of one share of the first option a question. */
    const answers = (...firsts: number[]) =>
      firsts.map((p): SurveyAnswer => ({ shares: [p, 1 - p], mass: 1, orderEffect: 0, wordingEffect: 0 }));
    const surveyed = (i: number, questions: SurveyQuestion[], pair: [string, string], asked: SurveyAnswer[][]) => ({
      ...cultures[i],
      surveyed: { questions, pair, prompts: [], formats: [] },
      models: cultures[i].models.map((own, m) => ({ ...own, survey: asked[m] })),
    });
    // Asked of the base, of the own adapter, of the other's. Americans answer q1 with the first option, Chinese with the second.
    const us = surveyed(0, [q1, q2], ['USA', 'CHN'], [answers(0.5, 0.5), answers(0.8, 1), answers(0.4, 1)]);
    const cn = surveyed(1, [q1], ['CHN', 'USA'], [answers(0.5), answers(0.1), answers(0.7)]);
    const both = summarizeStudy([us, cn], settings);
    const told = both.surveyMatrix.map(({ model: name, cells }) => [
      name,
      ...cells.map((cell) => cell?.mean.toFixed(6)),
    ]);
    expect(told).toEqual([
      ['base', '0.500000', '0.500000'],
      ['us', '0.100000', '0.700000'],
      ['cn', '0.300000', '0.100000'],
    ]);
    expect(both.surveyMatrix[0].cells).toMatchObject([{ n: 2, low: 0.5, high: 0.5 }, { n: 1 }]);
    // By question 0.6 − 0.2 and 0 − 0; 0.7 − 0.1.
    const { crossGap: gaps, before, after, people } = both.distances[0].survey;
    expect(gaps.map((gap) => gap?.mean.toFixed(6))).toEqual(['0.200000', '0.600000']);
    expect(gaps[0]).toMatchObject({ low: 0, high: expect.closeTo(0.4, 12), n: 2 });
    expect([before?.mean, after?.n]).toEqual([0, 1]);
    // On q1, which both were asked; q2, on which they agree, Chinese were not.
    expect(people).toMatchObject({ mean: 1, n: 1 });
    const tables = studyTables(both).slice(-4);
    expect(tables.map(({ title }) => title)).toEqual([
      ...['Models by cultures: associations', 'Models by cultures: survey'],
      ...['Whether adapters stay distinct: associations', 'Whether adapters stay distinct: survey'],
    ]);
    // Both cultures speak English; of one that does not a gap is no sign of culture.
    const alike =
      /Of cultures of one language it is about zero where the adapters have learnt no culture but the task\./;
    const apart = /Of two languages \(us and cn\) it holds language and task as well/;
    const mandarin = studyTables({ ...both, cultures: [both.cultures[0], { ...both.cultures[1], language: 'zh' }] });
    for (const [i, { note }] of tables.entries()) {
      expect([alike.test(note), apart.test(note)]).toEqual([i >= 2, false]);
      const other = mandarin.slice(-4)[i].note;
      expect([alike.test(other), apart.test(other)]).toEqual([false, i >= 2]);
    }
    for (const { head, rows } of tables) for (const row of rows) expect(row).toHaveLength(head.length);
    expect(tables[0].head).toEqual(['model', 'us (n = 2)', '95 % interval', 'cn (n = 2)', '95 % interval']);
    expect(tables[1].head).toEqual(['model', 'us (n = 2)', '95 % interval', 'cn (n = 1)', '95 % interval']);
    expect(tables[1].rows[1]).toEqual(['us', '0.100', '[0.000, 0.200]', '0.700', '[0.700, 0.700]']);
    expect(tables[3].rows[1].slice(0, 5)).toEqual(['', 'cn', '+0.600', '[+0.600, +0.600]', '1.000']);
    expect([tables[2].rows[0].at(-1), tables[3].rows[0][5]]).toEqual(['2', '2']);
    expect(tables[3].rows[0].slice(-3)).toEqual(['1', '1.000', '1']);

    const ofUs = studyTables(both).filter(({ title }) => title.startsWith('us (en): survey'));
    expect(ofUs.map(({ title, head }) => [title.split('survey, ')[1], head.length])).toEqual([
      ['distance to USA and CHN', 8],
      ['movement', 12],
      ['other distances', 9],
      ['how it is answered', 6],
    ]);
    for (const { title, head, rows } of ofUs) {
      const models = title.endsWith('movement') ? ['sft'] : ['base', 'sft'];
      expect(rows.map((row) => row.slice(0, 2))).toEqual(
        ['all', 'high tension'].flatMap((subset) => models.map((name) => [subset, name])),
      );
      for (const row of rows) expect(row).toHaveLength(head.length);
    }
    // On q2 both countries answer alike. From distances of 0.5 and 0.5 to 0.2 and 0: nearer by 0.3 and 0.5, 2 of the 4 signs.
    expect(ofUs[0].rows[1]).toEqual([...['all', 'sft', '0.100', '0.400', '-0.300', '[-0.600, 0.000]', '1 / 0', '2']]);
    // From China by 0.3 further on q1, and by 0.5 nearer on q2: toward America alone by 0.6 and 0.
    expect(ofUs[1].rows[0]).toEqual([
      ...['all', 'sft', '+0.400', '[+0.300, +0.500]', '0.500', '+0.100', '[-0.300, +0.500]', '1.000'],
      ...['+0.300', '[0.000, +0.600]', '1.000 (n 1)', '2'],
    ]);

    const alone = summarizeStudy([us, cultures[1]], settings);
    expect(alone.surveyMatrix.map(({ cells }) => cells.map((cell) => cell?.n ?? null))).toEqual(
      new Array(3).fill([2, null]),
    );
    const [, matrix, , distinct] = studyTables(alone).slice(-4);
    expect(matrix.head).toEqual(['model', 'us (n = 2)', '95 % interval']);
    expect(distinct.rows.map((row) => row.slice(1, 3))).toEqual([
      ['us', '+0.200'],
      ['cn', '–'],
    ]);
    const seeds = [us.models[2], us.models[2]].map((own, i) => ({ ...own, seed: i, survey: answers(0.4 + i / 5, 1) }));
    const several = summarizeStudy([{ ...us, models: [...us.models.slice(0, 2), ...seeds] }, cn], settings);
    expect(several.surveyMatrix[2].cells[0]).toMatchObject({
      mean: expect.closeTo(0.25, 12),
      seeds: [expect.closeTo(0.3, 12), expect.closeTo(0.2, 12)],
    });
    // Of q1 and q2: the seeds of the own adapter answer 0.4 and 0.6, and 1, from 0.5 and 0.5.
    const own = seeds.map((one) => ({ ...one, of: 'us' }));
    const trained = summarizeStudy([{ ...us, models: [us.models[0], ...own] }], settings).cultures[0].seeds?.[0];
    const measured = (trained?.measures ?? []).flatMap(({ measure, of, estimate }) =>
      measure.startsWith('survey') && of === 'all' ? [[measure, ...estimate.seeds.map((mean) => mean.toFixed(6))]] : [],
    );
    expect(measured).toEqual([
      ['survey_distance', '0.300000', '0.200000'],
      ['survey_toward', '0.200000', '0.300000'],
      ['survey_toward_other', '0.300000', '0.200000'],
      ['survey_specific', '-0.100000', '0.100000'],
    ]);
  });

  it('is told in tables of even rows, and in the form of evaluate', () => {
    const tables = studyTables(study);
    expect(tables.map(({ title }) => title.split(':')[0])).toEqual([
      ...['us (en)', 'us (en)', 'us (en)', 'cn (en)', 'cn (en)', 'cn (en)'],
      ...['Models by cultures', 'Whether adapters stay distinct'],
    ]);
    for (const { head, rows } of tables) for (const row of rows) expect(row).toHaveLength(head.length);
    expect(tables[0].rows[1].slice(0, 4)).toEqual(['sft', '100.0', '+100.0', '+50.0']);
    const common = {
      ...{ model: 'm', quantize: 'none', tier: 'f32', language: 'en' },
      provenance: { command: '', created: '', files: [] },
    };
    const [association, ranking, ...others] = cultureResults(cultures[0], study.cultures[0], common, settings);
    expect(others).toEqual([]);
    expect(ranking).toMatchObject({ measure: 'ranking', runs: [{ name: 'base' }, { name: 'sft' }] });
    if (ranking.measure !== 'ranking') throw new Error(ranking.measure);
    // All of people's words, as P@K counts them: the report marks what is on their list.
    const many = Array.from({ length: 60 }, (_, i) => ({ word: `word ${i}`, count: 60 - i }));
    const people = cultures[0].human.map(({ cue }) => ({ cue, responses: many }));
    const [long] = cultureResults({ ...cultures[0], human: people }, study.cultures[0], common, settings);
    if (long.measure !== 'association') throw new Error(long.measure);
    expect(long.human[0].words).toEqual(many.map(({ word }) => word));
    const { rankingGain } = study.cultures[0].variants[1];
    expect(ranking.gain).toEqual(rankingGain);
    expect(ranking.runs[1].answers[1]).toEqual({
      cue: 'letter',
      parsed: true,
      spearman: -0.5,
      attainable: 1,
      text: ranks('c', 'a', 'b'),
    });
    expect(association).toMatchObject({
      measure: 'association',
      norms: 'us',
      runs: [{ name: 'base' }, { name: 'sft' }],
    });
  });
});

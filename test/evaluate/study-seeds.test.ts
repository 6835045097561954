import { describe, expect, it } from 'vitest';
import { type StudyAnswers, type StudyCultureAnswers, summarizeStudy, titleOf } from '../../src/evaluate/study.js';
import { cultureResults } from '../../src/evaluate/study-results.js';
import { studyTables } from '../../src/evaluate/study-tables.js';

describe('a study of several seeds', () => {
  const human = ['red', 'sea'].map((cue, i) => ({ cue, responses: [{ word: ['blood', 'wave'][i], count: 1 }] }));
  const model = (of: string | null, seed: number | null, lists: string[], perplexities = [0, 0]): StudyAnswers => ({
    id: `${of}.${seed}`,
    name: of ? `SFT of ${of}` : 'base',
    seed,
    adapter: of && `adapters/${of}.${seed}`,
    of,
    lists,
    rankings: null,
    survey: null,
    sideEffects: {
      texts: perplexities.map((nll, i) => ({ tokens: [1, 3][i], nll: nll * [1, 3][i] })),
      followed: [seed === 2, false],
    },
  });
  const culture = (name: string, models: StudyAnswers[]): StudyCultureAnswers => {
    const rest = { language: 'en', human, questions: [], lexicon: null, surveyed: null };
    return { name, ...rest, models };
  };
  const base = model(null, null, ['x', 'y'], [1, 1]);
  const settings = { ks: [1], highTension: 5, seed: 42 };
  const us = [
    base,
    model('us', 1, ['blood', 'wave'], [1, 3]),
    model('us', 2, ['blood', 'y'], [2, 4]),
    model('cn', 1, ['x', 'wave']),
    model('cn', 2, ['x', 'y']),
  ];
  const cn = [base, model('cn', 1, ['x', 'y']), model('cn', 2, ['x', 'y']), model('us', 1, ['x', 'y'])];
  const study = summarizeStudy([culture('us', us), culture('cn', [...cn, model('us', 2, ['x', 'y'])])], settings);

  it('tells of each training the mean over seeds, beside each seed alone', () => {
    const [{ variants, seeds }] = study.cultures;
    expect(variants.map(titleOf)).toEqual(['base', 'SFT of us, seed 1', 'SFT of us, seed 2']);
    expect(seeds).toMatchObject([{ name: 'SFT of us', seeds: [1, 2] }]);
    const known = Object.fromEntries((seeds?.[0].measures ?? []).map(({ measure, estimate }) => [measure, estimate]));
    // Seed 1 finds both words, seed 2 one: half of the resamples of seeds have both, a quarter of those of cues one twice.
    expect(known.precision).toMatchObject({ mean: 0.75, low: 0, high: 1, n: 2, seeds: [1, 0.5] });
    expect(known.gain.mean).toBe(0.75);
    // −log p of a token grew by 0 and 2, and by 1 and 3, over one token and three: by (0 + 6) / 4 and (1 + 9) / 4.
    expect(known.perplexity_factor.mean).toBeCloseTo(Math.exp(2), 12);
    expect(known.perplexity_factor.seeds.map(Math.log)).toEqual([expect.closeTo(1.5, 12), expect.closeTo(2.5, 12)]);
    expect(known.followed_change.mean).toBe(0.25);
  });

  it('pairs a training with that of its own seed that it went on from', () => {
    const further = (seed: number, lists: string[]) => ({
      ...{ ...model('us', seed, lists), name: 'PPO of us', startedFrom: 'SFT of us' },
    });
    const models = [...us.slice(0, 3), further(1, ['blood', 'y']), further(2, ['blood', 'wave'])];
    const { cultures } = summarizeStudy([culture('us', models)], settings);
    expect(cultures[0].steps).toMatchObject([{ aboveOther: [{ mean: 0, seeds: [-0.5, 0.5] }], reward: null }]);
    expect(cultures[0].steps[0].aboveOther[0].test).toBeNull();
    const [{ head, rows }] = studyTables({ ...study, cultures });
    const p = head.indexOf('p');
    // Of each seed over the base, and of no mean over seeds: seed 1 finds two words more, seed 2 one.
    expect(rows.map((row) => [row[0], row[p]]).slice(0, 3)).toEqual([
      ['base', '–'],
      ['SFT of us, seed 1', '0.500'],
      ['SFT of us, seed 2', '1.000 (n 1)'],
    ]);
    expect([rows.at(-1)?.[0], rows.at(-1)?.[p]]).toEqual(['PPO of us over SFT of us, all seeds', '–']);
  });

  it('tells the order of rankings apart from their form, over seeds and steps', () => {
    const asked = ['red', 'sea'].map((cue) => ({
      cue,
      ranking: ['a', 'b', 'c'],
      counts: null,
      language: 'en' as const,
    }));
    const ranks = (...words: string[]) =>
      `Final Ranking:\n${words.map((word, i) => `Rank ${i + 1}: ${word}`).join('\n')}`;
    const [right, half, wrong] = [ranks('a', 'b', 'c'), ranks('b', 'a', 'c'), ranks('c', 'b', 'a')];
    const ranked = (seed: number | null, rankings: string[], startedFrom?: string): StudyAnswers => ({
      ...model(seed === null ? null : 'us', seed, ['x', 'y']),
      ...{ rankings, sideEffects: null },
      ...(startedFrom ? { name: 'PPO', startedFrom } : {}),
    });
    const models = [
      ranked(null, [wrong, '']),
      ranked(1, [half, right]),
      ranked(2, ['', right]),
      ranked(1, [right, ''], 'SFT of us'),
      ranked(2, [right, half], 'SFT of us'),
    ];
    const { cultures } = summarizeStudy([{ ...culture('us', models), questions: asked }], settings);
    const [{ seeds, steps }] = cultures;
    const measure = (training: number, name: string) =>
      seeds?.[training].measures.find(({ measure: own }) => own === name)?.estimate;
    // SFT: 0.5 and 1 of seed 1, 1 of seed 2. Over the base, whole on the first cue alone with −1: +1.5, seed 2 has none.
    expect(measure(0, 'ranking_spearman')).toMatchObject({ mean: 0.875, n: 2, seeds: [0.75, 1] });
    expect(measure(0, 'ranking_spearman_gain')).toMatchObject({ mean: 1.5, n: 1, seeds: [1.5, Number.NaN] });
    // PPO over SFT: from 0.5 to 1 on the first cue of seed 1, from 1 to 0.5 on the second of seed 2.
    expect(steps[0].spearman).toMatchObject({ mean: 0, n: 2, seeds: [0.5, -0.5], test: null });
    expect(steps[0].reward).toMatchObject({ seeds: [(0.5 - 2) / 2, (2 - 0.5) / 2] });
    const table = studyTables({ ...study, cultures }).find(({ title }) => title === 'us (en): over seeds 1, 2');
    const row = table?.rows.find(([, what]) => what === 'its gain where both are whole');
    expect(row).toEqual([
      'SFT of us',
      'its gain where both are whole',
      '+1.500',
      '[+1.500, +1.500]',
      '+1.500',
      '+1.500',
      '1',
    ]);
  });

  it('tells how much nearer to people ratings came than the base, on the cues that both have', () => {
    const ratings = new Map(Object.entries({ blood: 2, wave: 6, x: 5, y: 7 }));
    const lexicon = { dimensions: new Map([['valence', ratings]]), size: 4 };
    const models = [base, model('us', 1, ['blood', 'wave']), model('us', 2, ['blood', 'unrated'])];
    const { cultures } = summarizeStudy([{ ...culture('us', models), lexicon }], settings);
    const measures = cultures[0].seeds?.[0].measures ?? [];
    const rated = (name: string) => measures.find(({ measure, of }) => measure === name && of === 'valence')?.estimate;
    // The base is 3 and 1 from people; seed 1 is at them, seed 2 on the first cue, with no rated word on the second.
    expect(rated('rating_distance')).toMatchObject({ mean: 0, n: 2, seeds: [0, 0] });
    expect(rated('rating_nearer')).toMatchObject({ mean: 2.5, n: 2, seeds: [2, 3] });
    const table = studyTables({ ...study, cultures }).find(
      ({ title }) => title === 'us (en): ratings of the associates',
    );
    expect(table?.rows.map((row) => row.slice(1, 2).concat(row.slice(7)))).toEqual([
      ['people', '2', '–', '–', '–', '–'],
      ['base', '2', '–', '–', '–', '–'],
      ['SFT of us, seed 1', '2', '+2.00', '[+1.00, +3.00]', '0.500', '2'],
      ['SFT of us, seed 2', '1', '+3.00', '[+3.00, +3.00]', '1.000', '1'],
    ]);
    for (const row of table?.rows ?? []) expect(row).toHaveLength(table?.head.length ?? 0);
  });

  it('takes all seeds into models by cultures and into the distances', () => {
    expect(study.matrix[1].cells[0]).toMatchObject({ mean: 0.75, seeds: [1, 0.5] });
    const [{ crossGap: gaps, lists }] = study.distances;
    expect(gaps[0]).toMatchObject({ mean: 0.5, seeds: [0.5, 0.5] });
    expect(lists[0]).toMatchObject({ mean: 0.5, seeds: [0.5, 0.5] });
  });

  it('has a table of means, intervals and spread, and no gain of one seed in the place of all', () => {
    const table = studyTables(study).find(({ title }) => title === 'us (en): over seeds 1, 2');
    expect(table?.rows[0]).toEqual(['SFT of us', 'P@1, %', '75.0', '[0.0, 100.0]', '50.0', '100.0', '2']);
    const effects = studyTables(study).find(({ title }) => title === 'us (en): side effects');
    // Both texts change alike, or one alone; of two instructions seed 2 follows one more.
    expect(effects?.head).toEqual([
      ...['model', 'perplexity', 'times', '95 % interval', 'p', 'followed, %', 'change', '95 % interval', 'p'],
    ]);
    expect(effects?.rows.map((row) => [row[4], row[8]])).toEqual([
      ['–', '–'],
      ['1.000 (n 1)', '1.000 (n 0)'],
      ['0.500', '1.000 (n 1)'],
    ]);
    for (const row of table?.rows ?? []) expect(row).toHaveLength(table?.head.length ?? 0);
    const common = {
      ...{ model: 'm', quantize: 'none', tier: 'f32', language: 'en' },
      provenance: { command: '', created: '', files: [] },
    };
    const [association, sideEffects] = cultureResults(culture('us', us), study.cultures[0], common, settings);
    expect(association).toMatchObject({ gains: null, runs: [{}, {}, { name: 'SFT of us, seed 2' }] });
    expect(sideEffects).toMatchObject({ measure: 'side-effects', change: null });
  });

  it('leaves a seed without any value out of the spread, also of a result that was read', () => {
    const read = JSON.parse(JSON.stringify(study)) as typeof study;
    const { estimate } = read.cultures[0].seeds?.[0].measures[0] ?? {};
    Object.assign(estimate ?? {}, { seeds: [null, 0.5] }); // JSON has null for NaN
    const table = studyTables(read).find(({ title }) => title === 'us (en): over seeds 1, 2');
    expect(table?.rows[0]).toEqual(['SFT of us', 'P@1, %', '75.0', '[0.0, 100.0]', '50.0', '50.0', '2']);
  });
});

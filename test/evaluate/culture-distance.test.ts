import { describe, expect, it } from 'vitest';
import { commonQuestions, crossGap, listDistance, peopleGap, surveyGap } from '../../src/evaluate/culture-distance.js';
import type { SurveyAnswer, SurveyQuestion } from '../../src/evaluate/survey.js';

const score = (predictions: string[], precision: number, other: number) => ({
  cue: 'x',
  predictions,
  repeated: 0,
  precision: [precision],
  otherPrecision: [other],
  spearman: null,
  attainable: null,
  refused: false,
});

describe('distances between cultures', () => {
  it('of lists are 0 for the same words in any order, 1 for none in common', () => {
    const of = (a: string[], b: string[]) => listDistance([[score(a, 0, 0)]], [[score(b, 0, 0)]], 4).mean;
    expect(of(['a', 'b', 'c', 'd'], ['d', 'c', 'b', 'a'])).toBeCloseTo(0, 12);
    expect(of(['a', 'b'], ['c', 'd'])).toBeCloseTo(1, 12);
    expect(of(['a', 'b', 'c', 'd'], ['a', 'b', 'c', 'x'])).toBeCloseTo(1 / 4, 12);
    expect(of(['a', 'b', 'c', 'd', 'e'], ['a', 'b', 'c', 'd', 'f'])).toBeCloseTo(0, 12);
    expect(of([], ['a'])).toBe(1);
    expect(of([], [])).toBe(0);
  });

  it('of adapters are how much better the own one meets its people', () => {
    const own = [score([], 0.8, 0.1), score([], 0.6, 0)];
    const foreign = [score([], 0.4, 0.1), score([], 0.6, 0.2)];
    expect(crossGap([own], [foreign], 0).mean).toBeCloseTo((0.4 + 0.2) / 2, 12);
  });

  it('of surveys compare what both were asked, by id, in either language', () => {
    const question = (id: string, language: string, shares: number[]): SurveyQuestion => ({
      id,
      language,
      question: id,
      options: shares.map((_, i) => ({ code: String(i), text: String(i) })),
      countries: { A: { shares, n: 1 }, B: { shares: [...shares].reverse(), n: 1 } },
    });
    const answer = (shares: number[]): SurveyAnswer => ({ shares, mass: 1, orderEffect: 0, wordingEffect: 0 });
    const english = [question('q1', 'en', [1, 0]), question('q2', 'en', [0.5, 0.5])];
    const chinese = [question('q3', 'zh', [1, 0]), question('q1', 'zh', [1, 0])];
    const gap = surveyGap(
      { questions: english, answers: [[answer([1, 0]), answer([0, 1])]] },
      { questions: chinese, answers: [[answer([1, 0]), answer([0, 1])]] },
    );
    expect(gap).toMatchObject({ mean: 1, n: 1 });
    expect(
      surveyGap({ questions: english.slice(1), answers: [[answer([0, 1])]] }, { questions: [], answers: [] }),
    ).toBeNull();
    expect(peopleGap(english, 'A', 'B')).toMatchObject({ mean: 0.5, n: 2 });
    const [, reversed] = chinese.map(({ options, ...rest }) => ({ ...rest, options: [...options].reverse() }));
    expect(commonQuestions(english, chinese)).toEqual([[0, 1]]);
    expect(commonQuestions(english, [reversed])).toEqual([]); // codes 1, 0 against 0, 1
    expect(commonQuestions(english, [{ ...chinese[1], options: chinese[1].options.slice(1) }])).toEqual([]);
  });
});

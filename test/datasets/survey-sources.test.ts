import { describe, expect, test } from 'vitest';
import { parsePythonLiteral } from '../../datasets/python-literal.js';
import type { SurveySource } from '../../datasets/source.js';
import { countQuestions, readSurvey } from '../../datasets/survey-file.js';
import { InputError } from '../../src/errors.js';

import { sourceOf, write } from './source-files.js';

describe('surveys', () => {
  const questions = () =>
    write([
      JSON.stringify({
        id: 'Q1',
        language: 'en',
        question: 'Tea?',
        options: [
          { code: 1, text: 'Yes' },
          { code: 2, text: 'No' },
        ],
      }),
      JSON.stringify({
        id: 'Q1',
        language: 'zh',
        question: '茶？',
        options: [
          { code: 1, text: '是' },
          { code: 2, text: '否' },
        ],
      }),
      JSON.stringify({
        id: 'Q2',
        language: 'en',
        question: 'Sea?',
        options: [
          { code: 1, text: 'Yes' },
          { code: 10, text: 'No' },
        ],
      }),
    ]);
  const microdata = [
    'version,B_COUNTRY_ALPHA,W_WEIGHT,Q1,Q2',
    '1,AAA,0.5,1,-1',
    '1,AAA,1.5,2,10',
    '1,AAA,2,2,1',
    '1,AAA,2,-2,10',
    '1,BBB,1,1,3',
    '1,CCC,1,2,1',
  ];
  const wvs = sourceOf<SurveySource>('wvs');

  test('WVS microdata become weighted shares by country and language', async () => {
    const file = write(microdata);
    const { rows, survey, dropped } = await wvs.read({
      files: [file],
      questions: questions(),
      countries: ['aaa', 'BBB'],
    });
    expect(rows).toBe(6);
    expect(survey.map(({ id, language }) => `${id} ${language}`)).toEqual(['Q1 en', 'Q1 zh']);
    // AAA: 0.5 of 4 for yes, 1.5 + 2 for no; the fourth did not answer.
    expect(survey[1].countries).toEqual({ AAA: { shares: [0.125, 0.875], n: 3 }, BBB: { shares: [1, 0], n: 1 } });
    expect(dropped).toEqual({
      'no answer': 2,
      'codes that the question does not list': 1,
      'questions that a country was not asked': 1,
    });
    const all = await wvs.read({ files: [file], questions: questions(), countries: [] });
    expect(all.survey[2].countries).toEqual({
      AAA: { shares: [2 / 5.5, 3.5 / 5.5], n: 3 },
      CCC: { shares: [1, 0], n: 1 },
    });
    const beside = ['bbb', 'ZZZ']; // BBB has no answer to Q2, and nobody is from ZZZ
    const more = await wvs.read({ files: [file], questions: questions(), countries: ['AAA'], beside });
    expect(more.survey.map(({ countries }) => Object.keys(countries))).toEqual([
      ['AAA', 'BBB'],
      ['AAA', 'BBB'],
      ['AAA'],
    ]);
  });

  test('a question whose options have no order says so, and is counted', async () => {
    const lines = ['en', 'zh'].map((language) => ({
      ...{ id: 'Q1', language, question: '?' },
      ...{ options: [1, 2].map((code) => ({ code, text: `${code}` })), ordinal: language !== 'en' },
    }));
    const file = write(lines.map((line) => JSON.stringify(line)));
    const { survey } = await wvs.read({ files: [write(microdata)], questions: file, countries: ['AAA'] });
    expect(survey.map(({ ordinal }) => ordinal)).toEqual([false, undefined]);
    expect(countQuestions(survey)).toEqual({ questions: 2, 'questions without an order': 1 });
    expect(countQuestions(survey.slice(1))).toEqual({ questions: 1 });
    const written = await readSurvey(write(survey.map((question) => JSON.stringify(question))));
    expect(written).toEqual(survey);
  });

  test.each<[RegExp, string[], string[]]>([
    [/--country ABA is not in .*; near it are AAA, BBB, CCC \(of 3\)/, microdata, ['ABA']],
    [/no column "Q2"; it has B_COUNTRY_ALPHA, W_WEIGHT, Q1/, ['B_COUNTRY_ALPHA,W_WEIGHT,Q1', 'AAA,1,1'], []],
    [/line 2: W_WEIGHT must be a number/, ['B_COUNTRY_ALPHA,W_WEIGHT,Q1,Q2', 'AAA,,1,1'], []],
  ])('WVS: %s', async (sentence, lines, countries) => {
    await expect(wvs.read({ files: [write(lines)], questions: questions(), countries })).rejects.toThrow(sentence);
  });

  test.each([
    ['not json', /is not JSON/],
    ['{"id": "Q1", "language": "en", "question": ""}', /question must be text/],
    [
      '{"id": "Q1", "language": "en", "question": "?", "options": [{"code": 1, "text": "a"}]}',
      /options must be a list of 2 to 26/,
    ],
    [
      '{"id": "Q1", "language": "en", "question": "?", "options": [{"code": 1, "text": "a"}, {"code": "1", "text": "b"}]}',
      /one code/,
    ],
    [
      '{"id": "Q1", "language": "en", "question": "?", "options": [{"code": 1, "text": "a"}, {"code": 2, "text": "b"}], "ordinal": "no"}',
      /ordinal must be false, where the options have no order, or true/,
    ],
  ])('questions %s are refused', async (line, sentence) => {
    await expect(wvs.read({ files: [write(microdata)], questions: write([line]), countries: [] })).rejects.toThrow(
      sentence,
    );
  });

  test('GlobalOpinionQA: Python literals, options without opinion left out', async () => {
    const file = write([
      'question,selections,options,source',
      `"Is tea, ""green"", good?","defaultdict(<class 'list'>, {'Here': [0.2, 0.6, 0.2], ""Cote d'Ivoire"": [1.0, 0.0, 0.0]})","['Yes', ""It's not"", 'DK/Refused']",GAS`,
      `Only one?,"defaultdict(<class 'list'>, {'Here': [0.5, 0.5]})","['Yes', ""Don't know""]",GAS`,
    ]);
    const source = sourceOf<SurveySource>('global-opinion-qa');
    const { survey, dropped } = await source.read({ files: [file], questions: null, countries: [] });
    expect(survey).toEqual([
      {
        id: 'goqa-1',
        language: 'en',
        question: 'Is tea, "green", good?',
        options: [
          { code: '1', text: 'Yes' },
          { code: '2', text: "It's not" },
        ],
        countries: {
          Here: { shares: [0.2 / 0.8, 0.6 / 0.8], n: null },
          "Cote d'Ivoire": { shares: [1, 0], n: null },
        },
      },
    ]);
    expect(dropped['no opinion options']).toBe(2);
    const key = 'answers of a country without a share of every option';
    expect(dropped[key]).toBe(0);
    // nan is not 0: There is left out of this question, and so is an option without a text; Here's nan is such an option's.
    const missing = write([
      'question,selections,options,source',
      `Tea?,"{'Here': [0.25, 0.25, nan], 'There': [nan, 0.5, 0.5], 'Where': [0.5, 0.5, 0]}","['Yes', 'No', nan]",GAS`,
    ]);
    const read = (countries: string[]) => source.read({ files: [missing], questions: null, countries });
    const partly = await read([]);
    expect(partly.survey[0].options).toHaveLength(2);
    expect(partly.survey[0].countries).toEqual({
      Here: { shares: [0.5, 0.5], n: null },
      Where: { shares: [0.5, 0.5], n: null },
    });
    expect(partly.dropped[key]).toBe(1);
    const both = await read(['Here', 'There']);
    expect([both.survey.length, both.dropped[key], both.dropped['questions without the countries']]).toEqual([0, 1, 1]);
    const text = write(['question,selections,options,source', `Tea?,"{'Here': ['0.5', 0.5]}","['Yes', 'No']",GAS`]);
    await expect(source.read({ files: [text], questions: null, countries: [] })).rejects.toThrow(/must be 2 shares/);
    await expect(source.read({ files: [file], questions: null, countries: ['Hare'] })).rejects.toThrow(
      /near it are Here/,
    );
  });

  test('Python literals are parsed, never run', () => {
    expect(parsePythonLiteral(`[1, -2.5e1, nan, None, 'a\\'b', "c\\n", '\\u6d77']`, 'x')).toEqual([
      1,
      -25,
      null,
      null,
      "a'b",
      'c\n',
      '海',
    ]);
    expect(parsePythonLiteral('{}', 'x')).toEqual(new Map());
    for (const bad of ['[1', '[1 2]', '__import__("os")', '[1] + [2]', "{'a' 1}", '[[[[[[1]]]]]]'])
      expect(() => parsePythonLiteral(bad, 'x'), bad).toThrow(InputError);
  });
});

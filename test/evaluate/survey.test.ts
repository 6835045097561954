import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { packMicroBatches } from '../../src/batch/pack.js';
import { buildTrie } from '../../src/batch/trie.js';
import { surveyExamples, surveyTries } from '../../src/evaluate/score-survey.js';
import {
  averageTries,
  highTension,
  massPercent,
  type SurveyAnswer,
  type SurveyQuestion,
  summarizeSurvey,
  surveyChange,
} from '../../src/evaluate/survey.js';
import { answerEffects, describeAsking, otherDistances, surveyMovements } from '../../src/evaluate/survey-tables.js';
import {
  LEXI_BASE_SURVEY_PROMPTS,
  type OptionFormat,
  SURVEY_PROMPTS,
  type SurveyPrompt,
} from '../../src/text/survey-prompts.js';
import { lexiBase, loadTokenizer } from '../text/shared.js';

/** 50 questions in English and 3 in Mandarin, written for these tests. */
const written: Omit<SurveyQuestion, 'countries'>[] = readFileSync(
  new URL('../fixtures/survey-questions.jsonl', import.meta.url),
  'utf8',
)
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line));

const question = (here: number[], there: number[], id = 'Q'): SurveyQuestion => ({
  id,
  language: 'en',
  question: 'Tea?',
  options: here.map((_, i) => ({ code: String(i), text: `option ${i}` })),
  countries: { Here: { shares: here, n: 9 }, There: { shares: there, n: null } },
});
const answer = (...shares: number[]): SurveyAnswer => ({ shares, mass: 0.5, orderEffect: 0, wordingEffect: 0 });

test('the mass of the options is told however little it is', () => {
  const told = (mass: number) =>
    massPercent(summarizeSurvey([question([1, 0], [0, 1])], [{ ...answer(1, 0), mass }], ['Here', 'There']));
  expect([1, 0.997, 0.5, 0.00001234, 0].map(told)).toEqual(['100.0', '99.7', '50.0', '0.0012', '0.0']);
});

test('tries are normalised each, then averaged; mass and effect of order are told', () => {
  const tries = [
    [Math.log(0.3), Math.log(0.1)],
    [Math.log(0.05), Math.log(0.05)],
  ];
  const { shares, mass, orderEffect, wordingEffect } = averageTries([tries]);
  expect(shares[0]).toBeCloseTo((0.75 + 0.5) / 2, 12);
  expect(mass).toBeCloseTo((0.4 + 0.1) / 2, 12);
  expect(orderEffect).toBeCloseTo(0.125, 12);
  expect(wordingEffect).toBe(0);
  // Far below what a double holds as a probability.
  expect(averageTries([[[-2000, -2000 + Math.log(3)]]]).shares[1]).toBeCloseTo(0.75, 12);
});

test('what the wording does to the shares is told apart from what order and labels do', () => {
  const told = (...wordings: number[][]) =>
    averageTries(wordings.map((firsts) => firsts.map((p) => [Math.log(p / 2), Math.log((1 - p) / 2)])));
  // Means of 0.5 and 0.7: each 0.1 from their mean; tries 0.3 and 0.1 from that of their wording.
  const both = told([0.2, 0.8], [0.6, 0.8]);
  expect(both.shares.map((share) => share.toFixed(6))).toEqual(['0.600000', '0.400000']);
  expect(both.mass).toBeCloseTo(0.5, 12);
  expect(both.orderEffect).toBeCloseTo((0.3 + 0.3 + 0.1 + 0.1) / 4, 12);
  expect(both.wordingEffect).toBeCloseTo(0.1, 12);
  const order = told([0.2, 0.8], [0.8, 0.2]);
  expect([order.orderEffect, order.wordingEffect]).toEqual([expect.closeTo(0.3, 12), expect.closeTo(0, 12)]);
  const wording = told([0.3, 0.3], [0.9, 0.9]);
  expect([wording.orderEffect, wording.wordingEffect]).toEqual([expect.closeTo(0, 12), expect.closeTo(0.3, 12)]);
});

test('every language has several wordings that differ in each of their parts', () => {
  for (const prompts of [SURVEY_PROMPTS, LEXI_BASE_SURVEY_PROMPTS])
    for (const wordings of [prompts.en, prompts.zh]) {
      expect(wordings).toHaveLength(3);
      for (const part of ['question', 'options'] as const)
        expect(new Set(wordings.map((wording) => wording[part])).size).toBe(3);
      for (const format of ['number', 'letter', 'text'] as const)
        expect(new Set(wordings.map(({ ask }) => ask[format])).size).toBe(3);
    }
});

test('no wording asks for the own view, against a culture prompt before it', () => {
  const own =
    /your (?:own|values|opinion|view)|you (?:think|feel|believe|would)|你的(?:价值观|看法|观点)|你(?:怎么看|认为|觉得)/i;
  expect(own.test('What do you think about this?') && own.test('你怎么看下面的问题？')).toBe(true);
  for (const { system, question, options, ask } of Object.values(SURVEY_PROMPTS).flat())
    for (const text of [system ?? '', question, options, ...Object.values(ask)]) expect(text).not.toMatch(own);
});

test('every rotation in every wording and format, each option once a try, at its own place', () => {
  const all = surveyTries([written[18], written[38]], SURVEY_PROMPTS.en, ['number', 'letter', 'text']);
  expect(all).toHaveLength(3 * 3 * (9 + 4));
  const tries = all.filter(({ wording }) => wording === 0);
  expect(tries).toHaveLength(3 * (9 + 4));
  const second = all.find(
    ({ question, wording, format, rotation }) =>
      question === 1 && wording === 1 && format === 'letter' && rotation === 1,
  );
  expect(second?.messages.map(({ content }) => content)).toEqual([
    SURVEY_PROMPTS.en[1].system,
    `${SURVEY_PROMPTS.en[1].question}${written[38].question}\nThese answers are possible:\nA. No\nB. Yes\nWhich one do you choose? Write only its letter.`,
    'A',
  ]);
  const rotated = tries.filter(
    ({ question, format, rotation }) => question === 0 && format === 'number' && rotation === 1,
  );
  expect(rotated.map(({ option, messages }) => [option, messages.at(-1)?.content])).toEqual([
    [1, '1'],
    [2, '2'],
    [0, '3'],
  ]);
  expect(rotated[0].messages[1].content).toBe(
    'Question: How important is a garden to you?\nOptions:\n1. Rather important\n2. Not important\n3. Very important\nAnswer with the number of one option and nothing else.',
  );
  const text = tries.filter(({ question, format, rotation }) => question === 1 && format === 'text' && rotation === 1);
  expect(text.map(({ option, messages }) => [option, messages.at(-1)?.content])).toEqual([
    [1, 'No'],
    [0, 'Yes'],
  ]);
  expect(text[0].messages[1].content).toMatch(/\n- No\n- Yes\nAnswer with one option, word for word/);
  expect(tries.find(({ format }) => format === 'letter')?.messages.at(-1)?.content).toBe('A');
});

test('Mandarin questions have prompts of their own', () => {
  const [first] = surveyTries([written[52]], SURVEY_PROMPTS.zh, ['letter']);
  expect(first.messages.map(({ content }) => content)).toEqual([
    '你正在参加一项民意调查，请选择一个答案。',
    '问题：家里的花园对你重要吗？\n选项：\nA. 很重要\nB. 比较重要\nC. 不重要\n请只回答一个选项的字母，不要写别的内容。',
    'A',
  ]);
  const [short] = surveyTries([written[52]], LEXI_BASE_SURVEY_PROMPTS.zh, ['text']);
  expect(short.messages.map(({ content }) => content)).toEqual([
    '家里的花园对你重要吗？\n选项：\n- 很重要\n- 比较重要\n- 不重要\n回答：',
    '很重要',
  ]);
});

test('50 questions × all rotations can be one batch; what they share is computed once', async () => {
  const tokenizer = await loadTokenizer(lexiBase);
  const questions = written.filter(({ language }) => language === 'en');
  expect(questions).toHaveLength(50);
  /** Of the given wordings: answers, their tokens one by one, and batches and tokens computed at two sizes. */
  const cost = (wordings: readonly SurveyPrompt[]) => {
    const examples = surveyExamples(surveyTries(questions, wordings, ['number', 'letter']), tokenizer, 8192);
    const all = examples.reduce((sum, { ids }) => sum + ids.length, 0);
    const sizes = [2048, 16384].map((size) => {
      const groups = packMicroBatches(examples, size);
      const tokens = groups.map((group) => buildTrie(group.map((i) => examples[i])).tokens.length);
      return [groups.length, tokens.reduce((sum, own) => sum + own, 0)];
    });
    return [examples.length, all, ...sizes];
  };
  // As docs/evaluation.md has it.
  expect(cost(LEXI_BASE_SURVEY_PROMPTS.en.slice(0, 1))).toEqual([1306, 75957, [7, 12468], [1, 12336]]);
  expect(cost(LEXI_BASE_SURVEY_PROMPTS.en)).toEqual([3918, 242172, [19, 38315], [3, 37955]]);
  expect(cost(SURVEY_PROMPTS.en)).toEqual([3918, 388950, [25, 48936], [3, 47716]]);
});

test('a digit string of two tokens is scored whole, up to the end of the turn', async () => {
  const tokenizer = await loadTokenizer(lexiBase);
  const said = written[48].options.map(({ code, text }) => ({ code, text: `level ${text}` }));
  const tries = surveyTries([{ ...written[48], options: said }], LEXI_BASE_SURVEY_PROMPTS.en.slice(0, 1), ['number']);
  const examples = surveyExamples(tries, tokenizer, 8192);
  const supervised = (answer: string) => {
    const i = tries.findIndex(({ messages }) => messages.at(-1)?.content === answer);
    return Array.from(examples[i].labels).filter((label) => label !== -100);
  };
  const [one, ten] = [supervised(' 1'), supervised(' 10')];
  expect(tokenizer.decode(ten, { skipSpecials: true })).toBe(' 10');
  expect(ten).toEqual([one[0], expect.any(Number), tokenizer.eosId]);
  expect(one).toEqual([expect.any(Number), tokenizer.eosId]);
});

test('options of which one begins with a number get none before them, which would be ambiguous', () => {
  const asked = (texts: string[], formats: OptionFormat[] = ['number', 'letter']) => {
    const options = texts.map((text, code) => ({ code: String(code), text }));
    const tries = surveyTries([{ ...written[0], options }], SURVEY_PROMPTS.en.slice(0, 1), formats);
    return [...new Set(tries.map(({ format, messages }) => `${format} ${messages[1].content!.split('\n')[2]}`))];
  };
  expect(asked(['never', 'always'])).toEqual([
    ...['number 1. never', 'number 1. always', 'letter A. never', 'letter A. always'],
  ]);
  expect(asked(['1 never', '2'])).toEqual(['letter A. 1 never', 'letter A. 2']);
  expect(asked(['从不', '（３）总是'], ['number', 'text'])).toEqual(['text - 从不', 'text - （３）总是']);
  expect(asked(['top 3', 'B 2'], ['number'])).toHaveLength(2);
  expect(() => asked(['never', '-5'], ['number'])).toThrow(
    'question S1 has options that begin with a number, which numbers before them make ambiguous: add letter or text to formats',
  );
  expect(describeAsking(written.slice(47, 50), 3, ['number', 'letter'])).toBe(
    '3 wordings; every rotation; number, letter (1 without number: an option of theirs begins with one)',
  );
  expect(describeAsking(written.slice(0, 2), 1, ['letter', 'text'])).toBe('1 wording; every rotation; letter, text');
});

test('high tension: most different first, equal ones in their order, by either formula', () => {
  const opposite = question([0.9, 0.1, 0], [0, 0.1, 0.9]);
  const near = question([0.4, 0.3, 0.3], [0.3, 0.3, 0.4]);
  const flat = question([0.8, 0.1, 0.1], [0.4, 0.3, 0.3]);
  const same = question([0.5, 0.5, 0], [0.5, 0.5, 0]);
  const survey = [near, same, flat, opposite, near];
  expect(highTension(survey, ['Here', 'There'], 2, 'emd')).toEqual([2, 3]);
  expect(highTension(survey, ['Here', 'There'], 3, 'emd')).toEqual([0, 2, 3]);
  expect(highTension(survey, ['Here', 'There'], 99, 'emd')).toEqual([0, 1, 2, 3, 4]);
  // Jensen-Shannon 0.535 and 0.353 (flat). Half of it and of the earth mover's 0.5 and 0.3 make 0.517 and 0.326; sorted
  // shares are 0 and (0.2 + 0.2 + 0.4) / 3 apart and make 0.267 and 0.310.
  const reversed = question([0.6, 0.3, 0.1], [0.1, 0.3, 0.6]);
  expect(highTension([same, reversed, flat], ['Here', 'There'], 1, 'emd')).toEqual([1]);
  expect(highTension([same, reversed, flat], ['Here', 'There'], 1, 'sorted')).toEqual([2]);
});

test('a summary counts to which country the model is closer', () => {
  const questions = [question([1, 0], [0, 1]), question([1, 0], [0, 1]), question([0.5, 0.5], [0.5, 0.5])];
  const answers = [answer(0.75, 0.25), answer(0.25, 0.75), answer(0.75, 0.25)];
  const { n, countries, difference, closer, mass } = summarizeSurvey(questions, answers, ['Here', 'There']);
  expect(n).toBe(3);
  expect(mass.mean).toBe(0.5);
  expect(countries[0].country).toBe('Here');
  expect(countries[0].emd.mean).toBeCloseTo((0.25 + 0.75 + 0.25) / 3, 12);
  expect(countries[1].emd.mean).toBeCloseTo((0.75 + 0.25 + 0.25) / 3, 12);
  expect(countries[0].kl.mean).toBeCloseTo((Math.log(4 / 3) + Math.log(4) + Math.log(2 / Math.sqrt(3))) / 3, 12);
  expect(countries[0].same_mode.mean).toBeCloseTo(2 / 3, 12);
  expect(difference.emd).toMatchObject({ mean: 0, n: 3 });
  expect(closer).toEqual({ emd: { first: 1, second: 1, tie: 1 }, js: { first: 1, second: 1, tie: 1 } });
  expect(() => summarizeSurvey(questions, answers, ['Here', 'Elsewhere'])).toThrow(/no answers of Elsewhere/);
});

test('options without an order are all as far from each other', () => {
  const [ordered, unordered] = [undefined, false].map((ordinal) => ({
    ...question([0.5, 0.25, 0.25], [0, 0.5, 0.5]),
    ...(ordinal === undefined ? {} : { ordinal }),
  }));
  const emds = (one: SurveyQuestion) =>
    summarizeSurvey([one], [answer(0, 0, 1)], ['Here', 'There']).countries.map(({ emd }) => emd.mean);
  // In order a half goes two places and a quarter one, over 2; else three quarters, and a half, lie elsewhere.
  expect(emds(ordered)).toEqual([(2 * 0.5 + 0.25) / 2, 0.5 / 2]);
  expect(emds(unordered)).toEqual([0.75, 0.5]);
  // Jensen-Shannon 1 in both; a half goes one place of four, or anywhere: (1 + .25) / 2 against (1 + 1) / 2 of the far one.
  const near = question([1, 0, 0, 0, 0], [0, 1, 0, 0, 0]);
  const far = question([1, 0, 0, 0, 0], [0, 0, 1, 0, 0]);
  expect(highTension([near, far], ['Here', 'There'], 1, 'emd')).toEqual([1]);
  expect(highTension([{ ...near, ordinal: false }, far], ['Here', 'There'], 1, 'emd')).toEqual([0]);
});

test('beside earth mover’s distance stand Jensen-Shannon, KL and mode, and what moves the answers', () => {
  const questions = [question([1, 0], [0, 1]), question([0.5, 0.5], [0.5, 0.5])];
  const answers = [
    { ...answer(0.75, 0.25), orderEffect: 0.1, wordingEffect: 0.03 },
    { ...answer(0.5, 0.5), orderEffect: 0.2, wordingEffect: 0 },
  ];
  const summary = summarizeSurvey(questions, answers, ['Here', 'There']);
  const lines = [{ questions: 'all', model: 'base', summary }];
  const others = otherDistances(lines, ['Here', 'There']);
  // Of (3/4, 1/4) from (1, 0) ln 4/3 = 0.288, from (0, 1) ln 4 = 1.386; Jensen-Shannon √0.138 = 0.371 and √0.549 = 0.741.
  expect(others.rows).toEqual([['all', 'base', '0.186', '0.370', '0.144', '0.693', '100.0', '50.0', '2']]);
  expect(others.head).toEqual([
    ...['questions', 'model', 'JS to Here', 'JS to There', 'KL from Here', 'KL from There'],
    ...['same mode as Here, %', 'same mode as There, %', 'n'],
  ]);
  expect(answerEffects(lines)).toEqual({
    head: ['questions', 'model', 'options, %', 'order, %', 'wording, %', 'n'],
    rows: [['all', 'base', '50.0', '15.0', '1.5', '2']],
  });
  // A model that gives no share to what people answer; JSON has null for its divergence.
  const never = summarizeSurvey(questions.slice(0, 1), [answer(0, 1)], ['Here', 'There']);
  const read = JSON.parse(JSON.stringify(never)) as typeof never;
  for (const own of [never, read])
    expect(otherDistances([{ ...lines[0], summary: own }], ['Here', 'There']).rows[0].slice(2, 6)).toEqual([
      ...['1.000', '0.000', '∞', '0.000'],
    ]);
});

test('a change is what the distance to each country shrank by', () => {
  const questions = Array.from({ length: 8 }, () => question([1, 0], [0, 1]));
  const before = questions.map(() => answer(0.5, 0.5));
  const { toward, specific } = surveyChange(
    questions,
    before,
    questions.map(() => answer(0.75, 0.25)),
    ['Here', 'There'],
  );
  expect(toward[0]).toMatchObject({ country: 'Here', emd: { mean: 0.25, low: 0.25, n: 8 } });
  expect(toward[1]).toMatchObject({ country: 'There', emd: { mean: -0.25, high: -0.25, n: 8 } });
  expect(toward[0].emd.test.p).toBe(2 / 256);
  expect(specific.emd).toMatchObject({ mean: 0.5, low: 0.5, high: 0.5, n: 8, test: { p: 2 / 256 } });
  expect(surveyChange(questions, before, before, ['Here', 'There']).toward[0]).toMatchObject({
    emd: { mean: 0, low: 0, high: 0, test: { n: 0, p: 1 } },
  });
});

test('answers that grow flatter move toward both countries; which more is told', () => {
  const questions = Array.from({ length: 8 }, () => question([0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]));
  const all = (...shares: number[]) => questions.map(() => answer(...shares));
  const pair: [string, string] = ['Here', 'There'];
  // Cumulated .02, .96, .98 against .4, .7, .9 and .1, .3, .6: (.38 + .26 + .08) / 3 = .24 and (.08 + .66 + .38) / 3 = .3733;
  // of even shares .25, .5, .75: (.15 + .2 + .15) / 3 = .1667 to both.
  const change = surveyChange(questions, all(0.02, 0.94, 0.02, 0.02), all(0.25, 0.25, 0.25, 0.25), pair);
  expect(change.toward.map(({ emd }) => emd.mean.toFixed(6))).toEqual(['0.073333', '0.206667']);
  expect(change.specific.emd.mean).toBeCloseTo(0.24 - 1.12 / 3, 12);
  expect(change.specific.emd.test).toMatchObject({ p: 2 / 256, effect: -1 });
  const { rows } = surveyMovements({ all: change, emd: change, sorted: change }, [{ name: 'a' }, { name: 'b' }]);
  expect(rows.slice(0, 3).map(([subset, toward, emd]) => `${subset}: ${toward} ${emd}`)).toEqual([
    ...['all questions: Here +0.073', 'all questions: There +0.207', 'all questions: Here − There -0.133'],
  ]);
  // Equally far from both before, (.4 + .2 + .1) / 3 = .2333, and after: nearer to both by as much, to neither more.
  const middle = surveyChange(questions, all(0, 0.5, 0.5, 0), all(0.25, 0.25, 0.25, 0.25), pair);
  expect(middle.toward.map(({ emd }) => emd.mean.toFixed(6))).toEqual(['0.066667', '0.066667']);
  expect(middle.specific.emd.mean).toBeCloseTo(0, 12);
});

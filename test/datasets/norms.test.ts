import { expect, test } from 'vitest';
import { associationRows } from '../../datasets/association-rows.js';
import { openGeneric } from '../../datasets/generic.js';
import { loadMiniNorms } from '../../datasets/mini-norms.js';
import { countReversed, NormsCollector, splitByCue } from '../../datasets/norms.js';
import { ParticipantFilter } from '../../datasets/participants.js';
import { InputError } from '../../src/errors.js';
import { INSTRUCT_PROMPTS } from '../../src/text/prompts.js';
import { parseTable } from '../../src/text/table.js';

function words(text: string): string[][] {
  const { header, rows } = parseTable(text, 'x.csv');
  const { read } = openGeneric(header, { filter: new ParticipantFilter([], []), positions: null });
  const collector = new NormsCollector();
  for (const row of rows) for (const association of read(row) ?? []) collector.add(association);
  return collector.finish('en').cues.map(({ cue, responses }) => [cue, ...responses.map(({ word }) => word)]);
}

test.each([
  ['en', 6025, 'red', 'blood'],
  ['zh', 5997, '红色', '喜庆'],
] as const)('the embedded %s norms are whole', (language, associations, cue, first) => {
  const norms = loadMiniNorms(language);
  expect(norms.language).toBe(language);
  expect(norms.cues.length).toBe(360);
  expect(norms.cues.reduce((sum, { responses }) => sum + responses.length, 0)).toBe(associations);
  expect(norms.cues[0].cue).toBe(cue);
  expect(norms.cues[0].responses[0]).toEqual({ word: first, count: 60 });
  for (const { responses } of norms.cues) {
    responses.slice(1).forEach(({ count }, i) => {
      expect(count).toBeLessThan(responses[i].count);
    });
  }
});

test('rows are cleaned, summed and sorted; null and nan are words', () => {
  const table =
    'count,cue,note,response\r\n1,Null,,nan\n2,null,,"a, ""b"""\n2,null,,NaN\n9,null,,#Missing\n9,null,,#Unknown\n' +
    '9,null,,null\n9,null,,0123456789abcdef0123456789ABCDEF\n9,null,, \n\n5,red,,blood';
  expect(words(table)).toEqual([
    ['null', 'nan', 'a, "b"'],
    ['red', 'blood'],
  ]);
});

test('words that differ in stops, quotes and curls alone are one, spelled as it first stands', () => {
  const collector = new NormsCollector();
  const rows: [string, string, number][] = [
    ['Mr.', 'U.S.A.', 2],
    ['mr', 'yes', 4],
    ['mr.', '"U.S.A"', 3],
    ['MR', 'don’t', 1],
    ['mr', "don't", 2],
    ['mr', '…', 7],
    ['mr', 'mr.', 5],
  ];
  for (const [cue, response, count] of rows) collector.add({ cue, response, count });
  expect(collector.finish('en').cues).toEqual([
    {
      cue: 'mr.',
      responses: [
        { word: 'u.s.a.', count: 5 },
        { word: 'yes', count: 4 },
        { word: "don't", count: 3 },
      ],
    },
  ]);
  expect(collector.dropped).toEqual({ missing: 0, empty: 7, 'the cue itself': 5, 'an identifier': 0 });
});

test.each([
  ['cue,answer,count\na,b,1\n', 'x.csv has no column "response"; it has cue, answer, count'],
  ['cue\tresponse\tcount\na\tb\t1\na\tb\n', 'x.csv, line 3 has 2 values, the header 3'],
  [
    'cue,response,Freq\na,b,9\n',
    'x.csv has a column "Freq" but none "count", so each row would count once: rename it to count if it counts responses, else leave it out',
  ],
  ['cue,response,count\na,b,many\n', 'x.csv, line 2: count must be a positive number, not "many"'],
  ['cue,response,count\n\na,"b,1\n', 'x.csv: a quoted value that begins by line 3 does not end'],
  ['cue|response|count\na|b|1\n', 'x.csv: its first line, "cue|response|count", is one column'],
  ['', 'x.csv: its first line, "", is one column'],
])('refuses %j', (text, sentence) => {
  expect(() => words(text)).toThrow(InputError);
  expect(() => words(text)).toThrow(sentence);
});

test('a split shares no cue, loses none and depends on the seed alone', () => {
  const norms = loadMiniNorms('en');
  const [train, test] = splitByCue(norms, [0.7, 0.3], 42);
  expect([train.cues.length, test.cues.length]).toEqual([252, 108]);
  expect(new Set([...train.cues, ...test.cues].map(({ cue }) => cue)).size).toBe(360);
  expect(splitByCue(norms, [0.7, 0.3], 42)[1]).toEqual(test);
  expect(splitByCue(norms, [0.7, 0.3], 43)[1]).not.toEqual(test);
  expect(splitByCue(norms, [0.7, 0.2, 0.1], 42).map(({ cues }) => cues.length)).toEqual([252, 72, 36]);
  expect(() => splitByCue(norms, [0.7, 0.2], 42)).toThrow(InputError);
});

test('pairs that a split by cue leaves in training the other way round are counted', () => {
  const norms = (...lists: string[][]) => ({
    language: 'en',
    cues: lists.map(([cue, ...words]) => ({ cue, responses: words.map((word) => ({ word, count: 1 })) })),
  });
  const train = norms(['sea', 'ship', 'blue'], ['sky', 'blue', 'sea']);
  // ship–sea and blue–sea, blue–sky; sea is no test cue, and no associate of "moon" asks about it.
  expect(countReversed(train, norms(['ship', 'sea', 'sky'], ['blue', 'sky', 'sea', 'red'], ['moon', 'sky']))).toBe(3);
  expect(countReversed(train, norms(['red', 'rose']))).toBe(0);
  const [taught, , asked] = splitByCue(loadMiniNorms('en'), [0.7, 0.2, 0.1], 42);
  expect(asked.cues.reduce((sum, { responses }) => sum + responses.length, 0)).toBe(603);
  expect(countReversed(taught, asked)).toBe(48);
});

test('rows ask about the cue and answer by falling count', () => {
  const norms = loadMiniNorms('zh');
  const options = { prompt: INSTRUCT_PROMPTS.zh, sublists: 2, seed: 1 };
  const rows = associationRows(norms, options);
  expect(rows.length).toBe(3 * 360);
  expect(associationRows(norms, options)).toEqual(rows);
  const asked = new Set<number>();
  rows.forEach((row, i) => {
    if (!('messages' in row)) throw new Error('an instruct prompt makes messages');
    const { cue, responses } = norms.cues[Math.floor(i / 3)];
    const answer = row.messages.at(-1)!.content!.split('，');
    const positions = answer.map((word) => responses.findIndex((response) => response.word === word));
    expect(row.messages.map(({ role }) => role)).toEqual(['system', 'user', 'assistant']);
    expect(row.messages[1].content!.endsWith(`提示词：${cue}`)).toBe(true);
    expect(answer.length).toBe(i % 3 === 0 ? responses.length : Math.round(responses.length * 0.7));
    expect(positions).toEqual(positions.toSorted((a, b) => a - b));
    expect(positions).not.toContain(-1);
    const n = Number(/词语数量：(\d+)/.exec(row.messages[1].content!)![1]);
    expect(Math.abs(n / answer.length - 1)).toBeLessThanOrEqual(0.15);
    asked.add(n - answer.length);
  });
  expect(asked.size).toBeGreaterThan(3);
});

test('a text prompt makes prompt and completion; braces of a cue stay', () => {
  const prompt = { form: 'text', system: null, question: '{n} of {cue}:', separator: ', ', lead: ' ' } as const;
  const norms = {
    language: 'en',
    cues: [
      {
        cue: '{n}$&',
        responses: [
          { word: 'a', count: 2 },
          { word: 'b', count: 1 },
        ],
      },
    ],
  } as const;
  expect(associationRows(norms, { prompt, seed: 1 })).toEqual([{ prompt: '2 of {n}$&:', completion: ' a, b' }]);
  expect(associationRows(norms, { prompt, maxAssociates: 1, seed: 1 })).toEqual([
    { prompt: '1 of {n}$&:', completion: ' a' },
  ]);
});

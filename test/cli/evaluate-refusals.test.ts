import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { lexalign, makeWorkplace } from './sft-helpers.js';

const { directory, remove } = makeWorkplace();
afterAll(remove);

const write = (name: string, text: string) => {
  const file = join(directory, name);
  writeFileSync(file, text);
  return file;
};
const norms = write('norms.tsv', 'cue\tresponse\tcount\nred\tblood\t2\n');
const lexicon = write('lexicon.tsv', 'word\tvalence\nblood\t2\nfire\t4\n');
const survey = write(
  'survey.jsonl',
  ['S1', 'S2']
    .map((id, i) =>
      JSON.stringify({
        id,
        language: 'en',
        question: 'Tea?',
        options: [
          { code: 1, text: 'Yes' },
          { code: 2, text: 'No' },
        ],
        countries: {
          Here: { shares: [0.9, 0.1], n: 1 },
          There: { shares: [0.1, 0.9], n: 1 },
          ...(i > 0 && { Nowhere: { shares: [0.5, 0.5], n: 1 } }),
        },
      }),
    )
    .join('\n'),
);

/** What `evaluate association` writes, of a run that was asked about these cues. */
const answersAbout = (...cues: string[]) =>
  write(
    `${cues.join('-')}.json`,
    JSON.stringify({
      measure: 'association',
      model: 'a model',
      language: 'en',
      human: [
        { cue: 'red', words: ['blood'] },
        { cue: 'hot', words: ['fire'] },
      ],
      runs: [
        {
          name: 'base',
          adapter: null,
          cues: cues.map((cue) => ({ cue, predictions: [{ red: 'blood', hot: 'fire' }[cue]] })),
        },
      ],
    }),
  );

describe('lexalign evaluate, before a device is opened', () => {
  it.each<[1 | 2, RegExp, string[]]>([
    [2, /evaluate association needs --norms/, ['association']],
    [2, /--survey means nothing to association/, ['association', '--norms', norms, '--survey', norms]],
    [2, /--before needs --after/, ['association', '--norms', norms, '--before', 'none']],
    [2, /Give --adapter for one model/, ['association', '--norms', norms, '--after', 'x', '--adapter', 'x']],
    [2, /evaluate ranking needs --questions/, ['ranking']],
    [1, /line 1 is not valid JSON/, ['ranking', '--questions', norms]],
    [2, /--norms means nothing to ranking/, ['ranking', '--questions', norms, '--norms', norms]],
    [2, /evaluate affect needs --lexicon/, ['affect', '--norms', norms]],
    [2, /--norms means nothing with --answers/, ['affect', '--norms', norms, '--answers', norms, '--lexicon', lexicon]],
    [1, /is not JSON: give what evaluate --json wrote/, ['affect', '--answers', norms, '--lexicon', lexicon]],
    [
      1,
      /red\.json: base has no answer about the cue "hot"/,
      ['affect', '--answers', answersAbout('red'), '--lexicon', lexicon],
    ],
    [1, /rates valence again/, ['affect', '--norms', norms, '--lexicon', `${lexicon},${lexicon}`]],
    [2, /evaluate survey needs --survey/, ['survey']],
    [2, /--formats roman: there are number, letter and text/, ['survey', '--survey', survey, '--formats', 'roman']],
    [2, /Name two countries of the survey, as --country Here,There; it has 3/, ['survey', '--survey', survey]],
    [1, /--country Heer is not in .*; near it are Here/, ['survey', '--survey', survey, '--country', 'Heer,There']],
    [1, /question S1 has no answers of Nowhere/, ['survey', '--survey', survey, '--country', 'Here,Nowhere']],
    [
      2,
      /--wordings 4: there are 3 in language en/,
      ['survey', '--survey', survey, '--country', 'Here,There', '--wordings', '4'],
    ],
    [2, /--wordings must be a whole number of at least 0/, ['survey', '--survey', survey, '--wordings', '0.5']],
    [1, /no questions in zh, only in en/, ['survey', '--survey', survey, '--language', 'zh']],
    [2, /--high-tension must be a whole number of at least 1/, ['survey', '--survey', survey, '--high-tension', '0']],
    [1, /no texts and instructions of ours in fr/, ['side-effects', '--language', 'fr']],
    [1, /nothing\.txt has no text/, ['side-effects', '--text', write('nothing.txt', '\n')]],
  ])('exits %i: %s', async (code, sentence, args) => {
    const run = await lexalign('evaluate', ...args);
    expect(run.stderr).toMatch(sentence);
    expect(run.stderr).not.toMatch(/tier /);
    expect(run.code).toBe(code);
  });

  it('affect compares the lists of one cue, whatever their order', async () => {
    const json = join(directory, 'affect.json');
    const args = ['--answers', answersAbout('hot', 'red'), '--lexicon', lexicon, '--json', json];
    const run = await lexalign('evaluate', 'affect', ...args);
    expect(run.code, run.stderr).toBe(0);
    const [{ human, runs }] = JSON.parse(readFileSync(json, 'utf8')).dimensions;
    expect(human.medians).toEqual([2, 4]);
    expect(runs[0].medians).toEqual([2, 4]);
    expect(runs[0].distance.mean).toBe(0);
  });
});

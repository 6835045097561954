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

const french = write(
  'fr.jsonl',
  JSON.stringify({
    ...{
      id: 'F1',
      language: 'fr',
      question: 'Du thé ?',
      options: ['Oui', 'Non'].map((text, code) => ({ code, text })),
    },
    countries: { Here: { shares: [0.9, 0.1], n: 1 }, There: { shares: [0.1, 0.9], n: 1 } },
  }),
);
const ask = 'ask: {number: Numéro, letter: Lettre, text: Réponse}';
const wordings = write('wordings.yaml', `- {options: "Choix :", ${ask}}\n- {system: 3, options: "Choix :", ${ask}}\n`);
/** `evaluate survey` in French, asked by a prompt file. */
const asked = (name: string, text: string) => ['survey', '--survey', french, '--prompt-file', write(name, text)];

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
      /--wordings 4: there are 3 of ours in en/,
      ['survey', '--survey', survey, '--country', 'Here,There', '--wordings', '4'],
    ],
    [2, /--wordings must be a whole number of at least 0/, ['survey', '--survey', survey, '--wordings', '0.5']],
    [
      2,
      /no survey prompt of ours in language fr, only in en and zh: give --prompt-file/,
      ['survey', '--survey', french],
    ],
    [
      1,
      /--prompt-file .*wordings\.yaml, wording 2: system must be text\./,
      ['survey', '--survey', french, '--prompt-file', wordings],
    ],
    [1, /p1\.yaml: options must be text, which/, asked('p1.yaml', ask)],
    [1, /p2\.yaml: ask: text must be text, which/, asked('p2.yaml', 'options: O\nask: {number: N, letter: L}')],
    [1, /p3\.yaml: ask: digit must be one of number, letter, text/, asked('p3.yaml', 'options: O\nask: {digit: N}')],
    [1, /p4\.yaml: form must be one of system, question, options, ask, lead/, asked('p4.yaml', 'form: chat')],
    [1, /p5\.yaml is an empty list/, asked('p5.yaml', '[]')],
    [1, /p6\.yaml is not YAML or JSON/, asked('p6.yaml', '{')],
    [2, /--wordings 2: there are 1 in .*p7\.yaml/, [...asked('p7.yaml', `options: O\n${ask}`), '--wordings', '2']],
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

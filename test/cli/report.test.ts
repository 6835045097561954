import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { summarizeAffect } from '../../src/evaluate/affect.js';
import { scoreAssociations } from '../../src/evaluate/association.js';
import { associationGains, summarizeAssociations } from '../../src/evaluate/association-summary.js';
import type { EvaluationResult } from '../../src/evaluate/result.js';
import { sideEffectChange, summarizeSideEffects } from '../../src/evaluate/side-effects.js';
import { averageTries, type SurveyQuestion, summarizeSurvey, surveyChange } from '../../src/evaluate/survey.js';
import { digestFile } from '../../src/text/lines.js';
import { describeInBrowser } from '../browser.js';
import { lexalign, makeWorkplace } from './sft-helpers.js';

const { directory, remove } = makeWorkplace();
afterAll(remove);

const write = (name: string, value: unknown) => {
  const file = join(directory, name);
  writeFileSync(file, typeof value === 'string' ? value : JSON.stringify(value));
  return file;
};

/** A cue that would break a page or a table that does not escape. */
const nasty = '<img src=x onerror=alert(1)>|*`';
const human = ['red', 'sea', nasty].map((cue) => ({
  cue,
  responses: ['blood', 'fire', 'wave', 'ship'].map((word, i) => ({ word, count: 9 - i })),
}));
const texts = {
  before: ['blood, x', 'y', ''],
  after: ['fire, blood, wave', 'ship, z, ship', "I'm sorry, but I can't"],
};
const common = (measure: string) => ({
  model: 'models/lexi-base',
  quantize: 'nf4',
  tier: 'f32',
  language: 'en',
  provenance: {
    command: `npx lexalign evaluate ${measure} --seed 1`,
    created: '',
    files: [{ file: `${measure}.tsv`, sha256: 'ab12' }],
  },
});

function results(): EvaluationResult[] {
  const ks = [1, 2, 5];
  const scored = Object.entries(texts).map(([name, own]) => ({
    name,
    texts: own,
    scores: scoreAssociations(human, own, ks),
  }));
  const lists = scored.map(({ scores }) => scores.map(({ predictions }) => predictions));
  const lexicon = {
    dimensions: new Map([['valence', new Map(Object.entries({ blood: 2, fire: 4, wave: 6, ship: 7 }))]]),
    size: 4,
  };
  const questions = ['Tea?', 'Is "1 < 2"?'].map(
    (question, i): SurveyQuestion => ({
      id: `S${i + 1}`,
      language: 'en',
      question,
      options: ['Yes', 'Perhaps', 'No'].map((text, at) => ({ code: String(at), text })),
      countries: { Here: { shares: [0.7, 0.2, 0.1], n: 9 }, There: { shares: [0.1, 0.2, 0.7], n: null } },
    }),
  );
  const pair = ['Here', 'There'] as const;
  const answers = [
    [-2, -2, -2],
    [-1, -2, -4],
  ].map((logprobs) => questions.map(() => averageTries([[logprobs]])));
  const subsets = <T>(make: () => T) => ({ all: make(), emd: make(), sorted: make() });
  const effects = [1, 1.2].map((factor) => ({
    texts: [{ tokens: 10, nll: 20 * factor }],
    followed: [true, factor > 1],
  }));
  const names = ['before', 'after'].map((name) => ({ name, adapter: name === 'after' ? 'runs/us' : null }));
  return [
    {
      ...common('association'),
      measure: 'association',
      norms: 'norms.tsv',
      ks,
      human: human.map(({ cue, responses }) => ({ cue, words: responses.map(({ word }) => word) })),
      runs: scored.map(({ scores, texts: own }, i) => ({
        ...names[i],
        ...summarizeAssociations(scores, ks),
        cues: scores.map((score, at) => ({ ...score, text: own[at] })),
      })),
      gains: associationGains(scored[0].scores, scored[1].scores, ks),
    },
    {
      ...common('affect'),
      measure: 'affect',
      cues: human.map(({ cue }) => cue),
      run_names: names,
      dimensions: summarizeAffect(
        human.map(({ responses }) => responses.map(({ word }) => word)),
        lists,
        lexicon,
      ),
    },
    {
      ...common('survey'),
      measure: 'survey',
      countries: [...pair],
      prompts: [],
      formats: ['number', 'letter'],
      questions,
      high_tension: { emd: [0, 1], sorted: [0, 1] },
      runs: names.map((name, i) => ({
        ...name,
        answers: answers[i],
        summaries: subsets(() => summarizeSurvey(questions, answers[i], pair)),
      })),
      change: subsets(() => surveyChange(questions, answers[0], answers[1], pair)),
    },
    {
      ...common('side-effects'),
      measure: 'side-effects',
      runs: effects.map((own, i) => ({ ...names[i], ...summarizeSideEffects(own.texts, own.followed) })),
      change: sideEffectChange(effects[0], effects[1]),
    },
  ];
}

const run = join(directory, 'us');
mkdirSync(run);
write('us/run.json', {
  command: 'sft',
  arguments: { data: 'data/us', learning_rate: 1e-5, shuffle: false, model: null },
  data: [{ file: 'data/us/train.jsonl', sha256: 'cd34' }],
  model: 'models/tiny',
  base: { sha256: 'ba5e', tokenizer: '70ce' },
});
write(
  'us/metrics.jsonl',
  Array.from({ length: 30 }, (_, i) =>
    JSON.stringify(
      i % 10 === 9 ? { step: i, eval_loss: 3 / i } : { step: i + 1, loss: 4 / (i + 1), learning_rate: 1e-5 },
    ),
  ).join('\n'),
);
const data = join(directory, 'imported');
mkdirSync(data);
write('imported/card.json', {
  title: 'Norms of nobody',
  counts: { cues: 3 },
  inputs: [{ file: 'norms.csv', bytes: 1, sha256: 'ef56' }],
  outputs: [{ file: 'train.jsonl', bytes: 1, sha256: '7890' }],
});
const files = results().map((result) => write(`${result.measure}.json`, result));
const output = join(directory, 'report');

beforeAll(async () => {
  const made = await lexalign(
    'report',
    '--input',
    [data, run, ...files].join(','),
    '--output',
    output,
    '--title',
    'A & B',
  );
  expect(made.code, made.stderr).toBe(0);
  expect(made.stdout).toContain('report.html, report.md, report.json');
});

describe('lexalign report', () => {
  it('holds every measure, the commands and the digests, as Markdown', async () => {
    const text = readFileSync(join(output, 'report.md'), 'utf8');
    expect(text.match(/^## .*$/gm)).toEqual([
      '## Data: Norms of nobody',
      '## Training: us',
      '## Associations (en)',
      '## Affect and concreteness (en)',
      '## Survey (en): Here and There',
      '## Side effects (en)',
      '## How it was made',
    ]);
    // P@1: blood of three answers before, fire and ship after.
    expect(text).toMatch(/\| before \| P@1, % \| 33\.3 \|/);
    expect(text).toContain('3 cues of norms.tsv, asked of models/lexi-base in nf4.');
    expect(text).toMatch(/\| after \| P@1, % \| 66\.7 \|/);
    expect(text).toMatch(/\| P@1, points \| \+33\.3 \|/);
    expect(text).toMatch(/\| after \| refusals; answers without a word; words given again \| 1; 0; 1 \|/);
    expect(text).toMatch(
      /\| red \| blood, fire, wave, ship \| \*\*blood\*\*, x \| \*\*fire\*\*, \*\*blood\*\*, \*\*wave\*\* \|/,
    );
    expect(text).toContain('\\<img src=x onerror=alert(1)\\>\\|\\*\\`');
    // Medians of fire 4, blood 2, wave 6 and of people's four words.
    expect(text).toMatch(/\| valence \| people \| 100\.0 \| 5\.00 \|/);
    expect(text).toMatch(/\| all questions \| Here \| \+0\.\d+ \|/);
    expect(text).toContain('| JS to Here | JS to There | KL from Here | KL from There | same mode as Here, % |');
    // e^−2 three times; e^−1 + e^−2 + e^−4.
    expect(text).toMatch(/\| all questions \| before \| 40\.6 \| 0\.0 \| 0\.0 \| 2 \|/);
    expect(text).toMatch(/\| all questions \| after \| 52\.2 \| 0\.0 \| 0\.0 \| 2 \|/);
    expect(text).toMatch(/\| Yes \| 33\.33 \| 70\.54 \| 70 \| 10 \|/);
    expect(text).toMatch(/\| change, after over before \| perplexity, times \| 1\.492 \|/);
    for (const of of ['gain of', 'nearer to people by,', 'moved toward,'])
      expect(text).toContain(`| ${of} after over before |`);
    expect(text).toContain(
      'npx lexalign sft --data data/us --learning-rate 0.00001 --no-shuffle\nnpx lexalign evaluate association --seed 1\n',
    );
    expect(text).toContain('| base models/tiny: configuration, ends of every tensor | ba5e |');
    expect(text).toContain('| base models/tiny: tokenizer | 70ce |');
    for (const digest of ['cd34', 'ef56', '7890', 'ab12', await digestFile(files[0])]) expect(text).toContain(digest);
  });

  it('says each command once, as it is typed in a shell', async () => {
    const own = join(directory, 'spaced');
    mkdirSync(own);
    write('spaced/run.json', {
      command: 'sft',
      arguments: { data: "my data/it's.jsonl", use_rslora: true, output: '' },
    });
    const to = join(directory, 'commands');
    const made = await lexalign('report', '--input', [own, files[0], files[0]].join(','), '--output', to);
    expect(made.code, made.stderr).toBe(0);
    const commands = readFileSync(join(to, 'report.md'), 'utf8').split('```')[1];
    expect(commands.trim().split('\n')).toEqual([
      "npx lexalign sft --data 'my data/it'\\''s.jsonl' --use-rslora --output ''",
      'npx lexalign evaluate association --seed 1',
    ]);
  });

  it('holds the inputs, as JSON', () => {
    const report = JSON.parse(readFileSync(join(output, 'report.json'), 'utf8'));
    expect(report.title).toBe('A & B');
    expect(report.inputs.slice(2)).toEqual(JSON.parse(JSON.stringify(results())));
    expect(report.inputs[1].metrics).toHaveLength(30);
  });

  it('is one HTML file that asks for nothing', () => {
    const html = readFileSync(join(output, 'report.html'), 'utf8');
    expect(html).toContain("default-src 'none'");
    expect(html).not.toMatch(/<(?:script|img|iframe)[^>]*\ssrc=(?!x onerror)|<link[^>]*href="(?!data:)/i);
    expect(html).not.toContain('sourceMappingURL');
    expect(html).toContain('&lt;img src=x onerror=alert(1)&gt;');
    expect(html).not.toContain('<img src=x');
    expect(html).toContain('<title>A &amp; B</title>');
  });

  it('takes a run that was killed while it wrote a line, and no other broken line', async () => {
    const [killed, broken] = ['killed', 'broken'].map((name) => {
      mkdirSync(join(directory, name));
      write(`${name}/run.json`, { command: 'sft' });
      return join(directory, name);
    });
    write('killed/metrics.jsonl', '{"step":1,"loss":2}\n{"step":2,"loss":1}\n{"step":3,"lo');
    write('broken/metrics.jsonl', '{"step":1,"loss":2}\n{"step":2,"lo\n{"step":3,"loss":1}\n');
    const made = await lexalign('report', '--input', killed, '--output', join(directory, 'of-killed'));
    expect(made.code, made.stderr).toBe(0);
    const { inputs } = JSON.parse(readFileSync(join(directory, 'of-killed/report.json'), 'utf8'));
    expect(inputs[0].metrics).toEqual([
      { step: 1, loss: 2 },
      { step: 2, loss: 1 },
    ]);
    const refused = await lexalign('report', '--input', broken, '--output', join(directory, 'of-broken'));
    expect([refused.code, refused.stderr]).toEqual([
      1,
      expect.stringMatching(/metrics\.jsonl, line 2 is not valid JSON/),
    ]);
  });

  it.each<[RegExp, string[]]>([
    [/nowhere does not exist/, ['nowhere']],
    [/is a directory without run\.json/, [directory]],
    [/is not JSON: give what evaluate --json wrote/, [write('broken.json', '{')]],
    [/is no result of evaluate/, [write('other.json', { measure: 'weight' })]],
    [/does not say what it was made of/, [write('old.json', { measure: 'survey', runs: [] })]],
    [
      /lacks figures of evaluate survey/,
      [write('cut.json', { measure: 'survey', runs: [{}], provenance: common('x').provenance })],
    ],
  ])('says %s', async (sentence, inputs) => {
    const made = await lexalign('report', '--input', inputs.join(','), '--output', join(directory, 'none'));
    expect(made.stderr).toMatch(sentence);
    expect(made.code).toBe(1);
    expect(existsSync(join(directory, 'none'))).toBe(false);
  });
});

describeInBrowser('the report', directory, (inBrowser) => {
  const { problems } = inBrowser;
  const open = (width: number, colorScheme: 'light' | 'dark') =>
    inBrowser(pathToFileURL(join(output, 'report.html')).href, width, colorScheme, (page) =>
      page.on('request', (request) => {
        if (!/^(file|data):/.test(request.url())) problems.push(request.url());
      }),
    );

  it.each([
    [1200, 'light'],
    [1200, 'dark'],
    [390, 'light'],
    [390, 'dark'],
  ] as const)(
    'at %i pixels, %s: every plot is seen, nothing is wider than the page, no errors',
    async (width, scheme) => {
      const page = await open(width, scheme);
      const seen = await page.evaluate(`[...document.querySelectorAll('canvas')].map((canvas) => {
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      const colors = new Set();
      let painted = 0;
      for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200) { painted++; colors.add(data[i] + ',' + data[i + 1] + ',' + data[i + 2]); }
      return { width: canvas.getBoundingClientRect().width, painted, colors: colors.size };
    })`);
      // Loss, rate; P@K; valence; two questions.
      expect(seen).toHaveLength(6);
      for (const { width: own, painted, colors } of seen as { width: number; painted: number; colors: number }[]) {
        expect(own).toBeGreaterThan(width === 390 ? 300 : 800);
        expect(own).toBeLessThanOrEqual(width);
        expect(painted).toBeGreaterThan(500);
        expect(colors).toBeGreaterThan(3);
      }
      expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(width);
      const back = await page.evaluate('getComputedStyle(document.body).backgroundColor');
      expect(back).toBe(scheme === 'light' ? 'rgb(255, 255, 255)' : 'rgb(20, 23, 28)');
      const image = await page.screenshot({ fullPage: true });
      expect(image.length).toBeGreaterThan(20_000);
      if (process.env.REPORT_SCREENSHOTS)
        writeFileSync(join(process.env.REPORT_SCREENSHOTS, `${width}-${scheme}.png`), image);
      await page.close();
      expect(problems).toEqual([]);
    },
  );

  it('turns dark with the system', async () => {
    const page = await open(800, 'light');
    const pixels = () => page.evaluate("document.querySelector('canvas').toDataURL()");
    const light = await pixels();
    await page.emulateMedia({ colorScheme: 'dark' });
    await expect.poll(pixels).not.toBe(light);
    await page.close();
    expect(problems).toEqual([]);
  });
});

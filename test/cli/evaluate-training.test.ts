import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listAdapterNames } from '../../src/cli/gpu.js';
import { surveyExamples, surveyTries } from '../../src/evaluate/score-survey.js';
import type { SurveyQuestion } from '../../src/evaluate/survey.js';
import { LEXI_BASE_SURVEY_PROMPTS } from '../../src/text/survey-prompts.js';
import { lexiBase, loadTokenizer } from '../text/shared.js';
import { lexalign, makeWorkplace, writeRows } from './sft-helpers.js';

const { directory, remove } = makeWorkplace();
afterAll(remove);

const written: Omit<SurveyQuestion, 'countries'>[] = readFileSync(
  new URL('../fixtures/survey-questions.jsonl', import.meta.url),
  'utf8',
)
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line));

/** Two countries that answer opposite to each other. */
const questions = written
  .filter(({ language, options }) => language === 'en' && options.length === 2)
  .slice(0, 8)
  .map(
    (question): SurveyQuestion => ({
      ...question,
      countries: { Aland: { shares: [0.9, 0.1], n: 100 }, Bland: { shares: [0.1, 0.9], n: 100 } },
    }),
  );
const survey = writeRows(join(directory, 'survey.jsonl'), questions);
const average = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
const result = (file: string) => JSON.parse(readFileSync(file, 'utf8'));

const hasAdapter = (await listAdapterNames()).length > 0;
if (!hasAdapter) console.log('evaluating what was trained: skipped, no adapter in this process: run npm test');

describe.skipIf(!hasAdapter)('an option of several tokens', () => {
  it('has the probability of its whole answer', async () => {
    // Both begin with the same word, so that their first tokens alone would come out even.
    const question: SurveyQuestion = { ...questions[0], id: 'long', options: [] };
    const options = ['very good', 'very bad indeed'].map((text, i) => ({ code: String(i), text }));
    const asked = writeRows(join(directory, 'long.jsonl'), [{ ...question, options }]);
    const json = join(directory, 'long.json');
    const survey = ['--survey', asked, '--formats', 'text', '--tier', 'f32', '--json', json];
    const run = await lexalign('evaluate', 'survey', ...survey);
    expect(run.code, run.stderr).toBe(0);

    const tries = surveyTries([{ ...question, options }], LEXI_BASE_SURVEY_PROMPTS.en, ['text']);
    const rows = writeRows(
      join(directory, 'tries.jsonl'),
      tries.map(({ messages }) => ({ messages })),
    );
    const output = join(directory, 'tries.out.jsonl');
    const scored = await lexalign('score', '--data', rows, '--output', output, '--tier', 'f32');
    expect(scored.code, scored.stderr).toBe(0);
    const lines = readFileSync(output, 'utf8').trimEnd().split('\n');
    const logprobs: number[][] = lines.map((line) => JSON.parse(line).logprobs);
    const answers = surveyExamples(tries, await loadTokenizer(lexiBase), 8192).map(({ labels }, row) =>
      logprobs[row].filter((_, at) => labels[at] !== -100),
    );
    expect(answers.map(({ length }) => length).every((tokens) => tokens >= 3)).toBe(true);
    /** Share of the first option by wording and rotation, and mass, by a score of an answer's tokens. */
    const byHand = (score: (tokens: number[]) => number) => {
      const p = (wording: number, option: number) =>
        tries.flatMap((own, row) =>
          own.wording === wording && own.option === option ? [Math.exp(score(answers[row]))] : [],
        );
      const both = [0, 1, 2].map((wording) => [p(wording, 0), p(wording, 1)]);
      expect(both.flat(2)).toHaveLength(12); // two rotations of two options, thrice
      return {
        first: both.map(([good, bad]) => good.map((own, rotation) => own / (own + bad[rotation]))),
        mass: average(both.map(([good, bad]) => average(good) + average(bad))),
      };
    };
    const whole = byHand((tokens) => tokens.reduce((sum, own) => sum + own, 0));
    const start = byHand(([first]) => first);
    const { prompts, runs } = result(json);
    expect(prompts).toEqual(LEXI_BASE_SURVEY_PROMPTS.en);
    const [{ shares, mass, orderEffect, wordingEffect }] = runs[0].answers;
    const first = average(whole.first.flat());
    expect(shares[0]).toBeCloseTo(first, 4);
    expect(mass / whole.mass).toBeCloseTo(1, 3);
    const apart = (values: number[], from: number) => average(values.map((value) => Math.abs(value - from)));
    expect(orderEffect).toBeCloseTo(average(whole.first.map((own) => apart(own, average(own)))), 4);
    expect(wordingEffect).toBeCloseTo(apart(whole.first.map(average), first), 4);
    expect(run.stdout).toMatch(/1 questions, 12 answers \(3 wordings; every rotation; text\)/);
    expect(run.stdout).toMatch(/order and labels move \d+\.\d % of the shares, the wording \d+\.\d %\./);
    expect(average(start.first.flat())).toBeCloseTo(0.5, 4);
    expect(Math.abs(shares[0] - 0.5)).toBeGreaterThan(0.05);
  });
});

describe.skipIf(!hasAdapter)('a survey in a language of no prompt of ours', () => {
  it('is asked in the wordings of a file', async () => {
    const french = questions.slice(0, 2).map((question) => ({ ...question, language: 'fr' }));
    const ask = { number: 'Numéro :', letter: 'Lettre :', text: 'Réponse :' };
    const wordings = ['Choix :', 'Réponses :'].map((options) => ({
      system: null,
      question: 'Q : ',
      options,
      ask,
      lead: '',
    }));
    const file = join(directory, 'wordings.json');
    writeFileSync(file, JSON.stringify(wordings));
    const json = join(directory, 'french.json');
    const survey = ['--survey', writeRows(join(directory, 'french.jsonl'), french), '--prompt-file', file];
    const run = await lexalign('evaluate', 'survey', ...survey, '--json', json);
    expect(run.code, run.stderr).toBe(0);
    // 2 wordings, 2 formats, 2 rotations of 2 options.
    expect(result(json)).toMatchObject({ language: 'fr', prompts: wordings, cost: { rows: 2 * 16 } });
    expect(result(json).provenance.files.map((entry: { file: string }) => entry.file)).toContain(file);
  });
});

describe.skipIf(!hasAdapter)('a model that was taught to answer as country A', () => {
  const adapter = join(directory, 'taught');
  const untaught = join(directory, 'untaught');

  beforeAll(async () => {
    // In one wording: asked in all, it is to answer so in others too.
    const tries = surveyTries(questions, LEXI_BASE_SURVEY_PROMPTS.en.slice(0, 1), ['text']);
    const rows = tries.map(({ question, option, messages }) => ({
      messages,
      weight: questions[question].countries.Aland.shares[option],
    }));
    const data = writeRows(join(directory, 'train.jsonl'), rows);
    const common = ['--data', data, '--batch-size', String(rows.length), '--learning-rate', '5e-3', '--lora-r', '8'];
    const run = await lexalign('sft', ...common, '--max-steps', '8', '--output', adapter);
    expect(run.code, run.stderr).toBe(0);
    // A step at rate 0: an adapter that has learnt nothing.
    const idle = await lexalign('sft', ...common, '--max-steps', '1', '--output', untaught);
    expect(idle.code, idle.stderr).toBe(0);
  });

  const evaluate = async (name: string, ...args: string[]) => {
    const json = join(directory, `${name}.json`);
    const common = ['--survey', survey, '--formats', 'text', '--high-tension', '4', '--json', json];
    const run = await lexalign('evaluate', 'survey', ...common, ...args);
    expect(run.code, run.stderr).toBe(0);
    return { ...result(json), stdout: run.stdout };
  };

  it('moves toward A and away from B', async () => {
    const { change, runs, stdout, cost, high_tension } = await evaluate('taught', '--after', adapter);
    const [a, b] = change.all.toward;
    expect([a.country, b.country]).toEqual(['Aland', 'Bland']);
    for (const by of ['emd', 'js']) {
      expect(a[by].low).toBeGreaterThan(0);
      expect(b[by].high).toBeLessThan(0);
    }
    expect(a.emd.test.p).toBeLessThan(0.05);
    expect(change.all.specific.emd.mean).toBeCloseTo(a.emd.mean - b.emd.mean, 12);
    expect(change.all.specific.emd.low).toBeGreaterThan(a.emd.low);
    expect(runs[1].summaries.all.closer.emd.first).toBeGreaterThan(runs[0].summaries.all.closer.emd.first);
    expect(runs[1].summaries.all.mass.mean).toBeGreaterThan(runs[0].summaries.all.mass.mean);
    expect(high_tension.emd).toHaveLength(4);
    expect(runs[0].summaries.emd.n).toBe(4);
    expect(runs[0].answers).toHaveLength(8);
    expect(runs[1].answers[0].distances.Aland.emd).toBeLessThan(runs[1].answers[0].distances.Bland.emd);
    expect(cost).toMatchObject({ rows: 96, microBatches: 1 });
    expect(cost.tokens).toBeLessThan(cost.equivalentTokens / 2);
    expect(stdout).toMatch(
      /8 questions, 96 answers \(3 wordings; .*: \d+ tokens computed in 1 batch, in place of \d+ \(\d\.\dx\)/,
    );
    expect(stdout).toMatch(/JS to Aland +JS to Bland +KL from Aland +KL from Bland +same mode as Aland, %/);
    expect(stdout).toMatch(/^questions +moved toward, after over before +EMD .* JS /m);
    expect(stdout).toMatch(/^all questions +Aland +\+0\.\d+ +\[\+0\.\d+, \+0\.\d+\]/m);
    expect(stdout).toMatch(/^ +Bland +-0\.\d+ +\[-0\.\d+, -0\.\d+\]/m);
    expect(stdout).toMatch(/^ +Aland − Bland +\+[01]\.\d+ +\[\+0\.\d+, \+[01]\.\d+\]/m);
  });

  it('without training stands still', async () => {
    const { change } = await evaluate('untaught', '--before', 'none', '--after', untaught);
    for (const { emd, js } of change.all.toward) {
      for (const { low, high } of [emd, js]) {
        expect(low).toBeLessThanOrEqual(0);
        expect(high).toBeGreaterThanOrEqual(0);
      }
    }
  });

  it('side effects and affect are told before and after', async () => {
    const text = join(directory, 'text.txt');
    writeFileSync(text, 'The sea was grey, and the\nwind was cold.\n\nA house stands by the river.\n');
    const json = join(directory, 'side.json');
    const side = await lexalign(
      'evaluate',
      'side-effects',
      '--text',
      text,
      '--language',
      'zh',
      '--after',
      adapter,
      '--json',
      json,
    );
    expect(side.code, side.stderr).toBe(0);
    expect(side.stderr).toMatch(/^after: 8 instructions: \d+ %$/m);
    const { runs, change } = result(json);
    expect(runs[0].texts.map(({ id }: { id: string }) => id)).toEqual(['1', '2']);
    expect(runs[0].perplexity.mean).toBeGreaterThan(1);
    expect(change.perplexityFactor.mean).toBeCloseTo(runs[1].perplexity.mean / runs[0].perplexity.mean, 6);
    expect(runs[0].instructions).toHaveLength(8);
    expect(side.stdout).toMatch(/change, after over before +perplexity, times/);
    // One of 8 instructions is 12.5 points, and no share of what was followed before.
    const points = (100 * change.followed.mean).toFixed(1).replace(/^(?=[1-9])/, '\\+');
    expect(side.stdout).toMatch(new RegExp(`^ +instructions followed, points +${points} +\\[`, 'm'));

    const norms = join(directory, 'norms.tsv');
    writeFileSync(
      norms,
      'cue\tresponse\tcount\nred\tblood\t2\nred\tfire\t1\nsea\twater\t2\nsea\tfish\t1\nsun\tlight\t1\n',
    );
    const lists = join(directory, 'lists.json');
    const asked = ['--norms', norms, '--language', 'en', '--k', '5', '--max-new-tokens', '12', '--after', adapter];
    const association = await lexalign('evaluate', 'association', ...asked, '--json', lists);
    expect(association.code, association.stderr).toBe(0);
    expect(association.stdout).toMatch(
      /before the base model, after .*taught:\n +before +after +gain +95 % interval +p +n/,
    );
    expect(result(lists).runs.map(({ name }: { name: string }) => name)).toEqual(['before', 'after']);
    const short = join(directory, 'short.json');
    const stopped = await lexalign('evaluate', 'association', ...asked, '--stop', 'e', '--stop', 'a', '--json', short);
    expect(stopped.code, stopped.stderr).toBe(0);
    const textsOf = (file: string): string[] =>
      result(file).runs.flatMap(({ cues }: { cues: { text: string }[] }) => cues.map(({ text }) => text));
    expect(textsOf(short)).toEqual(textsOf(lists).map((text) => text.split(/[ea]/)[0]));
    expect(textsOf(lists).join('')).toMatch(/[ea]/);
    const words: string[] = result(lists).runs.flatMap(({ cues }: { cues: { predictions: string[] }[] }) =>
      cues.flatMap(({ predictions }) => predictions),
    );
    const lexicon = join(directory, 'lexicon.tsv');
    const rated = [...new Set([...words, 'blood', 'fire', 'water', 'fish', 'light'])];
    writeFileSync(
      lexicon,
      ['word\tvalence\trare', ...rated.map((word, i) => `${word}\t${1 + (i % 9)}\t`), 'oddity\t\t3'].join('\n'),
    );
    const affectFile = join(directory, 'affect.json');
    const affect = await lexalign('evaluate', 'affect', '--answers', lists, '--lexicon', lexicon, '--json', affectFile);
    expect(affect.code, affect.stderr).toBe(0);
    expect(affect.stderr).toMatch(/Warning: the lexicon has rare for 0\.0 % of the words of people/);
    expect(affect.stderr).not.toMatch(/has valence for/);
    expect(affect.stdout).toMatch(/^rare +people +0\.0 +– +– +0$/m);
    expect(affect.stdout).toMatch(/^ +after +0\.0 +– +– +– +– +0$/m);
    const { quantize, tier } = result(lists);
    expect(result(affectFile)).toMatchObject({ quantize, tier: expect.stringMatching(`^${tier}$`) });
    const [valence] = result(affectFile).dimensions;
    expect(valence.human.coverage).toBe(1);
    expect(valence.runs).toHaveLength(2);
  });
});

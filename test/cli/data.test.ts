import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it, test } from 'vitest';
import { sources } from '../../datasets/index.js';
import { digestFile } from '../../src/text/lines.js';
import { lexalign, makeWorkplace } from './sft-helpers.js';

const { directory, remove } = makeWorkplace();
afterAll(remove);

let outputs = 0;
const newOutput = () => join(directory, `out-${outputs++}`);
const write = (name: string, text: string) => {
  const file = join(directory, name);
  writeFileSync(file, text);
  return file;
};
const jsonl = (file: string) =>
  readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

/** 20 cues with ten associates each, in the layout of LWOW. */
const edges = write(
  'edges.csv',
  ['src,tgt,wt', ...Array.from({ length: 200 }, (_, i) => `cue${i % 20},word${i},${200 - i}`)].join('\n'),
);

describe('lexalign data', () => {
  test('writes rows, lists and a card of associations, and the same again', async () => {
    const output = newOutput();
    const json = join(output, 'result.json');
    const run = await lexalign('data', 'lwow', '--input', edges, '--output', output, '--augment', '2', '--json', json);
    expect(run.code, run.stderr).toBe(0);
    expect(run.stdout).toMatch(
      /lwow: edges\.csv\n {2}200 rows, 20 cues, 20,100 responses, 200 types, 200 pairs, 0 test pairs that training holds reversed\n/,
    );
    expect(run.stdout).toMatch(
      /dropped: nothing\n {2}train: 14 cues, 42 rows\n {2}valid: 4 cues, 4 rows\n {2}test: 2 cues, 2 rows/,
    );
    const rows = jsonl(join(output, 'train.jsonl'));
    expect(rows).toHaveLength(42);
    const [, question, answer] = rows[0].messages;
    expect(question.content).toMatch(/Number of words: (9|10|11)\nCue word: cue\d+$/);
    expect(answer.content.split(', ')).toHaveLength(10);
    expect(rows[1].messages[2].content.split(', ')).toHaveLength(7);
    const cues = ['train', 'valid', 'test'].flatMap((part) =>
      readFileSync(join(output, `${part}.tsv`), 'utf8')
        .trim()
        .split('\n')
        .slice(1)
        .map((line) => line.split('\t')[0]),
    );
    expect(new Set(cues).size).toBe(20);
    const card = JSON.parse(readFileSync(join(output, 'card.json'), 'utf8'));
    expect(JSON.parse(readFileSync(json, 'utf8'))).toEqual(card);
    expect(card.choices).toMatchObject({ responses: null, seed: 42 }); // edges do not tell first responses from later
    expect(card.inputs).toEqual([
      { file: 'edges.csv', bytes: readFileSync(edges).length, sha256: await digestFile(edges) },
    ]);
    for (const { file, sha256 } of card.outputs) expect(await digestFile(join(output, file))).toBe(sha256);
    expect(readFileSync(join(output, 'README.md'), 'utf8')).toMatch(
      /Licence CC BY 4\.0[\s\S]*\| cues \| 20 \|[\s\S]*\| train \| 70 \| 14 \| 42 \|/,
    );
    const again = newOutput();
    await lexalign('data', 'lwow', '--input', edges, '--output', again, '--augment', '2');
    for (const name of ['train.jsonl', 'valid.jsonl', 'test.tsv', 'card.json'])
      expect(readFileSync(join(again, name), 'utf8'), name).toBe(readFileSync(join(output, name), 'utf8'));
  });

  test('writes no files of a part without cues, which sft would take for data to evaluate on', async () => {
    const output = newOutput();
    const more = ['--split', '90,0,10', '--ranking', '2', '--lists'];
    const run = await lexalign('data', 'lwow', '--input', edges, '--output', output, ...more);
    expect(run.code, run.stderr).toBe(0);
    expect(run.stdout).toContain('valid: 0 cues, 0 rows');
    const written = readdirSync(output, { recursive: true, encoding: 'utf8' });
    expect(written.filter((name) => name.includes('valid'))).toEqual([]);
    expect(written.filter((name) => name.endsWith('test.jsonl'))).toHaveLength(3);
  });

  test('writes questions to rank beside, parted by cue as the rows are', async () => {
    const output = newOutput();
    const table = ['cue,response,count', ...Array.from({ length: 66 }, (_, i) => `cue${i % 11},word${i},${200 - i}`)];
    const norms = write('rank.csv', [...table, 'short,a,2', 'short,b,1'].join('\n'));
    const ranking = ['--ranking', '4', '--ranking-questions', '2'];
    const run = await lexalign('data', 'generic', '--input', norms, '--output', output, '--language', 'zh', ...ranking);
    expect(run.code, run.stderr).toBe(0);
    const card = JSON.parse(readFileSync(join(output, 'card.json'), 'utf8'));
    expect(card).toMatchObject({ choices: { ranking: 4, ranking_questions: 2 }, counts: { 'ranking questions': 22 } });
    expect(card.dropped['cues with fewer than 4 to rank']).toBe(1);
    const cues = ['train', 'valid', 'test'].map((part) => {
      const rows = jsonl(join(output, 'ranking', `${part}.jsonl`));
      for (const { messages, ranking: order, language } of rows) {
        expect(language).toBe('zh');
        expect(order).toHaveLength(4);
        expect(messages.at(-1).content).toMatch(/提示词：cue\d+\n词语：word\d+(，word\d+){3}$/);
      }
      const own = new Set(rows.map(({ cue }) => cue));
      const listed = readFileSync(join(output, `${part}.tsv`), 'utf8');
      for (const cue of own) expect(listed).toContain(`${cue}\t`);
      return own;
    });
    expect(cues.reduce((n, { size }) => n + size, 0)).toBe(new Set(cues.flatMap((set) => [...set])).size);
    const refuse = async (sentence: RegExp, ...args: readonly string[]) => {
      const result = await lexalign('data', 'generic', '--input', norms, '--output', newOutput(), ...args);
      expect(result.stderr).toMatch(sentence);
    };
    await refuse(/--ranking 7: no cue has so many associates: lower it/, '--language', 'en', '--ranking', '7');
    for (const none of ['1.5', '1', '-2'])
      await refuse(/--ranking must be a whole number of at least 2/, '--language', 'en', '--ranking', none);
  });

  test('writes questions for lists beside, with all that people gave', async () => {
    const output = newOutput();
    const rows = Array.from({ length: 60 }, (_, i) => `cue${i % 10},word${i},${200 - i}`);
    // Answers are read without quotes and stops around a word.
    const norms = write('lists.csv', ['cue,response,count', ...rows, 'cue0,"""Word0.""",1', 'cue0,etc.,1'].join('\n'));
    const asked = ['--language', 'en', '--prompts', 'instruct', '--lists', '--augment', '2', '--max-associates', '4'];
    const run = await lexalign('data', 'generic', '--input', norms, '--output', output, ...asked);
    expect(run.code, run.stderr).toBe(0);
    expect(run.stdout).toContain('10 list questions');
    const seen: string[] = [];
    for (const part of ['train', 'valid', 'test']) {
      const listed = readFileSync(join(output, `${part}.tsv`), 'utf8');
      const questions = jsonl(join(output, 'lists', `${part}.jsonl`));
      expect(questions.length).toBeGreaterThan(0);
      const asked = new Set(jsonl(join(output, `${part}.jsonl`)).map(({ messages }) => messages[1].content));
      for (const { messages, ranking, language, cue } of questions) {
        seen.push(cue);
        expect(language).toBe('en');
        expect(messages).toHaveLength(2);
        // Of four words asked for a tenth is none: the questions are those of the rows.
        expect(asked).toContain(messages[1].content);
        const own = Array.from({ length: 6 }, (_, i) => `word${10 * i + Number(cue.slice(3))}`);
        expect(ranking).toEqual(cue === 'cue0' ? [...own, 'etc'] : own);
        expect(listed).toContain(`${cue}\t${ranking[0]}\t`);
      }
    }
    expect(seen.sort()).toEqual(Array.from({ length: 10 }, (_, i) => `cue${i}`));
    const prompt = write('text.yaml', 'form: text\nquestion: "{cue}:"\n');
    const text = ['--language', 'en', '--lists', '--prompt-file', prompt];
    const refused = await lexalign('data', 'generic', '--input', norms, '--output', newOutput(), ...text);
    const dutch = ['--language', 'nl', '--ranking', '2', '--prompt-file', prompt];
    const unasked = await lexalign('data', 'generic', '--input', norms, '--output', newOutput(), ...dutch);
    expect(unasked.stderr).toMatch(/no ranking prompt of ours in language nl, only in en, zh: leave --ranking out\.$/);
    expect(refused.stderr).toMatch(/--lists asks in turns.* give a --prompt-file of the form chat/);
    expect(refused.code).toBe(2);
  });

  test('what it writes it reads again', async () => {
    const output = newOutput();
    const norms = write('norms.tsv', 'cue\tresponse\tcount\nsea\t"""wave"""\t2\nsea\tship, boat\t1\nsky\tblue\t1\n');
    const split = ['--split', '100,0,0', '--language', 'en'];
    expect((await lexalign('data', 'generic', '--input', norms, '--output', output, ...split)).code).toBe(0);
    expect(readFileSync(join(output, 'train.tsv'), 'utf8')).toBe(readFileSync(norms, 'utf8'));
  });

  test('a prompt file serves other languages and forms; a directory is read file by file', async () => {
    const prompt = write('prompt.yaml', 'form: text\nquestion: "Palabras para {cue}:"\nlead: " "\n');
    const folder = newOutput();
    mkdirSync(folder);
    writeFileSync(join(folder, 'b.csv'), 'cue,response,R123\nmar,ola,1\n');
    writeFileSync(join(folder, 'a.csv'), 'cue,response,R123\nmar,sal,2\nmar,ola,3\n');
    const output = newOutput();
    const split = ['--split', '100,0,0', '--prompt-file', prompt];
    const run = await lexalign('data', 'swow-rp', '--input', folder, '--output', output, ...split);
    expect(run.code, run.stderr).toBe(0);
    expect(jsonl(join(output, 'train.jsonl'))).toEqual([{ prompt: 'Palabras para mar:', completion: ' ola, sal' }]);
  });

  test('ratings become a lexicon, a survey its questions with answers', async () => {
    const ratings = write('ratings.csv', 'Word,V.Mean.Sum,A.Mean.Sum,D.Mean.Sum\nSea,7,NA,5\n');
    const output = newOutput();
    expect((await lexalign('data', 'warriner', '--input', ratings, '--output', output)).code).toBe(0);
    expect(readFileSync(join(output, 'lexicon.tsv'), 'utf8')).toBe('word\tvalence\tarousal\tdominance\nsea\t7\t\t5\n');
    const microdata = write('wvs.csv', 'B_COUNTRY_ALPHA,W_WEIGHT,Q1\nAAA,1,1\nAAA,3,2\n');
    const options = [
      { code: 1, text: 'Yes' },
      { code: 2, text: 'No' },
    ];
    const questions = write('questions.jsonl', JSON.stringify({ id: 'Q1', language: 'en', question: 'Tea?', options }));
    const survey = newOutput();
    const run = await lexalign('data', 'wvs', '--input', microdata, '--output', survey, '--questions', questions);
    expect(run.code, run.stderr).toBe(0);
    expect(run.stdout).toMatch(/wvs: wvs\.csv\n {2}2 rows, 1 questions, 1 countries/);
    expect(jsonl(join(survey, 'survey.jsonl'))[0].countries).toEqual({ AAA: { shares: [0.25, 0.75], n: 2 } });
  });

  it.each<[1 | 2, RegExp, string[]]>([
    [2, /: source "swow-xx" is none of "swow-en"/, ['swow-xx', '--input', edges]],
    [2, /generic needs --language/, ['generic', '--input', edges]],
    [2, /no prompt of ours in language nl, only in en, zh: give --prompt-file/, ['swow-nl', '--input', edges]],
    [2, /--augment means nothing to warriner/, ['warriner', '--input', edges, '--augment', '2']],
    [2, /--questions means nothing to lwow/, ['lwow', '--input', edges, '--questions', edges]],
    [2, /wvs needs --questions/, ['wvs', '--input', edges]],
    [2, /--split 70,20: write three percentages/, ['lwow', '--input', edges, '--split', '70,20']],
    [
      1,
      /edges\.csv does not tell first responses.*leave --responses out/,
      ['lwow', '--input', edges, '--responses', '1'],
    ],
    [2, /--responses 3,1: write some of 1,2,3/, ['lwow', '--input', edges, '--responses', '3,1']],
    [2, /--augment must be a whole number/, ['lwow', '--input', edges, '--augment', '-1']],
    [1, /nowhere\.csv does not exist/, ['lwow', '--input', 'nowhere.csv']],
    [1, /no column "Word"; it has src, tgt, wt/, ['brysbaert', '--input', edges]],
    [1, /is one column: part values by tabs/, ['lwow', '--input', write('pipes.csv', 'src|tgt|wt\na|b|1\n')]],
    [1, /line 1 is not UTF-8/, ['lwow', '--input', write('utf16.csv', '')]],
  ])('exits %i: %s', async (code, sentence, args) => {
    if (args[2].endsWith('utf16.csv')) writeFileSync(args[2], Buffer.from('\ufeffsrc,tgt,wt\n', 'utf16le'));
    const output = newOutput();
    const run = await lexalign('data', ...args, '--output', output);
    expect(run.stderr).toMatch(sentence);
    expect(run.code).toBe(code);
    expect(existsSync(output)).toBe(false);
  });

  it('does not write into a directory that holds something', async () => {
    const before = readdirSync(directory);
    const run = await lexalign('data', 'lwow', '--input', edges, '--output', directory);
    expect(run.stderr).toMatch(/is not empty/);
    expect(readdirSync(directory)).toEqual(before);
  });

  it.each(sources.map(({ name }) => name))('%s: --help says where it comes from and on which terms', async (name) => {
    const { stdout } = await lexalign('data', name, '--help');
    expect(stdout).toMatch(/From https?:|For (norms of your own|ratings in any language)/);
    expect(stdout.replace(/\s+/g, ' ')).toMatch(/[Ll]icence|not to be passed on|do not pass/);
  });
});

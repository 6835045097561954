import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readCultures, sampleCues, testQuestions } from '../../src/cli/align-data.js';
import { readRecipe } from '../../src/cli/align-recipe.js';
import { openModel } from '../../src/cli/session.js';
import { summarizeStudy } from '../../src/evaluate/study.js';
import { argumentsOf } from './align-helpers.js';
import { makeWorkplace } from './sft-helpers.js';

const { directory, remove } = makeWorkplace();
afterAll(remove);
const at = (name: string) => join(directory, name);
/** A recipe, changed. */
const recipe = (name: string, text: string) => {
  writeFileSync(at(name), text);
  return at(name);
};

describe('the split', () => {
  it('holds a cue out of every culture of its language at once', async () => {
    const table = (words: readonly string[], answer: string) =>
      `cue,response\n${words.flatMap((word) => [`${word},${answer}1`, `${word},${answer}2`]).join('\n')}\n`;
    const words = Array.from({ length: 60 }, (_, i) => `w${i}`);
    writeFileSync(at('a.csv'), table(words.slice(0, 40), 'a'));
    writeFileSync(at('b.csv'), table(words.slice(15).reverse(), 'b'));
    const text = `align: {output: ${at('out')}, few_shot: 3, test_cues: 5}
cultures:
  - {name: a, language: en, place: A, associations: {source: generic, input: ${at('a.csv')}}}
  - {name: b, language: en, place: B, associations: {source: generic, input: ${at('b.csv')}}}
data: {split: "60,10,30"}`;
    const model = await openModel({});
    try {
      const [a, b] = await readCultures(readRecipe(argumentsOf(recipe('two.yaml', text))), model);
      const cuesOf = ({ cues }: { cues: readonly { cue: string }[] }) => cues.map(({ cue }) => cue);
      const trained = new Set([...cuesOf(a.norms.train), ...cuesOf(b.norms.train)]);
      for (const { norms, preambles } of [a, b]) {
        expect(norms.test.cues).toHaveLength(5);
        expect(cuesOf(norms.test).filter((cue) => trained.has(cue))).toEqual([]);
        expect(preambles.shots?.split('\n')).toHaveLength(4);
      }
      expect(cuesOf(a.norms.train).some((cue) => cuesOf(b.norms.train).includes(cue))).toBe(true);
      expect(a.norms.train.cues[0].responses[0].word).toBe('a1');
      expect(b.norms.train.cues[0].responses[0].word).toBe('b1');
      expect(a.preambles.culture).toBe('Answer as someone from A would.');
      const reversed = { 'test pairs that training holds reversed': 0 };
      const rows = { rows: 80, cues: 40, responses: 80, types: 2, pairs: 80, ...reversed };
      expect(a.imports).toMatchObject([
        { culture: 'a', source: 'generic', files: [{ file: at('a.csv') }], counts: rows },
      ]);
    } finally {
      await model.checkpoint.close();
    }
  });
});

describe('a sample of cues', () => {
  const cues = Array.from({ length: 200 }, (_, i) => ({ cue: `w${String(i).padStart(3, '0')}`, responses: [] }));
  const names = (sample: readonly { cue: string }[]) => sample.map(({ cue }) => cue);
  const ten = names(sampleCues(cues, 10, 42));

  it('is of the whole file, in its order, and the same for the same seed', () => {
    expect(ten).toEqual(ten.toSorted());
    expect(new Set(ten).size).toBe(10);
    expect(ten).not.toEqual(names(cues.slice(0, 10)));
    const thousand = Array.from({ length: 100 }, (_, seed) => names(sampleCues(cues, 10, seed))).flat();
    const early = thousand.filter((name) => name < 'w100').length;
    expect(Math.abs(early - 500)).toBeLessThan(60); // binomial: four standard deviations of 15.8
    expect(new Set(thousand).size).toBeGreaterThan(190);
    expect(names(sampleCues(cues, 10, 42))).toEqual(ten);
    expect(names(sampleCues(cues.slice(0, 3), 10, 42))).toEqual(['w000', 'w001', 'w002']);
    expect(sampleCues(cues, 0, 42)).toEqual([]);
  });

  it('is the same of a file in another order, but for that order', () => {
    expect(names(sampleCues(cues.toReversed(), 10, 42))).toEqual(ten.toReversed());
  });
});

describe('the seed of training', () => {
  it('changes neither the cues that are measured nor those that are shown', async () => {
    const read = async (seed: string, dataSeed: number) => {
      const text = `align: {output: ${at('out')}, few_shot: 3, test_cues: 5, seed: "${seed}"}
cultures: [{name: en, language: en, place: here, associations: mini-norms}]
data: {split: "70,0,30", seed: ${dataSeed}}`;
      const model = await openModel({});
      try {
        const [{ norms, preambles }] = await readCultures(readRecipe(argumentsOf(recipe('seed.yaml', text))), model);
        return [norms.test.cues.map(({ cue }) => cue), preambles.shots];
      } finally {
        await model.checkpoint.close();
      }
    };
    const first = await read('42', 42);
    expect(first[0]).toHaveLength(5);
    expect(await read('1, 2', 42)).toEqual(first);
    const [cues, shots] = await read('42', 43);
    expect(cues).not.toEqual(first[0]);
    expect(shots).not.toEqual(first[1]);
  });
});

describe('associations in the prompt', () => {
  it('are as many as are asked for, or as people gave', async () => {
    writeFileSync(
      at('few.csv'),
      `cue,response\n${Array.from({ length: 30 }, (_, i) => Array.from({ length: 7 }, (_, r) => `w${i},r${r}\n`).join('')).join('')}`,
    );
    const model = await openModel({});
    try {
      const words = async (associations: string, evaluate: string) => {
        const text = `align: {output: ${at('out')}, few_shot: 3}
cultures: [{name: en, language: en, place: here, associations: ${associations}}]
evaluate: ${evaluate}`;
        const [{ preambles }] = await readCultures(readRecipe(argumentsOf(recipe('shots.yaml', text))), model);
        return preambles
          .shots!.split('\n')
          .slice(1)
          .map((line) => line.split(', ').length);
      };
      expect(await words('mini-norms', '{}')).toEqual([10, 10, 10]); // lexi-base is asked for 5 and 10
      expect(await words('mini-norms', '{k: "3, 12"}')).toEqual([12, 12, 12]);
      expect(await words(`{source: generic, input: ${at('few.csv')}}`, '{}')).toEqual([7, 7, 7]);
    } finally {
      await model.checkpoint.close();
    }
  });
});

describe('the survey of three cultures', () => {
  it('has answers of all their countries, and is not cut to what all were asked', async () => {
    const question = (id: string) => ({
      ...{ id, language: 'en', question: `${id}?` },
      options: [1, 2].map((code) => ({ code, text: `option ${code}` })),
    });
    writeFileSync(at('questions.jsonl'), ['Q1', 'Q2'].map((id) => `${JSON.stringify(question(id))}\n`).join(''));
    // CCC was not asked Q2; of DDD nobody reads.
    const answers = ['AAA,1,1,1', 'AAA,1,1,2', 'BBB,1,2,2', 'CCC,1,1,-4', 'CCC,1,2,-4', 'DDD,1,1,1'];
    writeFileSync(at('wvs.csv'), `B_COUNTRY_ALPHA,W_WEIGHT,Q1,Q2\n${answers.join('\n')}\n`);
    const survey = `{source: wvs, input: ${at('wvs.csv')}, questions: ${at('questions.jsonl')}}`;
    const text = `align: {output: ${at('out')}, few_shot: 0}
cultures:
${['AAA', 'BBB', 'CCC'].map((name) => `  - {name: ${name}, language: en, country: ${name}, associations: mini-norms, survey: ${survey}}`).join('\n')}
`;
    const model = await openModel({});
    try {
      const cultures = await readCultures(readRecipe(argumentsOf(recipe('three.yaml', text))), model);
      expect(cultures.map(({ surveyed }) => surveyed?.pair)).toEqual([
        ['AAA', 'BBB'],
        ['BBB', 'AAA'],
        ['CCC', 'AAA'],
      ]);
      const [first, second, third] = cultures.map(({ surveyed }) => surveyed?.questions ?? []);
      const told = {
        name: 'base',
        seed: null,
        adapter: null,
        of: null,
        lists: cultures[0].norms.test.cues.map(() => ''),
      };
      const { distances } = summarizeStudy(
        cultures.map(({ name, language, norms, surveyed }) => ({
          ...{ name, language, human: norms.test.cues, questions: [], lexicon: null, surveyed },
          models: [null, 'AAA', 'BBB', 'CCC'].map((of) => ({
            ...{ ...told, id: `${of}`, of },
            ...{ rankings: null, survey: null, sideEffects: null },
          })),
        })),
        { ks: [1], highTension: 1, seed: 42 },
      );
      expect(distances.map(({ cultures: pair, survey: { people } }) => [pair.join(' '), people?.n])).toEqual([
        ['AAA BBB', 2],
        ['AAA CCC', 1],
        ['BBB CCC', 1],
      ]);
      for (const questions of [first, second])
        expect(questions.map(({ countries }) => Object.keys(countries))).toEqual([
          ['AAA', 'BBB', 'CCC'],
          ['AAA', 'BBB'],
        ]);
      expect(third.map(({ id }) => id)).toEqual(['Q1']);
      const [norms, asked] = cultures[2].imports;
      const reversed = { 'test pairs that training holds reversed': 48 };
      expect(norms).toMatchObject({
        source: 'mini-norms',
        counts: { rows: 6025, cues: 360, pairs: 6025, ...reversed },
      });
      expect(asked).toMatchObject({ source: 'wvs', counts: { rows: 6, questions: 1 } });
      expect(asked.dropped['questions that a country was not asked']).toBe(1);

      const apart = ['AAA,1,1,-4', 'BBB,1,-4,2', 'CCC,1,1,1'];
      writeFileSync(at('wvs.csv'), `B_COUNTRY_ALPHA,W_WEIGHT,Q1,Q2\n${apart.join('\n')}\n`);
      await expect(readCultures(readRecipe(argumentsOf(at('three.yaml'))), model)).rejects.toThrow(
        /cultures \(AAA\): .*wvs\.csv: no question was answered in both AAA and BBB/,
      );
    } finally {
      await model.checkpoint.close();
    }
  });
});

describe('another language', () => {
  it('is asked a survey in the wordings of a file of its own, which is digested', async () => {
    const lines = Array.from({ length: 30 }, (_, i) => `woord${i},hond,5\nwoord${i},kat,3`);
    writeFileSync(at('nl.csv'), `cue,response,count\n${lines.join('\n')}\n`);
    writeFileSync(at('lijst.yaml'), 'question: "Wat hoort bij {cue}?"\n');
    const wording = (options: string) => ({
      ...{ system: 'Enquête', question: 'Vraag: ', options, lead: '' },
      ask: { number: 'Nummer', letter: 'Letter', text: 'Antwoord' },
    });
    const wordings = ['Keuzes:', 'Antwoorden:'].map(wording);
    writeFileSync(at('enquete.json'), JSON.stringify(wordings));
    const question = {
      ...{ id: 'Q1', language: 'nl', question: 'Thee?' },
      options: ['Ja', 'Nee'].map((text, code) => ({ code: String(code), text })),
      countries: { NLD: { shares: [0.9, 0.1], n: 9 }, BEL: { shares: [0.4, 0.6], n: 9 } },
    };
    writeFileSync(at('enquete.jsonl'), `${JSON.stringify(question)}\n`);
    const text = (
      prompts: string,
      evaluate = '{}',
    ) => `align: {output: ${at('out')}, few_shot: 0, culture_prompt: false, stages: sft-lists, measures: survey}
cultures:
  - name: nl
    language: nl
    country: NLD
    associations: {source: generic, input: ${at('nl.csv')}}
    survey: {input: ${at('enquete.jsonl')}, against: BEL}
    prompts: {association: ${at('lijst.yaml')}${prompts}}
data: {split: "70,0,30"}
evaluate: ${evaluate}`;
    const model = await openModel({});
    try {
      const read = (own: string) => readCultures(readRecipe(argumentsOf(recipe('enquete.yaml', own))), model);
      const file = at('enquete.json');
      const [culture] = await read(text(`, survey: ${file}`));
      expect(culture.surveyed?.prompts).toEqual(wordings);
      expect(culture.files.map((entry) => entry.file)).toContain(file);
      const [first] = await read(text(`, survey: ${file}`, '{wordings: 1}'));
      expect(first.surveyed?.prompts).toEqual(wordings.slice(0, 1));
      await expect(read(text(`, survey: ${file}`, '{wordings: 3}'))).rejects.toThrow(
        /cultures \(nl\): --wordings 3: there are 2 in .*enquete\.json\./,
      );
      await expect(read(text(''))).rejects.toThrow(
        /cultures \(nl\): There is no survey prompt of ours in language nl, .* \(in a recipe prompts: survey\)/,
      );
    } finally {
      await model.checkpoint.close();
    }
  });

  it('is trained to rank with a prompt file of its own, answered under English headings', async () => {
    const lines = Array.from({ length: 30 }, (_, i) => `woord${i},hond,5\nwoord${i},kat,3\nwoord${i},muis,1`);
    writeFileSync(at('nl.csv'), `cue,response,count\n${lines.join('\n')}\n`);
    writeFileSync(at('lijst.yaml'), 'question: "Wat hoort bij {cue}?"\n');
    const question = 'Zet {k} woorden op volgorde, als Final Ranking: Rank 1: woord. {cue}: {words}';
    writeFileSync(at('orde.yaml'), `question: "${question}"\n`);
    const text = `align: {output: ${at('out')}, few_shot: 0, culture_prompt: false, stages: "sft, sft-ppo", measures: ranking}
cultures:
  - name: nl
    language: nl
    associations: {source: generic, input: ${at('nl.csv')}}
    prompts: {association: ${at('lijst.yaml')}, ranking: ${at('orde.yaml')}}
data: {split: "70,0,30", ranking: 2}`;
    const model = await openModel({});
    try {
      const read = readRecipe(argumentsOf(recipe('nl.yaml', text)));
      const [culture] = await readCultures(read, model);
      const questions = testQuestions(culture, read, null);
      expect(questions).toHaveLength(9);
      for (const { language, messages, ranking } of questions) {
        expect([language, ranking.length]).toEqual(['en', 2]);
        expect(messages.at(-1)!.content).toMatch(
          /^Zet 2 woorden op volgorde, .* woord\d+: (hond|kat|muis), (hond|kat|muis)$/,
        );
      }
    } finally {
      await model.checkpoint.close();
    }
  });
});

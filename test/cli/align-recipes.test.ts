import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it, test } from 'vitest';
import yargs from 'yargs';
import { loadMiniNorms } from '../../datasets/mini-norms.js';
import { readCultures, sampleCues, testQuestions } from '../../src/cli/align-data.js';
import { type AlignArguments, alignOptions, readRecipe } from '../../src/cli/align-recipe.js';
import { readConfigFile } from '../../src/cli/config-file.js';
import { openModel } from '../../src/cli/session.js';
import { summarizeStudy } from '../../src/evaluate/study.js';
import { root } from './run.js';
import { lexalign, makeWorkplace } from './sft-helpers.js';

const { directory, remove } = makeWorkplace();
afterAll(remove);
const at = (name: string) => join(directory, name);
const recipes = readdirSync(join(root, 'recipes')).filter((name) => name.startsWith('align-'));

/** The arguments of `lexalign align --config FILE`. */
function argumentsOf(file: string, given: object = {}): AlignArguments {
  const values = readConfigFile(file, 'align', alignOptions);
  return yargs([])
    .config({ ...values, ...given, config: file })
    .options(alignOptions)
    .parseSync();
}

describe('the recipes', () => {
  it.each(recipes)('%s is understood, and opens with the command that runs it', (name) => {
    const file = join(root, 'recipes', name);
    const recipe = readRecipe(argumentsOf(file));
    expect(recipe.cultures.map(({ language }) => language)).toEqual(['en', 'zh']);
    expect(recipe.stages).toContain('sft-ppo');
    expect(recipe.args.output).toBe(`runs/${name.replace('.yaml', '')}`);
    const lines = readFileSync(file, 'utf8').split('\n');
    expect(lines[1]).toBe(`#   npx lexalign align --config recipes/${name}`);
  });

  it.each(recipes.filter((name) => name.includes('us-zh')))('%s trains as the study did', (name) => {
    const recipe = readRecipe(argumentsOf(join(root, 'recipes', name)));
    expect(recipe.sft({})).toMatchObject({ loraR: 64, loraAlpha: 256, loraplusLrRatio: 16, batchSize: 144, seed: 42 });
    expect(recipe.ppo({})).toMatchObject({ batchSize: 64, numMiniBatches: 2, klCoef: 0.1, loraR: 64, loraAlpha: 256 });
    expect(recipe.data).toMatchObject({ ranking: 10, split: '70,20,10', seed: 42 });
    expect(recipe.cultures.every(({ survey }) => survey?.source === 'wvs')).toBe(true);
  });
});

describe('the cost at the top of a recipe', () => {
  const whole = (value: number) => Math.round(value).toLocaleString('en-US');
  it.each(recipes.filter((name) => name.includes('us-zh')))('%s follows from it', (name) => {
    const file = join(root, 'recipes', name);
    const { args, data, sft, ppo, evaluate, stages } = readRecipe(argumentsOf(file));
    const [training, , testing] = data.split.split(',').map((percent) => Number(percent) / 100);
    const [trained, rollouts] = [sft({}), ppo({})];
    const epochs = trained.numTrainEpochs;
    const listTokens = 8 * Math.max(...(evaluate.k ?? '').split(',').map(Number));
    const asked = 3 + stages.length;
    const [R, S, T] = [3000, 5000, 200];
    const surveyed = (asked + 1) * 250 * 2000 * ((evaluate.wordings || 3) / 3);
    const cost = [12292, 10000].map((cues) => {
      const train = Math.floor(training * cues);
      const rows = (train * (1 + (data.augment ?? 0))) / (1 - args.rankingShare);
      const answers = rollouts.totalEpisodes || train * data.rankingQuestions;
      const tested = args.testCues || Math.floor(testing * cues);
      const lists = tested * (asked + 1) * listTokens;
      return {
        ...{ train, rows, answers, tested, lists, tokens: rows * epochs * 300 },
        steps: Math.ceil(Math.ceil(rows / trained.batchSize) * epochs),
        rollouts: Math.ceil(answers / rollouts.batchSize),
        hours: [
          (rows * epochs * 300) / R / 3600,
          (answers * (T / S + ((8 / 3) * (T + 250)) / R)) / 3600,
          (lists + asked * tested * T) / S / 3600,
          surveyed / 3 / R / 3600,
        ],
      };
    });
    const both = (show: (culture: (typeof cost)[number]) => string) => cost.map(show).join(' and ');
    const millions = (value: number) => (value / 1e6).toFixed(1);
    const hours = (part: number, digits: number) => `${both((own) => own.hours[part].toFixed(digits))} h`;
    const total = cost.flatMap((own) => own.hours).reduce((sum, own) => sum + own, 0);
    const measured = file.includes('qwen') ? 0.4 : 0.26;
    const text = readFileSync(file, 'utf8').replace(/\n#\s+/g, ' ');
    for (const part of [
      `SFT ${both(({ train }) => whole(train))} training cues`,
      `${both(({ rows }) => whole(rows))} rows, ${both(({ steps }) => String(steps))} steps of ${trained.batchSize} rows`,
      `300 tokens a row ${both(({ tokens }) => millions(tokens))} M tokens`,
      `PPO ${both(({ answers }) => whole(answers))} answers of T tokens, ${both((own) => String(own.rollouts))} rollouts`,
      `tests ${both(({ tested }) => whole(tested))} cues: of ${asked + 1} models lists of at most ${listTokens} tokens, ${both(({ lists }) => millions(lists))} M tokens, and of ${asked} a ranking of T tokens`,
      `survey 250 questions, assumed: of ${asked + 1} models ${both(() => millions(surveyed))} M tokens, 2,000 a question in three wordings`,
      `R = ${measured.toFixed(2)} (bench/README.md), at which SFT takes ${both(({ tokens }) => whole(tokens / measured / 3600))} h.`,
      `SFT ${hours(0, 1)}, PPO ${hours(1, 1)}, tests ${hours(2, 2)}, survey ${hours(3, 2)}; ${total.toFixed(1)} h in all`,
    ])
      expect(text.replace(/ +/g, ' ')).toContain(part);
  });
});

test('the small study says how many rows and steps its SFT has', () => {
  const file = join(root, 'recipes', 'align-mini.yaml');
  const { args, data, sft } = readRecipe(argumentsOf(file));
  const { batchSize, numTrainEpochs } = sft({});
  const lists = (loadMiniNorms('en').cues.length * Number(data.split.split(',')[0])) / 100;
  const rankings = Math.round((lists * args.rankingShare) / (1 - args.rankingShare));
  const steps = Math.ceil(Math.ceil((lists + rankings) / batchSize) * numTrainEpochs);
  expect(readFileSync(file, 'utf8')).toContain(`${lists} rows of lists and ${rankings} of rankings: ${steps} steps`);
});

const mini = `
align: {output: ${at('out')}, few_shot: 2}
cultures:
  - {name: en, language: en, place: here, associations: mini-norms}
`;
/** A recipe, changed. */
const recipe = (name: string, text: string) => {
  writeFileSync(at(name), text);
  return at(name);
};

describe('lexalign align refuses, before a device is opened', () => {
  const culture = (entry: string) => mini.replace(/ {2}- .*/, `  - ${entry}`);
  it.each([
    [
      'an unknown key of its own',
      mini.replace('few_shot', 'few_shots'),
      /few_shots is no option of align\. Did you mean few-shot\?/,
    ],
    ['an unknown section', `${mini}\nsftt: {}`, /sftt is no option of align/],
    ['an option at the top', `${mini}\nmodel: x`, /model stands in no section; a study has align, cultures/],
    [
      'an unknown key of training',
      `${mini}\nsft: {learning_rat: 1}`,
      /learning_rat is no option of sft\. Did you mean learning-rate\?/,
    ],
    ['what it settles itself', `${mini}\nsft: {output: x}`, /sft: output is settled by align/],
    ['a number that is none', `${mini}\nsft: {learning_rate: fast}`, /sft: --learning-rate must be one number/],
    ['a number that makes no sense', `${mini}\nppo: {cliprange: 0}`, /ppo: --cliprange must be above 0/],
    [
      'a choice that is none',
      `${mini}\nppo: {kl_estimator: k2}`,
      /ppo: .*kl-?[eE]stimator k2 is none of k1, k3|ppo: --kl-estimator "k2" is none of/,
    ],
    ['a reward that is none', `${mini}\nppo: {reward: best}`, /--reward best is none of/],
    ['a stop string without text', `${mini}\nevaluate: {stop: ["."," ", ""]}`, /evaluate: --stop needs some text/],
    ['a split that is none', `${mini}\ndata: {split: "50,20"}`, /data: --split 50,20: write three percentages/],
    [
      'a stage that is none',
      mini.replace('few_shot: 2', 'stages: dpo'),
      /--stages dpo is none of sft-lists, sft, ppo, sft-ppo/,
    ],
    [
      'PPO from an SFT that is not trained',
      mini.replace('few_shot: 2', 'stages: sft-ppo'),
      /sft-ppo goes on from sft: name both/,
    ],
    ['a seed that is none', mini.replace('few_shot: 2', 'seed: "1,x"'), /--seed must be a whole number/],
    ['a seed twice', mini.replace('few_shot: 2', 'seed: "1, 2, 1"'), /--seed 1, 2, 1 names a seed twice/],
    [
      'a seed of one stage among several seeds',
      `${mini.replace('few_shot: 2', 'seed: "1,2"')}\nppo: {seed: 1}`,
      /ppo: seed is settled by the seeds of align: leave it out/,
    ],
    ['no cultures', 'align: {output: x}', /cultures must be a list/],
    [
      'an unknown key of a culture',
      culture('{name: en, langage: en}'),
      /cultures, entry 1: langage is none of .*Did you mean language\?/,
    ],
    ['a culture without a language', culture('{name: en}'), /entry 1 \(en\): language is missing/],
    ['a name that is no directory', culture('{name: ../x, language: en}'), /name \.\.\/x names directories/],
    [
      'two cultures of one name',
      `${mini}  - {name: en, language: zh, place: x, associations: mini-norms}`,
      /two are named en/,
    ],
    [
      'an unknown source',
      culture('{name: en, language: en, associations: {source: swow, input: x}}'),
      /associations\.source: swow is none of/,
    ],
    [
      'a source in another language',
      culture('{name: en, language: zh, associations: {source: swow-en, input: x}}'),
      /swow-en is in en, the culture in zh/,
    ],
    [
      'a survey without a country',
      culture('{name: en, language: en, associations: mini-norms, survey: s.jsonl}'),
      /survey needs the culture's country/,
    ],
    [
      'a survey without wording',
      culture('{name: en, language: en, country: A, associations: mini-norms, survey: {source: wvs, input: x}}'),
      /wvs needs questions/,
    ],
    [
      'no place for the culture prompt',
      culture('{name: en, language: en, associations: mini-norms}'),
      /cultures \(en\): the culture prompt needs a place/,
    ],
    [
      'rankings in a language without',
      culture(
        `{name: nl, language: nl, place: x, associations: {source: generic, input: ${at('nl.csv')}}, prompts: {association: ${at('p.yaml')}}}`,
      ),
      /cultures \(nl\): there is no ranking prompt of ours in nl: give one in prompts: ranking, or set stages: sft-lists/,
    ],
    [
      'associations in the prompt in a language without words for them',
      culture(
        `{name: nl, language: nl, place: x, persona: y, associations: {source: generic, input: ${at('nl.csv')}}, prompts: {association: ${at('p.yaml')}}}`,
      ).replace('few_shot: 2', 'few_shot: 2, stages: sft-lists'),
      /cultures \(nl\): there are no words of ours for associations in a prompt in nl: set few_shot: 0/,
    ],
    [
      'a file that is not there',
      culture('{name: en, language: en, place: x, associations: {source: generic, input: none.csv}}'),
      /cultures \(en\): --input none\.csv does not exist/,
    ],
    [
      'prompts that pass the model’s positions',
      mini.replace('few_shot: 2', 'few_shot: 90'),
      /cultures \(en\): the longest question and answer come to .* more than the model's 512 positions: lower few_shot/,
    ],
  ])('%s', async (what, text, sentence) => {
    writeFileSync(at('nl.csv'), `cue,response\n${Array.from({ length: 30 }, (_, i) => `c${i},r`).join('\n')}\n`);
    writeFileSync(at('p.yaml'), 'question: "Wat hoort bij {cue}?"\n');
    const { code, stderr, stdout } = await lexalign('align', '--config', recipe('bad.yaml', text));
    expect(stderr, what).toMatch(sentence);
    expect(stderr.match(/lexalign: /g)).toHaveLength(1);
    expect([1, 2]).toContain(code);
    expect(stdout).toBe('');
    expect(existsSync(at('out'))).toBe(false);
  });

  it('a directory that holds something else, and a recipe without --config', async () => {
    mkdirSync(at('used'));
    writeFileSync(at('used/mine.txt'), 'mine');
    const used = await lexalign('align', '--config', recipe('mini.yaml', mini), '--output', at('used'));
    expect([used.code, used.stderr]).toEqual([1, expect.stringMatching(/used is not empty/)]);
    expect(readdirSync(at('used'))).toEqual(['mine.txt']);
    const bare = await lexalign('align', '--output', at('x'));
    expect([bare.code, bare.stderr]).toEqual([2, expect.stringMatching(/align needs --config/)]);
  });
});

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
      const rows = { rows: 80, cues: 40, responses: 80, types: 2, pairs: 80 };
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
      expect(norms).toMatchObject({ source: 'mini-norms', counts: { rows: 6025, cues: 360, pairs: 6025 } });
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

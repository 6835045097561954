import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, test } from 'vitest';
import { loadMiniNorms } from '../../datasets/mini-norms.js';
import { readRecipe } from '../../src/cli/align-recipe.js';
import { argumentsOf } from './align-helpers.js';
import { root } from './run.js';

const recipes = readdirSync(join(root, 'recipes')).filter((name) => name.startsWith('align-'));

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

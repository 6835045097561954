import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { lexalign, makeWorkplace } from './sft-helpers.js';

const { directory, remove } = makeWorkplace();
afterAll(remove);
const at = (name: string) => join(directory, name);
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
      'two cultures whose directories are one on Windows and macOS',
      `${mini}  - {name: EN, language: zh, place: x, associations: mini-norms}`,
      /two are named EN/,
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

  it('a reward of lists for its rankings, once it has these', async () => {
    const file = recipe('coverage.yaml', `${mini}\nppo: {reward: coverage}`);
    const { code, stderr, stdout } = await lexalign('align', '--config', file);
    expect(stderr).toMatch(/^lexalign: --reward coverage pays for .*ranking\/train\.jsonl shows all of them.*$/m);
    expect([code, existsSync(at('out'))]).toEqual([1, false]);
    expect(stdout).not.toContain('Device:');
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

import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { listAdapterNames } from '../../src/cli/gpu.js';
import type { StudyResult } from '../../src/evaluate/study.js';
import { RolloutEngine } from '../../src/model/rollout.js';
import { writeRandomCheckpoint } from '../random-checkpoint.js';
import { lexalign, makeWorkplace, metricsOf, type Outcome, writeRows } from './sft-helpers.js';

const { directory, remove } = makeWorkplace();
afterAll(remove);
const at = (...names: string[]) => join(directory, ...names);
const out = (...names: string[]) => at('study', ...names);
const json = (file: string) => JSON.parse(readFileSync(file, 'utf8'));

/** Interrupts the first rollout, once; pays for short answers, which a random model can give. */
const reward = `export default ({ answer }) => {
  if (globalThis.interruptStudy) process.emit('SIGINT');
  globalThis.interruptStudy = false;
  return { score: -answer.length / 10, parsed: false };
};`;
const recipe = `
align:
  model: ${at('lexi-base')}
  output: ${out()}
  stages: sft, sft-ppo
  ranking_share: 0.25
  few_shot: 2
  test_cues: 3
cultures:
  - name: us
    language: en
    country: USA
    place: the United States
    associations: mini-norms
    lexicons: [${at('lexicon.tsv')}]
    survey: ${at('survey.jsonl')}
  - {name: cn, language: zh, country: CHN, place: 中国, associations: mini-norms, survey: ${at('survey.jsonl')}}
data: {split: "70,0,30", max_associates: 4, ranking: 3}
sft: {max_steps: 2, batch_size: 4, max_length: 128, lora_r: 4, learning_rate: 0.01, lora_target_modules: q_proj}
ppo: {total_episodes: 8, batch_size: 4, num_ppo_epochs: 1, response_length: 4, reward: ${at('reward.mjs')}}
evaluate: {k: "2,3", max_new_tokens: 6, high_tension: 1, text: ${at('texts.txt')}}
`;

const hasAdapter = (await listAdapterNames()).length > 0;
if (!hasAdapter) console.log('lexalign align: skipped, no adapter in this process: run npm test');

describe.skipIf(!hasAdapter)('lexalign align', () => {
  let interrupted: Outcome;
  let finished: Outcome;

  beforeAll(async () => {
    const shape = { hidden: 32, layers: 1, heads: 2, kvHeads: 1, intermediate: 64, vocab: 8192 };
    mkdirSync(at('lexi-base'));
    await writeRandomCheckpoint(at('lexi-base'), shape);
    for (const name of ['tokenizer.json', 'tokenizer_config.json'])
      copyFileSync(join(import.meta.dirname, '../../models/lexi-base', name), at('lexi-base', name));
    writeFileSync(at('recipe.yaml'), recipe);
    writeFileSync(at('reward.mjs'), reward);
    writeFileSync(at('texts.txt'), 'A short text.\n\nAnother one.\n');
    writeFileSync(
      at('lexicon.tsv'),
      'word\tvalence\trare\nday\t6\t\ndark\t3\t\nwhite\t5\t\noddity\t\t1\nDay\t1\t\nodd\t\tNA\n',
    );
    const question = (language: string, text: string) => ({
      id: 'q1',
      language,
      question: text,
      options: ['1', '2'].map((code) => ({ code, text: code })),
      countries: { USA: { shares: [0.9, 0.1], n: 10 }, CHN: { shares: [0.2, 0.8], n: 10 } },
    });
    writeRows(at('survey.jsonl'), [question('en', 'Tea?'), question('zh', '茶？')]);
    (globalThis as { interruptStudy?: boolean }).interruptStudy = true;
    interrupted = await lexalign('align', '--config', at('recipe.yaml'));
    // As after a device that ran out of memory.
    const changed = { ppo: 'micro_batch_tokens: 64, save_steps: 1', sft: 'gradient_checkpointing: on' };
    writeFileSync(
      at('recipe.yaml'),
      recipe.replace(/^(sft|ppo): \{/gm, (start, name: 'sft' | 'ppo') => `${start}${changed[name]}, `),
    );
    finished = await lexalign('align', '--config', at('recipe.yaml'), '--resume');
    writeFileSync(at('recipe.yaml'), recipe);
  });

  it('ends with a checkpoint and 130 when it is interrupted, and goes on from there', () => {
    expect(interrupted.code, interrupted.stderr).toBe(130);
    expect(interrupted.stderr).toContain(`Interrupted: --resume goes on with ${out()}.`);
    expect(interrupted.stdout).toContain('── us: sft-ppo');
    expect(interrupted.stdout).not.toContain('── cn');
    expect(finished.code, finished.stderr).toBe(0);
    expect(finished.stdout).toContain(`── us: sft: complete, in ${out('adapters', 'us.sft')}`);
    expect(finished.stdout).toContain('── us: sft-ppo, from its newest checkpoint');
    expect(metricsOf(out('adapters', 'us.sft-ppo')).map(({ step }) => step)).toEqual([1, 2]);
    expect(metricsOf(out('adapters', 'cn.sft')).map(({ step }) => step)).toEqual([1, 2]);
  });

  it('takes from the recipe of a resumed study how its trainings use memory, and what they write', () => {
    expect(readdirSync(out('adapters', 'us.sft-ppo', 'checkpoints'))).toContain('step-000002');
    expect(json(out('adapters', 'us.sft-ppo', 'run.json')).options.micro_batch_tokens).toBe(64);
    const checkpointing = ['us.sft', 'cn.sft'].map((id) => json(out('adapters', id, 'run.json')).options);
    expect(checkpointing.map((options) => options.gradient_checkpointing)).toEqual(['off', 'on']);
  });

  it('teaches and asks of no cue that it tests, in lists as in rankings', () => {
    for (const culture of ['us', 'cn']) {
      const cues = readFileSync(out('data', culture, 'test.tsv'), 'utf8')
        .trimEnd()
        .split('\n')
        .slice(1);
      const tested = new Set(cues.map((line) => line.split('\t')[0]));
      expect(tested.size).toBe(3);
      const rows = ['sft', 'ranking'].map((part) =>
        readFileSync(out('data', culture, part, 'train.jsonl'), 'utf8')
          .trimEnd()
          .split('\n')
          .map((line) => JSON.parse(line)),
      );
      const asked = rows.flat().map(({ messages }) => messages[0].content as string);
      for (const cue of tested)
        expect(asked.filter((text) => text.split('\n')[0].split(/[:：]\s?/)[1] === cue)).toEqual([]);
      const ranking = rows[0].filter(({ messages }) => /Words: |词语：/.test(messages[0].content));
      expect(ranking).toHaveLength(84); // a quarter of 336
      expect(ranking[0].messages[1].content).toMatch(/^(?:Final Ranking:\nRank 1: |最终排名：\n排名1：)/);
      expect(rows[1][0].ranking).toHaveLength(3);
    }
  });

  it('measures every model of a culture, crosses models and cultures, and reports', () => {
    const result: StudyResult = json(out('result.json'));
    const ids = ['base', 'culture-prompt', 'few-shot', 'sft', 'sft-ppo'];
    for (const { variants, cues } of result.cultures) {
      expect(variants.map(({ id }) => id)).toEqual(ids);
      expect(cues).toBe(3);
      expect(variants.every(({ ranking, survey }) => ranking?.reward.n === 3 && survey?.all.n === 1)).toBe(true);
      expect(variants.map(({ sideEffects }) => sideEffects !== null)).toEqual([true, false, false, true, true]);
      expect(variants.map(({ gains }) => gains !== null)).toEqual([false, true, true, true, true]);
    }
    expect(result.cultures.map(({ countries }) => countries)).toEqual([
      ['USA', 'CHN'],
      ['CHN', 'USA'],
    ]);
    expect(result.provenance.command).toBe(
      `npx lexalign align --config ${at('recipe.yaml')} --output ${out()} --model ${at('lexi-base')} ` +
        `--stages 'sft, sft-ppo' --ranking-share 0.25 --few-shot 2 --test-cues 3`,
    );
    expect(result).toMatchObject({ quantize: 'none', tier: expect.stringMatching(/^(?:tensor|f16|f32)$/) });
    expect(json(out('evaluation', 'us', 'survey.json'))).toMatchObject({ quantize: 'none', tier: result.tier });
    expect(result.cultures[0].affect?.map(({ dimension }) => dimension)).toEqual(['valence', 'rare']);
    expect(result.cultures[1].affect).toBeNull();
    expect(result.matrix.map(({ model, cells }) => [model, cells.length])).toEqual([
      ['base', 2],
      ['us', 2],
      ['cn', 2],
    ]);
    expect(result.surveyMatrix.map(({ cells }) => cells.map((cell) => cell?.n))).toEqual(new Array(3).fill([1, 1]));
    expect(existsSync(out('evaluation', 'us', 'adapter-of-cn.sft-ppo', 'survey.json'))).toBe(true);
    expect(existsSync(out('evaluation', 'us', 'adapter-of-cn.sft-ppo', 'rankings.json'))).toBe(false);
    expect(result.distances[0].survey.people).toMatchObject({ n: 1 });
    expect(result.distances[0].survey.after).toMatchObject({ n: 1 });
    for (const part of [
      'us (en): associations',
      'cn (zh): rankings',
      'survey, distance to USA',
      'survey, movement',
      'survey, other distances',
      'KL from CHN',
      'Models by cultures: survey',
    ])
      expect(finished.stdout).toContain(part);
    expect(readFileSync(out('result.txt'), 'utf8')).toContain('associations in prompt');
    expect(readFileSync(out('result.txt'), 'utf8')).toMatch(/^rare +base +0\.0 +– +– +– +– +0 +– +– +– +–$/m);
    // Once, for all that the lexicon rates: of the 3 cues' words it holds none.
    const warning =
      'Warning: the lexicon has valence for 0.0 %, rare for 0.0 % of the words of people of us: its medians say little.';
    expect(finished.stderr.split('\n').filter((line) => line.includes('lexicon'))).toEqual([warning]);
    expect(readFileSync(out('result.txt'), 'utf8')).toMatch(/dimension +model +coverage, %[\s\S]*rare +people +0\.0 /);
    expect(existsSync(out('report', 'report.html'))).toBe(true);
    const report = readFileSync(out('report', 'report.md'), 'utf8');
    const imported = /^us \(en\): mini-norms: en-us\.tsv: (6,025 rows, 360 cues, .*); dropped: nothing\.$/m;
    const [, counts] = imported.exec(finished.stdout) ?? [];
    expect(report).toContain(`| us | mini-norms | ${counts} | nothing |`);
    const lexicon = 'us | imported | 6 rows, 4 words | 1 a word again, 1 no rating |';
    expect(report).toContain(`| ${lexicon} ${at('lexicon.tsv')} |`);
    expect(finished.stdout).toContain('imported: lexicon.tsv: 6 rows, 4 words; dropped: 1 a word again, 1 no rating.');
    const survey = 'imported | 2 rows, 1 questions | 1 questions in other languages |';
    expect(['us', 'cn'].every((name) => report.includes(`| ${name} | ${survey}`))).toBe(true);
    const ranking = json(out('evaluation', 'us', 'ranking.json'));
    expect(ranking).toMatchObject({ measure: 'ranking', questions: 'the test cues of us', gain: { reward: { n: 3 } } });
    expect(ranking.runs.map(({ name }: { name: string }) => name)).toEqual(
      result.cultures[0].variants.map(({ name }) => name),
    );
    const texts: string[] = json(out('evaluation', 'us', 'sft-ppo', 'rankings.json'));
    expect(ranking.runs[4].answers.map(({ text }: { text: string }) => text)).toEqual(texts);
    for (const title of [
      'Rankings (en)',
      'Data',
      'The study',
      'Models by cultures: survey',
      'stay distinct: survey',
      'Associations (zh)',
      'Survey (en)',
      'Side effects',
      'sft-ppo',
    ])
      expect(report).toContain(title);
  });

  it('is reported by the name of its directory too', async () => {
    const { code, stderr } = await lexalign('report', '--input', out(), '--output', at('again'));
    expect(code, stderr).toBe(0);
    expect(JSON.parse(readFileSync(at('again', 'report.json'), 'utf8')).inputs).toEqual([json(out('result.json'))]);
  });

  it('asks nothing again that is there, and nothing of another study', async () => {
    const file = out('evaluation', 'us', 'base', 'lists.json');
    const before = statSync(file).mtimeMs;
    const first = json(out('result.json'));
    const again = await lexalign('align', '--config', at('recipe.yaml'), '--resume');
    expect(again.code, again.stderr).toBe(0);
    expect(again.stdout.match(/complete, in/g)).toHaveLength(4);
    expect(statSync(file).mtimeMs).toBe(before);
    const { provenance: _, ...rest } = json(out('result.json'));
    const { provenance, ...known } = first;
    expect(rest).toEqual(known);
    expect(provenance.files.map((entry: { file: string }) => entry.file)).toContain(at('survey.jsonl'));

    const anew = await lexalign('align', '--config', at('recipe.yaml'));
    expect([anew.code, anew.stderr]).toEqual([1, expect.stringMatching(/study is not empty/)]);
    writeFileSync(at('recipe.yaml'), recipe.replace('learning_rate: 0.01', 'learning_rate: 0.02'));
    const other = await lexalign('align', '--config', at('recipe.yaml'), '--resume');
    expect(other.code).toBe(1);
    expect(other.stderr).toMatch(/sft\.learning-rate has changed since the study in .* began: restore it/);
    expect(readdirSync(out('adapters')).sort()).toEqual(['cn.sft', 'cn.sft-ppo', 'us.sft', 'us.sft-ppo']);

    writeFileSync(at('recipe.yaml'), recipe);
    const general = readFileSync(at('texts.txt'));
    writeFileSync(at('texts.txt'), 'Another text.\n\nAnd one more.\n');
    const reworded = await lexalign('align', '--config', at('recipe.yaml'), '--resume');
    writeFileSync(at('texts.txt'), general);
    expect([reworded.code, reworded.stderr]).toEqual([
      1,
      expect.stringContaining(`files.${at('texts.txt')} has changed`),
    ]);

    const weights = readFileSync(at('lexi-base', 'model.safetensors'));
    const swapped = Buffer.from(weights);
    swapped[swapped.length - 1] ^= 1;
    writeFileSync(at('lexi-base', 'model.safetensors'), swapped);
    const another = await lexalign('align', '--config', at('recipe.yaml'), '--resume');
    writeFileSync(at('lexi-base', 'model.safetensors'), weights);
    expect(another.code).toBe(1);
    expect(another.stderr).toBe(
      `lexalign: --resume: the base model ${at('lexi-base')} has changed since the study in ${out()} began: give the one it had, or name another --output.`,
    );
  });

  it('leaves a measure within a step when it is interrupted, and makes that part anew', async () => {
    const file = out('evaluation', 'us', 'base', 'lists.json');
    const before = json(file);
    rmSync(file);
    let tokens = 0;
    const { run } = RolloutEngine.prototype;
    const spy = vi.spyOn(RolloutEngine.prototype, 'run').mockImplementation(function (
      this: RolloutEngine,
      requests,
      hooks = {},
    ) {
      const onToken = (...token: [number, number]) => {
        if (++tokens === 2) process.emit('SIGINT');
        hooks.onToken?.(...token);
      };
      return run.call(this, requests, { ...hooks, onToken });
    });
    const stopped = await lexalign('align', '--config', at('recipe.yaml'), '--resume');
    spy.mockRestore();
    expect([stopped.code, tokens], stopped.stderr).toEqual([130, 2]);
    expect(existsSync(file)).toBe(false);
    const { code, stderr } = await lexalign('align', '--config', at('recipe.yaml'), '--resume');
    expect(code, stderr).toBe(0);
    expect(json(file)).toEqual(before);
  });

  it('trains each stage once a seed, and resumes by seed', async () => {
    const seeded = (...names: string[]) => at('seeds', ...names);
    const text = `
align: {model: ${at('lexi-base')}, output: ${seeded()}, stages: sft-lists, seed: "3, 5", measures: side-effects,
  culture_prompt: false, few_shot: 0, test_cues: 3}
cultures: [{name: us, language: en, associations: mini-norms}]
data: {split: "70,0,30", max_associates: 4}
sft: {max_steps: 2, batch_size: 4, max_length: 128, lora_r: 4, learning_rate: 0.01, lora_target_modules: q_proj}
evaluate: {k: "2", max_new_tokens: 4, text: ${at('texts.txt')}}
`;
    writeFileSync(at('seeds.yaml'), text);
    const first = await lexalign('align', '--config', at('seeds.yaml'));
    expect(first.code, first.stderr).toBe(0);
    const ids = ['us.sft-lists.seed-3', 'us.sft-lists.seed-5'];
    expect(readdirSync(seeded('adapters')).sort()).toEqual(ids);
    expect(
      readdirSync(seeded('evaluation', 'us'))
        .filter((name) => !name.endsWith('.json'))
        .sort(),
    ).toEqual([...['base', 'sft-lists.seed-3', 'sft-lists.seed-5']]);
    const weights = (id: string) => readFileSync(seeded('adapters', id, 'adapter_model.safetensors'));
    const [three, five] = ids.map(weights);
    expect(three.equals(five)).toBe(false);
    expect(ids.map((id) => json(seeded('adapters', id, 'run.json')).options.seed)).toEqual([3, 5]);
    const result: StudyResult = json(seeded('result.json'));
    expect(result.cultures[0].seeds).toMatchObject([{ name: 'SFT, lists alone', seeds: [3, 5] }]);
    expect(first.stdout).toContain('us (en): over seeds 3, 5');
    expect(readFileSync(seeded('report', 'report.md'), 'utf8')).toContain('over seeds 3, 5');

    rmSync(seeded('adapters', ids[1]), { recursive: true });
    const again = await lexalign('align', '--config', at('seeds.yaml'), '--resume');
    expect(again.code, again.stderr).toBe(0);
    expect(again.stdout).toMatch(/us: sft-lists, seed 3: complete, in .*seed-3\n\n── us: sft-lists, seed 5\n/);
    expect(ids.map(weights)).toEqual([three, five]);
    writeFileSync(at('seeds.yaml'), text.replace('3, 5', '3, 7'));
    const other = await lexalign('align', '--config', at('seeds.yaml'), '--resume');
    expect([other.code, other.stderr]).toEqual([1, expect.stringContaining('align.seed.1 has changed')]);
  });

  it('trains PPO alone, from the base and against it', async () => {
    const alone = (...names: string[]) => at('alone', ...names);
    const text = `
align: {model: ${at('lexi-base')}, output: ${alone()}, stages: ppo, measures: ranking, culture_prompt: false, few_shot: 0, test_cues: 3, ppo_cues: 5}
cultures: [{name: us, language: en, associations: mini-norms}]
data: {split: "70,0,30", max_associates: 4, ranking: 3}
ppo: {total_episodes: 8, batch_size: 4, num_ppo_epochs: 1, response_length: 4, reward: ${at('reward.mjs')}, lora_r: 4, lora_target_modules: q_proj}
evaluate: {k: "2", max_new_tokens: 4, stop: [e, a], deterministic: true}
`;
    writeFileSync(at('alone.yaml'), text);
    const { code, stdout, stderr } = await lexalign('align', '--config', at('alone.yaml'));
    expect(code, stderr).toBe(0);
    expect(stdout).toContain(', 5 questions for PPO (left out: 0 cues');
    const run = json(alone('adapters/us.ppo/run.json'));
    expect(run).toMatchObject({ command: 'ppo', reference: null, result: { outcome: 'finished', episodes: 8 } });
    expect(run.options.init_adapter ?? null).toBe(null);
    const { cultures, provenance } = json(alone('result.json')) as StudyResult;
    expect(provenance.files.map(({ file }) => file)).toEqual([at('alone.yaml'), at('reward.mjs')]);
    const [{ variants }] = cultures;
    expect(variants.map(({ name }) => name)).toEqual(['base', 'PPO only']);

    // Answers end at the stop strings of its section evaluate, as those of the command do.
    const norms = ['--norms', alone('data/us/test.tsv'), '--language', 'en', '--k', '2', '--max-new-tokens', '4'];
    const asked = ['--model', at('lexi-base'), ...norms, '--deterministic', '--json', at('whole.json')];
    const association = await lexalign('evaluate', 'association', ...asked);
    expect(association.code, association.stderr).toBe(0);
    const whole: string[] = json(at('whole.json')).runs[0].cues.map((cue: { text: string }) => cue.text);
    const [lists, rankings]: string[][] = ['lists', 'rankings'].map((part) =>
      json(alone(`evaluation/us/base/${part}.json`)),
    );
    expect(whole.join('')).toMatch(/[ea]/);
    expect(lists).toEqual(whole.map((answer) => answer.split(/[ea]/)[0]));
    expect(rankings.join('')).not.toMatch(/[ea]/);
    expect(json(alone('study.json')).evaluate).toMatchObject({ stop: ['e', 'a'], deterministic: true });

    const piped = await lexalign('align', '--config', at('alone.yaml'), '--resume', '--json', '-');
    expect(piped.code, piped.stderr).toBe(0);
    expect(JSON.parse(piped.stdout).cultures).toEqual(json(alone('result.json')).cultures);
    expect(piped.stderr).toContain('── us: ppo: complete');

    const study = json(alone('study.json'));
    study.asked.us.association.question += ' ';
    writeFileSync(alone('study.json'), JSON.stringify(study));
    const reworded = await lexalign('align', '--config', at('alone.yaml'), '--resume');
    const refusal = expect.stringContaining('asked.us.association.question has changed since the study in');
    expect([reworded.code, reworded.stderr]).toEqual([1, refusal]);
    study.asked.us.association.question = study.asked.us.association.question.trimEnd();
    const { shots } = study.asked.us;
    writeFileSync(
      alone('study.json'),
      JSON.stringify({ ...study, asked: { us: { ...study.asked.us, shots: 'x: y' } } }),
    );
    const shown = await lexalign('align', '--config', at('alone.yaml'), '--resume');
    expect([shown.code, shown.stderr]).toEqual([1, expect.stringContaining('asked.us.shots has changed')]);
    writeFileSync(alone('study.json'), JSON.stringify({ ...study, asked: { us: { ...study.asked.us, shots } } }));

    writeFileSync(at('alone.yaml'), text.replace('[e, a]', '[e]'));
    const other = await lexalign('align', '--config', at('alone.yaml'), '--resume');
    expect([other.code, other.stderr]).toEqual([1, expect.stringContaining('evaluate.stop.1 has changed')]);
  });
});

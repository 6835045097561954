import { spawn } from 'node:child_process';
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nodeExecutable } from '../../src/cli/software-driver.js';
import { readSafetensors } from '../golden.js';
import { ppoCommand, ppoSettings, preparePpo } from './ppo-helpers.js';
import { lexalign, makeWorkplace, metricsOf, metricsWritten } from './sft-helpers.js';

const { XDG_CACHE_HOME: userCache = '' } = process.env;
const { directory, remove } = makeWorkplace();
const at = (name: string) => join(directory, name);
const bytes = (file: string) => readFileSync(at(file));
const json = (file: string) => JSON.parse(readFileSync(at(file), 'utf8'));
const common = (run: string) => ppoCommand(at, run);
const timeless = (run: string) =>
  metricsOf(at(run)).map((line) => Object.fromEntries(Object.entries(line).filter(([key]) => !key.includes('second'))));

beforeAll(() => preparePpo(at));
afterAll(remove);

describe('lexalign ppo', () => {
  it('leaves an adapter, metrics by TRL’s names, checkpoints and what ran', async () => {
    const { code, stdout, stderr } = await lexalign(...common('run'), '--total-episodes', '18', '--save-steps', '1');
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/Data: 9 questions of .*rank\.jsonl; .*\n.*Cue: .*\n.*Words: .*\n.* → /s);
    expect(stdout).toMatch(/critic .*\n {2}reference .*\n {2}KV cache of the rollout .*\n.*\n {2}total/);
    expect(stdout).toContain('PPO: 3 rollouts of 6 answers, 4 updates each');
    const metrics = metricsOf(at('run'));
    expect(metrics.map(({ step, episode }) => [step, episode])).toEqual([
      [1, 6],
      [2, 12],
      [3, 18],
    ]);
    for (const name of [
      'objective/kl',
      'objective/scores',
      'objective/rlhf_reward',
      'policy/approxkl_avg',
      'val/ratio',
    ])
      expect(metrics[0][name]).toEqual(expect.any(Number));
    expect(Math.abs(metrics[0]['val/ratio_first'] - 1)).toBeLessThan(5e-3);
    // The reference is the initial adapter.
    expect(Math.abs(metrics[0]['objective/kl'])).toBeLessThan(5e-3);
    expect(json('run/adapter_config.json')).toMatchObject({ r: 4, target_modules: ['q_proj', 'v_proj'] });
    expect(bytes('run/adapter_model.safetensors').equals(bytes('sft/adapter_model.safetensors'))).toBe(false);
    const run = json('run/run.json');
    expect(run).toMatchObject({
      command: 'ppo',
      total_steps: 3,
      result: { outcome: 'finished', steps: 3, episodes: 18 },
      // The initial adapter's, and what was chosen, not the options' defaults.
      options: { lora_r: 4, lora_target_modules: 'q_proj,v_proj', gradient_checkpointing: 'off', total_episodes: 18 },
    });
    expect(run.options.device).not.toBe('auto');
    expect(readFileSync(at('run/README.md'), 'utf8')).toContain('| `lora_r` | 4 |');
    expect(run.result.device_bytes).toBeLessThanOrEqual(run.result.planned_bytes);
    const checkpoint = at('run/checkpoints/step-000002');
    expect(readdirSync(join(checkpoint, 'critic')).sort()).toEqual([
      'adapter_config.json',
      'adapter_model.safetensors',
      'optimizer.safetensors',
      'value_head.safetensors',
    ]);
    const head = readSafetensors(join(checkpoint, 'critic/value_head.safetensors'));
    expect([head.get('weight')!.length, head.get('first.bias')!.length]).toEqual([32, 1]);
    expect(json('run/checkpoints/step-000002/trainer_state.json')).toMatchObject({ step: 2, scores: { count: 12 } });
  });

  it('is measured by `evaluate ranking`, before and after, on questions of its kind', async () => {
    const before = ['--before', at('sft'), '--after', at('run')];
    const words = ['--model', at('model'), '--questions', at('rank.jsonl'), '--max-new-tokens', '6', ...before];
    const { code, stdout, stderr } = await lexalign('evaluate', 'ranking', ...words, '--json', at('ranking.json'));
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/9 questions of .*rank\.jsonl, about 9 cues:/);
    const { measure, runs, gain, provenance } = json('ranking.json');
    expect(measure).toBe('ranking');
    expect(stderr).toMatch(/^\S+: ranking \d+ questions: \d+ %$/m);
    expect(provenance.command).toContain('evaluate ranking --model');
    // A model of random weights ranks nothing: the worst reward on both sides.
    const test = { n: 0, zeros: 9, statistic: 0, p: 1, effect: 0 };
    expect(gain).toEqual({ spearman: null, reward: { mean: 0, low: 0, high: 0, n: 9, test } });
    expect(stdout).toMatch(/^gain of after over before +reward +0\.000 +\[0\.000, 0\.000\] +1\.000 \(n 0\) +9$/m);
    for (const { parsed, whole, spearman, reward, answers } of runs) {
      expect([parsed.mean, whole.mean, spearman, reward.mean]).toEqual([0, 0, null, -1]);
      expect(answers).toHaveLength(9);
      expect(answers[0]).toMatchObject({ cue: expect.any(String), parsed: false, text: expect.stringMatching(/./) });
    }
    const report = await lexalign('report', '--input', at('ranking.json'), '--output', at('report'));
    expect(report.code, report.stderr).toBe(0);
    expect(readFileSync(at('report/report.md'), 'utf8')).toMatch(/\| after \| reward \| -1\.000 \|/);
  });

  it('ends answers at stop strings, which no reward sees, and takes them for ended', async () => {
    writeFileSync(at('stops.yaml'), 'ppo:\n  stop: [e, a]\n  missing-eos-penalty: 5\n');
    writeFileSync(
      at('strict.mjs'),
      `export default ({ answer }) => {
        if (/[ea]/.test(answer)) throw new Error('a stop string in ' + answer);
        return answer.length / 1000;
      };`,
    );
    const words = common('stops').map((word) => (word === at('reward.mjs') ? at('strict.mjs') : word));
    words.push('--total-episodes', '6', '--save-steps', '1', '--deterministic', '--config', at('stops.yaml'));
    const { code, stderr } = await lexalign(...words);
    expect(code, stderr).toBe(0);
    const [{ 'val/num_eos_tokens': ended, 'objective/scores': score }] = metricsOf(at('stops'));
    expect(ended).toBeGreaterThan(2);
    expect(Math.abs(score + (5 * (6 - ended)) / 6)).toBeLessThan(0.1);
    const { arguments: used, result } = json('stops/run.json');
    expect(used).toMatchObject({ stop: ['e', 'a'], deterministic: true });
    expect(result.device_bytes).toBeLessThanOrEqual(result.planned_bytes);
    const again = await lexalign('ppo', '--resume', '--output', at('stops'), '--stop', 'e');
    expect(again.stderr).toMatch(/--stop is e, the run began with e,a/);

    const asked = ['--model', at('model'), '--questions', at('rank.jsonl'), '--max-new-tokens', '6', '--deterministic'];
    const texts = async (name: string, ...stops: string[]): Promise<string[]> => {
      const file = at(`${name}.json`);
      const run = await lexalign('evaluate', 'ranking', ...asked, ...stops, '--json', file);
      expect(run.code, run.stderr).toBe(0);
      const { runs, provenance } = json(`${name}.json`);
      for (let i = 0; i < stops.length; i += 2) expect(provenance.command).toContain(stops.slice(i, i + 2).join(' '));
      return runs[0].answers.map(({ text }: { text: string }) => text);
    };
    const whole = await texts('whole');
    expect(await texts('cut', '--stop', 'e', '--stop', 'a')).toEqual(whole.map((text) => text.split(/[ea]/)[0]));
    expect(whole.join('')).toMatch(/[ea]/);
  });

  it('takes the memory that `plan` tells of the same words', async () => {
    const words = [...common('run'), '--total-episodes', '18', '--save-steps', '1'];
    const { code, stdout, stderr } = await lexalign('plan', '--run', ...words, '--json', at('plan.json'));
    expect(code, stderr).toBe(0);
    const plan = json('plan.json');
    const { memory, result } = json('run/run.json');
    const { micro_batch_tokens, recomputed_layers } = plan;
    expect(memory).toMatchObject({ ...plan.memory, micro_batch_tokens, recomputed_layers });
    expect(plan.memory.total).toBe(result.planned_bytes);
    expect(plan.memory.cache).toBeGreaterThan(0);
    expect(plan.work).toEqual({ rollouts: 3, answers: 6, updates: 4 });
    expect(stdout).toMatch(/ {2}KV cache of the rollout .*\n.*\n {2}total/);
    // Answers that do not depend on each other have other programs.
    const [steady, plain] = [at('steady.json'), at('plain.json')];
    const six = [...common('stops'), '--total-episodes', '6'];
    expect((await lexalign('plan', '--run', ...six, '--deterministic', '--json', steady)).code).toBe(0);
    expect((await lexalign('plan', '--run', ...six, '--json', plain)).code).toBe(0);
    expect(json('stops/run.json').memory).toMatchObject(json('steady.json').memory);
    expect(json('steady.json').memory.programs).not.toBe(json('plain.json').memory.programs);
  });

  it('goes through a rollout in parts under --kv-cache-tokens, and learns the same', async () => {
    const words = (run: string) => [...common(run), '--total-episodes', '12', '--save-steps', '2', '--deterministic'];
    const whole = await lexalign(...words('at-once'));
    expect(whole.code, whole.stderr).toBe(0);
    const parts = await lexalign(...words('parts'), '--kv-cache-tokens', '48');
    expect(parts.code, parts.stderr).toBe(0);
    const [, slots] = /A rollout goes through its 6 answers (\d) at a time\./.exec(parts.stdout)!;
    expect(Number(slots)).toBeLessThan(6);
    expect(whole.stdout).not.toContain('at a time');
    expect(timeless('parts')).toEqual(timeless('at-once'));
    expect(bytes('parts/adapter_model.safetensors').equals(bytes('at-once/adapter_model.safetensors'))).toBe(true);
    const { memory, result } = json('parts/run.json');
    // Keys and values of one head of 16 in the tier's type, one layer.
    expect(memory.cache).toBeLessThanOrEqual(2 * 48 * 16 * 4);
    expect(memory.cache).toBeLessThan(json('at-once/run.json').memory.cache);
    expect(result.device_bytes).toBeLessThanOrEqual(result.planned_bytes);
    const plan = await lexalign(
      'plan',
      '--run',
      ...words('parts'),
      '--kv-cache-tokens',
      '48',
      '--json',
      at('plan.json'),
    );
    expect(plan.code, plan.stderr).toBe(0);
    expect(memory).toMatchObject(json('plan.json').memory);
    expect(json('plan.json').answers_at_once).toBe(Number(slots));
  });

  it('takes another --kv-cache-tokens on resume: to the same bytes with --deterministic, else with a warning', async () => {
    const warning = /Warning: --kv-cache-tokens is 48, the run began with 0: without --deterministic/;
    const resume = async (from: string, run: string) => {
      cpSync(at(from), at(run), { recursive: true });
      rmSync(at(`${run}/checkpoints/step-000002`), { recursive: true });
      rmSync(at(`${run}/adapter_model.safetensors`));
      const words = ['--resume', '--output', at(run), '--kv-cache-tokens', '48'];
      const { code, stdout, stderr } = await lexalign('ppo', ...words);
      expect(code, stderr).toBe(0);
      expect(stdout).toMatch(/A rollout goes through its 6 answers \d at a time/);
      expect(json(`${run}/run.json`).arguments.kv_cache_tokens).toBe(48);
      return stderr;
    };
    const words = [...common('steady'), '--total-episodes', '12', '--save-steps', '1', '--deterministic'];
    expect((await lexalign(...words)).code).toBe(0);
    expect(await resume('steady', 'steady-parts')).not.toMatch(warning);
    const adapters = ['steady', 'steady-parts'].map((run) => bytes(`${run}/adapter_model.safetensors`));
    expect(adapters[0].equals(adapters[1])).toBe(true);
    cpSync(at('steady'), at('loose'), { recursive: true });
    const record = json('steady/run.json');
    const before = { ...record.arguments, deterministic: false };
    writeFileSync(at('loose/run.json'), JSON.stringify({ ...record, arguments: before }));
    expect(await resume('loose', 'loose-parts')).toMatch(warning);
  });

  it('trains on a quantised base, which is the reference too', async () => {
    const words = ['--model', at('wide'), '--quantize', 'nf4', '--data', at('rank.jsonl'), '--output', at('packed')];
    const lora = ['--lora-r', '4', '--num-mini-batches', '4', '--total-episodes', '12'];
    const run = await lexalign('ppo', ...words, '--reward', at('reward.mjs'), ...ppoSettings, ...lora);
    expect(run.code, run.stderr).toBe(0);
    const metrics = metricsOf(at('packed'));
    for (const line of metrics) {
      expect(Object.entries(line).filter(([, value]) => !Number.isFinite(value))).toEqual([]);
      expect(line.updates).toBe(8);
      expect(line['val/logprob_diff_max_first']).toBeLessThan(5e-3);
    }
    // A new adapter adds nothing at first, and something once it has learnt.
    expect(Math.abs(metrics[0]['objective/kl'])).toBeLessThan(5e-3);
    expect(Math.abs(metrics[1]['objective/kl'])).toBeGreaterThan(5e-3);
    expect(json('packed/run.json').result.device_bytes).toBeLessThanOrEqual(
      json('packed/run.json').result.planned_bytes,
    );
  });

  it('goes on from a checkpoint to the same bytes', async () => {
    cpSync(at('run'), at('cut'), { recursive: true });
    rmSync(at('cut/checkpoints/step-000003'), { recursive: true });
    rmSync(at('cut/checkpoints/step-000002'), { recursive: true });
    rmSync(at('cut/adapter_model.safetensors'));
    // As from before there was this option.
    const { arguments: before, ...record } = json('cut/run.json');
    const { kv_cache_tokens: _, ...known } = before;
    writeFileSync(at('cut/run.json'), JSON.stringify({ ...record, arguments: known }));
    const { code, stdout, stderr } = await lexalign('ppo', '--resume', '--output', at('cut'));
    expect(code, stderr).toBe(0);
    expect(stdout).toContain('PPO: from rollout 1 to 3 rollouts');
    expect(bytes('cut/adapter_model.safetensors').equals(bytes('run/adapter_model.safetensors'))).toBe(true);
    for (const file of ['optimizer.safetensors', 'critic/value_head.safetensors', 'trainer_state.json']) {
      const path = `checkpoints/step-000003/${file}`;
      expect(bytes(`cut/${path}`).equals(bytes(`run/${path}`)), file).toBe(true);
    }
    expect(timeless('cut')).toEqual(timeless('run'));
  });

  it('that broke off behind its last checkpoint only writes what is missing', async () => {
    cpSync(at('run'), at('broken-off'), { recursive: true });
    rmSync(at('broken-off/adapter_model.safetensors'));
    const { finished: _, result: __, ...record } = json('run/run.json');
    writeFileSync(at('broken-off/run.json'), JSON.stringify(record));
    const { code, stdout, stderr } = await lexalign('ppo', '--resume', '--output', at('broken-off'));
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/Finished after 3 rollouts, 18 answers: last mean score -\d/);
    const file = 'adapter_model.safetensors';
    expect(bytes(`broken-off/${file}`).equals(bytes(`run/${file}`))).toBe(true);
    expect(metricsOf(at('broken-off'))).toEqual(metricsOf(at('run')));
    const last = metricsOf(at('run')).at(-1);
    expect(json('broken-off/run.json').result).toMatchObject({ outcome: 'finished', steps: 3, episodes: 18, last });
    const again = await lexalign('ppo', '--resume', '--output', at('broken-off'));
    expect(again).toMatchObject({ code: 1, stderr: expect.stringMatching(/the run has made its 3 rollouts: raise/) });
  });

  it('whose reward throws ends with all it had learnt, and goes on once that is mended', async () => {
    Object.assign(globalThis, { failRewards: true });
    const failed = await lexalign(...common('failed'), '--total-episodes', '6');
    Object.assign(globalThis, { failRewards: false });
    expect(failed.code).toBe(1);
    expect(failed.stderr).toMatch(
      /lexalign: --reward .*reward\.mjs threw: no idea\. The run up to rollout 0 is in .*checkpoints: mend the reward and go on with --resume/,
    );
    expect((await lexalign('ppo', '--resume', '--output', at('failed'))).code).toBe(0);
    expect(metricsOf(at('failed')).map(({ step }) => step)).toEqual([1]);
  });

  it('asks for the scores of all answers at once', async () => {
    writeFileSync(
      at('together.mjs'),
      `let waiting = [];
      export default ({ answer }) => new Promise((resolve, reject) => {
        waiting.push(() => resolve(answer.length / 10));
        if (waiting.length < 6) return setTimeout(() => reject(new Error('asked alone')), 5000).unref();
        for (const answered of waiting.reverse()) answered();
        waiting = [];
      });`,
    );
    const words = common('together').map((word) => (word === at('reward.mjs') ? at('together.mjs') : word));
    const { code, stderr } = await lexalign(...words, '--total-episodes', '6');
    expect(code, stderr).toBe(0);
    // The rollout of the first run, whose reward is the opposite.
    const [together, run] = [metricsOf(at('together')), metricsOf(at('run'))];
    expect(together[0]['objective/scores']).toBeCloseTo(-run[0]['objective/scores'], 9);
  });

  it('pays for lists by what people gave, on questions that `lexalign data --lists` makes', async () => {
    const norms = join(import.meta.dirname, '../../datasets/mini-norms/en-us.tsv');
    const split = [
      '--language',
      'en',
      '--prompts',
      'lexi-base',
      '--max-associates',
      '4',
      '--split',
      '3,0,97',
      '--lists',
    ];
    const made = await lexalign('data', 'generic', '--input', norms, '--output', at('norms'), ...split);
    expect(made.code, made.stderr).toBe(0);
    // The rows beside them teach it to answer, so that some answers earn something.
    const taught = ['--learning-rate', '5e-3', '--batch-size', '11', '--num-train-epochs', '8', '--tier', 'f32'];
    const sft = await lexalign('sft', '--data', at('norms/train.jsonl'), '--output', at('taught'), ...taught);
    expect(sft.code, sft.stderr).toBe(0);
    // P@3 counted by other means: lexi-base writes plain words between commas.
    writeFileSync(
      at('count.mjs'),
      `globalThis.judged = [];
      export default ({ answer, ranking, cue }) => {
        const words = [];
        for (const part of answer.split(',')) {
          const word = part.trim().toLowerCase().replace(/\\.$/, '');
          if (word && word !== cue && !words.includes(word)) words.push(word);
        }
        let hits = 0;
        for (const word of words.slice(0, 3)) for (const other of ranking) if (word === other) hits++;
        const score = hits / 3;
        judged.push({ answer, score, parsed: words.length > 0 });
        return { score, parsed: words.length > 0 };
      };`,
    );
    const words = (run: string, ...reward: string[]) => [
      ...['ppo', '--data', at('norms/lists'), '--init-adapter', at('taught'), '--output', at(run)],
      ...['--batch-size', '12', '--total-episodes', '24', '--num-ppo-epochs', '1', '--response-length', '12'],
      ...['--temperature', '1', '--tier', 'f32', '--reward', ...reward],
    ];
    const coverage = await lexalign(...words('coverage', 'coverage', '--coverage-k', '3'));
    expect(coverage.code, coverage.stderr).toBe(0);
    const counted = await lexalign(...words('counted', at('count.mjs')));
    expect(counted.code, counted.stderr).toBe(0);
    const { judged } = globalThis as unknown as { judged: { answer: string; score: number; parsed: boolean }[] };
    expect(judged).toHaveLength(24);
    // Scores that differ (in the tier f32 drivers draw alike), and that were learnt from alike: the second rollout is the same too.
    expect(new Set(judged.map(({ score }) => score)).size, JSON.stringify(judged)).toBeGreaterThan(1);
    for (const [i, line] of metricsOf(at('coverage')).entries()) {
      const own = judged.slice(12 * i, 12 * (i + 1));
      expect(line['objective/scores']).toBeCloseTo(own.reduce((sum, { score }) => sum + score, 0) / 12, 12);
      expect(line['objective/parse_failures']).toBe(own.filter(({ parsed }) => !parsed).length);
    }
    expect(timeless('coverage')).toEqual(timeless('counted'));
    const adapters = ['coverage', 'counted'].map((run) => bytes(`${run}/adapter_model.safetensors`));
    expect(adapters[0].equals(adapters[1])).toBe(true);
  });

  it('says once that there is nothing to learn from where all answers score the same', async () => {
    writeFileSync(at('flat.mjs'), 'export default () => 0.1;');
    const words = common('flat').map((word) => (word === at('reward.mjs') ? at('flat.mjs') : word));
    const { code, stderr } = await lexalign(...words, '--total-episodes', '12');
    expect(code, stderr).toBe(0);
    expect(stderr.match(/Warning: all 6 answers of rollout \d scored/g)).toEqual([
      'Warning: all 6 answers of rollout 1 scored',
    ]);
    expect(metricsOf(at('flat')).map((line) => line['objective/scores_std'])).toEqual([
      expect.closeTo(0, 12),
      expect.closeTo(0, 12),
    ]);
    for (const line of metricsOf(at('run'))) expect(line['objective/scores_std']).toBeGreaterThan(0.01);
  });

  it('stops at Ctrl-C with a checkpoint, and goes on from there', async ({ skip }) => {
    const launcher = join(import.meta.dirname, '../../bin/lexalign.mjs');
    if (!existsSync(join(import.meta.dirname, '../../dist/src/cli/main.js'))) skip('not built: run npm test');
    const env = { ...process.env, XDG_CACHE_HOME: userCache, LEXALIGN_RELAUNCHED_BY: '' };
    const args = [launcher, ...common('stopped'), '--total-episodes', '600000'];
    const child = spawn(nodeExecutable(), args, { env, detached: true });
    const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
    child.stderr.resume();
    child.stdout.resume();
    const steps = () => metricsWritten(at('stopped'));
    while (steps() < 2 && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 50));
    child.kill('SIGINT');
    expect(await ended).toBe(130);
    const last = metricsOf(at('stopped')).at(-1)!.step;
    expect(readdirSync(at('stopped/checkpoints'))).toEqual([`step-${String(last).padStart(6, '0')}`]);
    const more = ['--resume', '--output', at('stopped'), '--total-episodes', `${6 * (last + 1)}`];
    const resumed = await lexalign('ppo', ...more);
    expect(resumed.code, resumed.stderr).toBe(0);
    expect(metricsOf(at('stopped')).map(({ step }) => step)).toEqual(Array.from({ length: last + 1 }, (_, i) => i + 1));
    expect(json('stopped/run.json').result).toMatchObject({ outcome: 'finished', steps: last + 1 });
  });
});

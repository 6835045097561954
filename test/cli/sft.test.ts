import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nodeExecutable } from '../../src/cli/software-driver.js';
import { readSafetensors } from '../golden.js';
import { writeRandomCheckpoint } from '../random-checkpoint.js';
import { idRows, lexalign, makeWorkplace, metricsOf, metricsWritten, writeRows } from './sft-helpers.js';

const { XDG_CACHE_HOME: userCache = '' } = process.env;
const { directory, remove } = makeWorkplace();
const at = (name: string) => join(directory, name);
const bytes = (run: string) => readFileSync(at(`${run}/adapter_model.safetensors`));
const json = (file: string) => JSON.parse(readFileSync(at(file), 'utf8'));

beforeAll(async () => {
  const shape = { hidden: 32, layers: 1, heads: 2, kvHeads: 1, intermediate: 64, vocab: 64 };
  await writeRandomCheckpoint(at('model'), shape);
  writeRows(at('train.jsonl'), idRows(12));
  writeRows(at('valid.jsonl'), idRows(15).slice(12));
});
afterAll(remove);

async function sft(output: string, ...args: readonly string[]) {
  const common = ['--model', at('model'), '--output', at(output), '--learning-rate', '0.01'];
  const result = await lexalign('sft', ...common, '--lora-target-modules', 'q_proj,v_proj', ...args);
  expect(result.stderr).not.toContain('lexalign:');
  return result;
}

describe('lexalign sft', () => {
  it('leaves an adapter, metrics, checkpoints, events and what ran', async () => {
    const args = [
      '--data',
      directory,
      '--batch-size',
      '5',
      '--num-train-epochs',
      '2',
      '--seed',
      '7',
      '--eval-steps',
      '3',
    ];
    const { code, stdout } = await sft('run', ...args, '--save-steps', '2', '--json', at('result.json'), '--profile');
    expect(code).toBe(0);
    expect(stdout).toMatch(/Data: 12 rows of .*train\.jsonl; \d+ tokens, \d+ of them supervised/);
    expect(stdout).toMatch(/5⟦6 7 8 .*⟧/);
    expect(stdout).toMatch(/Memory plan .*\n( {2}.*\n){6} {2}total/);
    expect(stdout).toContain('Training: 6 steps of 5 rows, 1 of them warm-up');
    expect(readdirSync(at('run')).sort()).toEqual([
      'README.md',
      'adapter_config.json',
      'adapter_model.safetensors',
      'checkpoints',
      'metrics.jsonl',
      'run.json',
      'tensorboard',
    ]);
    expect(json('run/adapter_config.json')).toMatchObject({ r: 16, target_modules: ['q_proj', 'v_proj'] });
    const metrics = metricsOf(at('run'));
    expect(metrics.filter((line) => 'loss' in line).map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(metrics.filter((line) => 'eval_loss' in line).map(({ step }) => step)).toEqual([3, 6]);
    expect(metrics.some((line) => 'loss' in line && 'eval_loss' in line)).toBe(false);
    expect(metrics[0].tokens).toBeLessThan(metrics[0].padded_tokens);
    const run = json('run/run.json');
    expect(run).toMatchObject({ command: 'sft', options: { seed: 7, batch_size: 5 }, result: { steps: 6 } });
    expect(run.data.map((part: { rows: number }) => part.rows)).toEqual([12, 3]);
    expect(json('result.json')).toEqual(run.result);
    expect(run.result.device_bytes).toBeLessThanOrEqual(run.result.planned_bytes);

    expect(readdirSync(at('run/checkpoints')).sort()).toEqual(
      expect.arrayContaining(['best', 'step-000002', 'step-000004']),
    );
    const checkpoint = at('run/checkpoints/step-000004');
    const state = json('run/checkpoints/step-000004/trainer_state.json');
    expect(state).toMatchObject({ step: 4, updates: 4, seed: 7 });
    const adapter = readSafetensors(join(checkpoint, 'adapter_model.safetensors'));
    const moments = readSafetensors(join(checkpoint, 'optimizer.safetensors'));
    for (const [name, values] of adapter) {
      expect(moments.get(`first.${name}`)?.length).toBe(values.length);
      expect(moments.get(`second.${name}`)!.every((value) => value >= 0)).toBe(true);
    }
    const [events] = readdirSync(at('run/tensorboard'));
    const text = readFileSync(at(`run/tensorboard/${events}`), 'latin1');
    for (const tag of ['loss', 'learning_rate', 'grad_norm', 'eval_loss']) expect(text).toContain(tag);

    await sft('again', ...args);
    expect(bytes('again').equals(bytes('run'))).toBe(true);
    await sft('other', ...args.with(7, '8'));
    expect(bytes('other').equals(bytes('run'))).toBe(false);
  });

  it('says where the only step learns nothing, being warm-up; a constant learning rate has none', async () => {
    const one = (run: string, ...more: string[]) => sft(run, '--data', directory, '--max-steps', '1', ...more);
    const idle = await one('idle');
    expect(idle.stdout).toContain('1 of them warm-up');
    expect(idle.stderr).toMatch(/Warning: the only step is warm-up, .* so nothing is learnt: make more steps/);
    const constant = await one('constant', '--lr-scheduler-type', 'constant');
    expect(constant.stdout).toContain('0 of them warm-up');
    expect(constant.stderr).not.toContain('warm-up');
  });

  it('takes its options from YAML, under the names of TRL too', async () => {
    writeFileSync(
      at('run.yaml'),
      `data: { source: elsewhere }\nlearning_rate: 0.5\nseed: 3\nsft:\n  data: ${at('train.jsonl')}\n  per_device_train_batch_size: 2\n` +
        '  gradient_accumulation_steps: 3\n  lora_target_modules: [q_proj, o_proj]\n  max_steps: 2\n  shuffle: false\n  gradient_checkpointing: true\n  eval_data:\n',
    );
    const argv = ['sft', '--config', at('run.yaml'), '--model', at('model'), '--output', at('yaml'), '--seed', '4'];
    expect((await lexalign(...argv)).code).toBe(0);
    const { options, memory } = json('yaml/run.json');
    expect(options).toMatchObject({ batch_size: 6, learning_rate: 0.5, seed: 4, max_steps: 2, shuffle: false });
    expect([options.gradient_checkpointing, memory.recomputed_layers]).toEqual(['on', 1]);
    expect(json('yaml/adapter_config.json').target_modules).toEqual(['o_proj', 'q_proj']);
    expect(metricsOf(at('yaml')).map(({ examples }) => examples)).toEqual([6, 6]);
  });

  it('goes on from an adapter, whose settings it keeps; cuts or drops what is too long', async () => {
    const data = ['--data', at('train.jsonl'), '--max-steps', '1'];
    await sft('from', ...data, '--lora-r', '4', '--lora-alpha', '8');
    const onward = [
      'sft',
      '--json',
      at('onward/result.json'),
      '--model',
      at('model'),
      '--output',
      at('onward'),
      '--tier',
      'auto',
      '--max-steps',
      '-1',
    ];
    const args = ['--data', at('train.jsonl'), '--init-adapter', at('from'), '--learning-rate', '0'];
    const { code, stdout } = await lexalign(...onward, ...args, '--num-train-epochs', '2');
    expect(code).toBe(0);
    expect(stdout).not.toContain('--max-length');
    expect(json('onward/result.json').steps).toBe(2);
    expect(json('onward/adapter_config.json')).toMatchObject({ r: 4, lora_alpha: 8 });
    const { options, device } = json('onward/run.json');
    expect(options).toMatchObject({ lora_r: 4, lora_alpha: 8, lora_target_modules: 'q_proj,v_proj', max_steps: 0 });
    expect(options).toMatchObject({ tier: device.tier, max_length: 512 });
    expect(bytes('onward').equals(bytes('from'))).toBe(true);
    const cut = await sft('cut', ...data, '--max-length', '9', '--overlong', 'truncate');
    expect(cut.stdout).toMatch(/12 rows .*, 4 truncated/);
    const dropped = await sft('dropped', ...data, '--max-length', '9', '--overlong', 'drop');
    expect(dropped.stdout).toMatch(/8 rows .*, 4 dropped as too long/);
  });

  it('ends quietly when nobody reads its output any more', async ({ skip }) => {
    const launcher = join(import.meta.dirname, '../../bin/lexalign.mjs');
    if (!existsSync(join(import.meta.dirname, '../../dist/src/cli/main.js'))) skip('not built: run npm test');
    const env = { ...process.env, XDG_CACHE_HOME: userCache, LEXALIGN_RELAUNCHED_BY: '' };
    const args = ['sft', '--model', at('model'), '--data', at('train.jsonl'), '--output', at('unread')];
    const child = spawn(nodeExecutable(), [launcher, ...args, '--max-steps', '1000000'], { env });
    let err = '';
    child.stderr.on('data', (data) => {
      err += data;
    });
    child.stdout.once('data', () => child.stdout.destroy());
    expect(await new Promise((resolve) => child.on('close', resolve)), err).toBe(141);
    expect(err).not.toMatch(/EPIPE|^\s+at /m);
  });

  it('writes a checkpoint and exits 130 at Ctrl-C', async ({ skip }) => {
    const launcher = join(import.meta.dirname, '../../bin/lexalign.mjs');
    if (!existsSync(join(import.meta.dirname, '../../dist/src/cli/main.js'))) skip('not built: run npm test');
    const env = { ...process.env, XDG_CACHE_HOME: userCache, LEXALIGN_RELAUNCHED_BY: '' };
    const args = ['sft', '--model', at('model'), '--data', at('train.jsonl'), '--output', at('stopped')];
    const child = spawn(nodeExecutable(), [launcher, ...args, '--max-steps', '1000000'], { env, detached: true });
    let err = '';
    child.stderr.on('data', (data) => {
      err += data;
    });
    const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
    while (metricsWritten(at('stopped')) < 3 && child.exitCode === null)
      await new Promise((resolve) => setTimeout(resolve, 50));
    child.kill('SIGINT');
    expect(await ended, err).toBe(130);
    expect(err).toContain('Interrupted: writing a checkpoint');
    const [name] = readdirSync(at('stopped/checkpoints'));
    const last = metricsOf(at('stopped')).at(-1)!.step;
    expect(name).toBe(`step-${String(last).padStart(6, '0')}`);
    expect(json(`stopped/checkpoints/${name}/trainer_state.json`).step).toBe(last);
    expect(json('stopped/run.json').result.outcome).toBe('interrupted');
    expect(bytes('stopped').equals(bytes(`stopped/checkpoints/${name}`))).toBe(true);
  });
});

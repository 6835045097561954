import { spawn } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { RunDirectory } from '../../src/cli/run-directory.js';
import { nodeExecutable } from '../../src/cli/software-driver.js';
import { writeRandomCheckpoint } from '../random-checkpoint.js';
import {
  idRows,
  lexalign,
  makeWorkplace,
  metricsOf,
  metricsWritten,
  spoilCheckpoint,
  writeRows,
} from './sft-helpers.js';

const { XDG_CACHE_HOME: userCache = '' } = process.env;
const { directory, remove } = makeWorkplace();
const at = (name: string) => join(directory, name);
const bytes = (file: string) => readFileSync(at(file));
const json = (file: string) => JSON.parse(readFileSync(at(file), 'utf8'));
const checkpoint = (run: string, step: number) => `${run}/checkpoints/step-${String(step).padStart(6, '0')}`;
const settings = ['--learning-rate', '0.01', '--lora-target-modules', 'q_proj,v_proj', '--lora-dropout', '0.1'];
const common = (run: string) => ['sft', '--model', at('model'), '--data', directory, '--output', at(run), ...settings];

/** Metrics without what a clock says. */
const timeless = (run: string) =>
  metricsOf(at(run)).map((line) => Object.fromEntries(Object.entries(line).filter(([key]) => !key.includes('second'))));

beforeAll(async () => {
  const shape = { hidden: 32, layers: 1, heads: 2, kvHeads: 1, intermediate: 64, vocab: 64 };
  await writeRandomCheckpoint(at('model'), shape);
  writeRows(at('train.jsonl'), idRows(12));
  writeRows(at('valid.jsonl'), idRows(15).slice(12));
  const { code, stderr } = await lexalign(
    ...common('whole'),
    '--max-steps',
    '6',
    '--batch-size',
    '5',
    '--save-steps',
    '3',
  );
  expect(code, stderr).toBe(0);
});
afterAll(remove);

/** A copy of the whole run as it was when it had written the checkpoint of step 3 and a few lines more. */
function cut(run: string): void {
  rmSync(at(run), { recursive: true, force: true });
  cpSync(at('whole'), at(run), { recursive: true });
  for (const name of readdirSync(at(`${run}/checkpoints`)))
    if (name !== 'step-000003') rmSync(at(`${run}/checkpoints/${name}`), { recursive: true });
  rmSync(at(`${run}/adapter_model.safetensors`));
  appendFileSync(at(`${run}/metrics.jsonl`), '{"step": 7, "lo');
}

describe('sft --resume', () => {
  it('only writes what is missing of a run that broke off behind its last checkpoint', async () => {
    cpSync(at('whole'), at('broken-off'), { recursive: true });
    rmSync(at('broken-off/adapter_model.safetensors'));
    const { finished: _, result, ...record } = json('whole/run.json');
    writeFileSync(at('broken-off/run.json'), JSON.stringify(record));
    const fewer = await lexalign('sft', '--resume', '--output', at('broken-off'), '--max-steps', '5');
    const sentence = /has made 6 steps where 5 are asked for: raise --max-steps/;
    expect(fewer).toMatchObject({ code: 1, stderr: expect.stringMatching(sentence) });
    const { code, stderr } = await lexalign('sft', '--resume', '--output', at('broken-off'));
    expect(code, stderr).toBe(0);
    const file = 'adapter_model.safetensors';
    expect(bytes(`broken-off/${file}`).equals(bytes(`whole/${file}`))).toBe(true);
    expect(metricsOf(at('broken-off'))).toEqual(metricsOf(at('whole')));
    const { device_bytes: __, ...kept } = result;
    expect(json('broken-off/run.json').result).toMatchObject(kept);
  });

  it('goes on from the newest checkpoint to the same bytes, under the settings of the run', async () => {
    cut('cut');
    const { code, stdout, stderr } = await lexalign('sft', '--resume', '--output', at('cut'), '--tier', 'auto');
    expect(code, stderr).toBe(0);
    expect(stdout).toContain('Training: from step 3 to 6 steps of 5 rows');
    expect(bytes('cut/adapter_model.safetensors').equals(bytes('whole/adapter_model.safetensors'))).toBe(true);
    for (const file of ['optimizer.safetensors', 'trainer_state.json'])
      expect(bytes(`${checkpoint('cut', 6)}/${file}`).equals(bytes(`${checkpoint('whole', 6)}/${file}`))).toBe(true);
    expect(timeless('cut')).toEqual(timeless('whole'));
    const [before, now] = [json('whole/run.json'), json('cut/run.json')];
    expect(now).toMatchObject({
      started: before.started,
      options: { ...before.options, output: at('cut') },
      resumed: [{ step: 3 }],
    });
    expect({ ...now.result, device_bytes: 0 }).toEqual({ ...before.result, device_bytes: 0 });
    expect(readdirSync(at('cut/tensorboard'))).toHaveLength(2);
  });

  it('goes on from a named checkpoint with more steps, and again', async () => {
    cut('longer');
    const name = at(checkpoint('longer', 3));
    const { code, stderr } = await lexalign('sft', '--resume', name, '--max-steps', '5', ...settings);
    expect(code, stderr).toBe(0);
    expect(metricsOf(at('longer')).filter((line) => 'loss' in line)).toHaveLength(5);
    await lexalign(...common('longer'), '--resume', '--max-steps', '7');
    expect(json('longer/run.json')).toMatchObject({
      total_steps: 7,
      arguments: { max_steps: 7 },
      resumed: [{ step: 3 }, { step: 5 }],
    });
    const done = await lexalign('sft', '--output', at('longer'), '--resume');
    expect(done).toMatchObject({ code: 1, stderr: expect.stringMatching(/has made its 7 steps: raise --max-steps/) });
  });

  it('goes on with other micro-batches where it is given them, and keeps them', async () => {
    cut('smaller');
    expect(json('whole/run.json').options.micro_batch_tokens).toBeGreaterThan(12);
    const bad = await lexalign('sft', '--resume', '--output', at('smaller'), '--micro-batch-tokens', '5');
    expect(bad).toMatchObject({ code: 1, stderr: expect.stringMatching(/5 is less than the longest row/) });
    const smaller = await lexalign(...common('smaller'), '--resume', '--micro-batch-tokens', '12', '--max-steps', '5');
    expect(smaller.code, smaller.stderr).toBe(0);
    expect(json('smaller/run.json').options.micro_batch_tokens).toBe(12);
    const { code, stderr } = await lexalign('sft', '--resume', '--output', at('smaller'), '--max-steps', '6');
    expect(code, stderr).toBe(0);
    expect(json('smaller/run.json').options.micro_batch_tokens).toBe(12);
    expect(metricsOf(at('smaller')).filter((line) => 'loss' in line)).toHaveLength(6);
  });

  it('goes on from the latest checkpoint after a kill, to the same bytes, and leaves none behind', async () => {
    // As a power cut leaves it: the process ends within the step after the fourth.
    const append = RunDirectory.prototype.append;
    const spy = vi.spyOn(RunDirectory.prototype, 'append').mockImplementation(async function (
      this: RunDirectory,
      step,
      metrics,
    ) {
      if (step === 5) throw new Error('power cut');
      await append.call(this, step, metrics);
    });
    const minutes = ['--save-minutes', '1e-9'];
    const died = await lexalign(...common('killed'), '--max-steps', '6', '--batch-size', '5', ...minutes);
    spy.mockRestore();
    expect(died).toMatchObject({ code: 1, stderr: expect.stringContaining('power cut') });
    expect(readdirSync(at('killed/checkpoints'))).toEqual(['latest']);
    expect(json('killed/checkpoints/latest/trainer_state.json').step).toBe(4);
    const { code, stdout, stderr } = await lexalign('sft', '--resume', '--output', at('killed'), '--save-minutes', '0');
    expect(code, stderr).toBe(0);
    expect(stdout).toContain('Training: from step 4 to 6 steps');
    expect(bytes('killed/adapter_model.safetensors').equals(bytes('whole/adapter_model.safetensors'))).toBe(true);
    expect(timeless('killed')).toEqual(timeless('whole'));
    expect(readdirSync(at('killed/checkpoints'))).toEqual(['best']);
    expect(json('killed/run.json').arguments.save_minutes).toBe(0);
  });

  it('goes on after Ctrl-C as if nothing had been', async ({ skip }) => {
    const launcher = join(import.meta.dirname, '../../bin/lexalign.mjs');
    if (!existsSync(join(import.meta.dirname, '../../dist/src/cli/main.js'))) skip('not built: run npm test');
    const env = { ...process.env, XDG_CACHE_HOME: userCache, LEXALIGN_RELAUNCHED_BY: '' };
    const child = spawn(nodeExecutable(), [launcher, ...common('stopped'), '--max-steps', '100000'], {
      env,
      detached: true,
    });
    const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
    child.stderr.resume();
    const steps = () => metricsWritten(at('stopped'));
    while (steps() < 3 && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 50));
    child.kill('SIGINT');
    expect(await ended).toBe(130);
    const step = metricsOf(at('stopped')).at(-1)!.step;
    const extend = ['--max-steps', String(step + 2)];
    expect((await lexalign('sft', '--resume', '--output', at('stopped'), ...extend)).code).toBe(0);
    expect(metricsOf(at('stopped')).flatMap((line) => ('loss' in line ? [line.step] : []))).toEqual(
      Array.from({ length: step + 2 }, (_, i) => i + 1),
    );
  });
});

describe('sft --resume of a run that was interrupted before its last evaluation', () => {
  const last = checkpoint('unevaluated', 6);
  const resume = () => lexalign('sft', '--resume', '--output', at('unevaluated'));
  const expectWhole = () => {
    const file = 'adapter_model.safetensors';
    expect(bytes(`unevaluated/${file}`).equals(bytes(`whole/${file}`))).toBe(true);
    expect(timeless('unevaluated')).toEqual(timeless('whole'));
    const { result } = json('unevaluated/run.json');
    expect({ ...result, device_bytes: 0 }).toEqual({ ...json('whole/run.json').result, device_bytes: 0 });
  };
  beforeAll(async () => {
    cut('unevaluated');
    const append = RunDirectory.prototype.append;
    const spy = vi.spyOn(RunDirectory.prototype, 'append').mockImplementation(async function (
      this: RunDirectory,
      step,
      metrics,
    ) {
      await append.call(this, step, metrics);
      if (step === 6) process.emit('SIGINT');
    });
    const { code, stderr } = await resume();
    spy.mockRestore();
    expect(code).toBe(130);
    expect(stderr).toContain('an evaluation that has not ended is made anew by --resume');
    cpSync(at('unevaluated'), at('kept'), { recursive: true });
  });

  it('makes that one, and no step more', async () => {
    expect(timeless('unevaluated')).toEqual(timeless('whole').slice(0, -1));
    expect(json(`${last}/trainer_state.json`)).toMatchObject({ step: 6, evaluationDue: true, evalLoss: null });
    const { code, stderr } = await resume();
    expect(code, stderr).toBe(0);
    expectWhole();
    for (const file of ['optimizer.safetensors', 'trainer_state.json'])
      expect(bytes(`${last}/${file}`).equals(bytes(`${checkpoint('whole', 6)}/${file}`))).toBe(true);
  });

  it.each([
    ['had told of it', () => undefined],
    [
      'had kept the best adapter',
      () => cpSync(at('whole/checkpoints/best'), at('unevaluated/checkpoints/best'), { recursive: true }),
    ],
  ])('tells of it once where the process that made it was killed when it %s', async (_, keep) => {
    rmSync(at('unevaluated'), { recursive: true });
    cpSync(at('kept'), at('unevaluated'), { recursive: true });
    cpSync(at('whole/metrics.jsonl'), at('unevaluated/metrics.jsonl'));
    const { finished: _finished, result: _result, ...record } = json('unevaluated/run.json');
    writeFileSync(at('unevaluated/run.json'), JSON.stringify(record));
    keep();
    const { code, stderr } = await resume();
    expect(code, stderr).toBe(0);
    expectWhole();
  });
});

describe('sft --resume refuses, in one sentence, and leaves the run as it was', () => {
  const refuse = async (code: 1 | 2, sentence: RegExp, ...args: readonly string[]) => {
    const before = bytes('refused/metrics.jsonl');
    const result = await lexalign('sft', ...args);
    expect(result.stderr).toMatch(sentence);
    expect(result.stderr.split('\n')).toHaveLength(1);
    expect(result.code).toBe(code);
    expect(result.stdout).not.toContain('Device:');
    expect(bytes('refused/metrics.jsonl').equals(before)).toBe(true);
  };
  const bare = () => ['--resume', '--output', at('refused')];
  beforeAll(() => cut('refused'));

  it('other settings, naming them', async () => {
    await refuse(
      2,
      /--learning-rate is 0\.5, the run began with 0\.01: leave it out/,
      ...bare(),
      '--learning-rate',
      '0.5',
    );
    await refuse(2, /--seed is 7, the run began with 42/, ...bare(), '--seed', '7');
    await refuse(2, /--tier is f32, the run began with f16/, ...bare(), '--tier', 'f32');
    writeFileSync(at('other.yaml'), 'sft:\n  batch_size: 4\n');
    await refuse(2, /--batch-size is 4, the run began with 5/, ...bare(), '--config', at('other.yaml'));
  });

  it('other data or another base model', async () => {
    renameSync(at('valid.jsonl'), at('valid.away'));
    await refuse(1, /there were 2 data files, and are 1/, ...bare());
    writeRows(at('valid.jsonl'), idRows(3));
    await refuse(1, /the data .*valid\.jsonl has changed since .*refused began: restore it/, ...bare());
    renameSync(at('valid.away'), at('valid.jsonl'));
    spoilCheckpoint(at('model'), at('other'), ({ data }) => {
      data[data.length - 3] ^= 1;
      return undefined;
    });
    await refuse(1, /the base model .*other has changed since .*refused began/, ...bare(), '--model', at('other'));
    writeRows(at('copy.jsonl'), idRows(12));
    const moved = ['--data', at('copy.jsonl'), '--eval-data', at('valid.jsonl'), '--max-steps', '3'];
    await refuse(1, /has made its 3 steps/, ...bare(), ...moved); // the same bytes elsewhere are the same data
  });

  it('to put an adapter of fewer steps in the place of a finished one, unless the checkpoint is named', async () => {
    const file = 'adapter_model.safetensors';
    cpSync(at(`whole/${file}`), at(`refused/${file}`));
    const ended = /the run has ended after step 6 and its newest checkpoint is of step 3: train on .*--init-adapter/;
    await refuse(1, ended, ...bare());
    await refuse(1, ended, ...bare(), '--max-steps', '5');
    await refuse(1, ended, ...bare(), '--max-steps', '9');
    expect(bytes(`refused/${file}`).equals(bytes(`whole/${file}`))).toBe(true);
    cpSync(at('refused'), at('given-up'), { recursive: true });
    const name = at(checkpoint('given-up', 3));
    const { code, stderr } = await lexalign('sft', '--resume', name, '--max-steps', '4');
    expect(code, stderr).toBe(0);
    expect(json('given-up/run.json').result.steps).toBe(4);
    rmSync(at(`refused/${file}`));
  });

  it('what is no run, no checkpoint, or not the newest', async () => {
    await refuse(1, /nowhere has no checkpoint .*another directory\.$/m, '--resume', '--output', at('nowhere'));
    cpSync(at('whole'), at('bare'), { recursive: true });
    rmSync(at('bare/checkpoints'), { recursive: true });
    const onward = /bare has no checkpoint to go on from: .*, from its adapter by --init-adapter .*bare\.$/m;
    await refuse(1, onward, '--resume', '--output', at('bare'));
    await refuse(1, /--resume needs the run/, '--resume');
    await refuse(1, /model is not a checkpoint of a run/, '--resume', at('model'));
    await refuse(
      1,
      /belongs to the run .*whole, not to/,
      '--resume',
      at(checkpoint('whole', 3)),
      '--output',
      at('refused'),
    );
    await refuse(1, /is at step 3, but the run has come to .*step-000006/, '--resume', at(checkpoint('whole', 3)));
  });

  it('a checkpoint that is broken', async () => {
    const state = at(`${checkpoint('refused', 3)}/trainer_state.json`);
    const text = readFileSync(state, 'utf8');
    writeFileSync(state, text.replace('"updates": 3', '"updates": "three"'));
    await refuse(1, /trainer_state\.json: updates is three, not a number/, ...bare());
    writeFileSync(state, text);
    rmSync(at(`${checkpoint('refused', 3)}/optimizer.safetensors`));
    await refuse(1, /optimizer\.safetensors does not exist/, ...bare());
  });
});

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { findCheckpoint, removeLatest, writeCheckpoint } from '../../src/cli/checkpoints.js';
import { InputError } from '../../src/errors.js';
import { temporaryDirectory } from '../formats/helpers.js';

it('half a checkpoint is none to go on from', async () => {
  const run = await temporaryDirectory();
  for (const [name, step] of [
    ['step-000003', 3],
    ['.step-000006.new', 6],
  ] as const) {
    mkdirSync(join(run, 'checkpoints', name), { recursive: true });
    writeFileSync(join(run, 'checkpoints', name, 'trainer_state.json'), JSON.stringify({ step }));
  }
  const whole = join(run, 'checkpoints', 'step-000003');
  expect((await findCheckpoint(true, run)).path).toBe(whole);
  const half = join(run, 'checkpoints', '.step-000006.new');
  await expect(findCheckpoint(half, undefined)).rejects.toThrow(
    `--resume ${half} is not a checkpoint of ${run}, whose newest is ${whole}.`,
  );
});

const fill = (text: string) => async (directory: string) => writeFileSync(join(directory, 'adapter'), text);
const fillDisk = async (directory: string) => {
  await fill('half')(directory);
  throw new InputError(`${directory}/optimizer cannot be written: the disk is full`);
};

it('says how to go on where a checkpoint cannot be written, and leaves nothing of it', async () => {
  const run = await temporaryDirectory();
  await expect(writeCheckpoint(run, 'latest', { step: 1 }, fillDisk)).rejects.toThrow(
    /the disk is full\. Mend that, then start anew in another directory: there is no checkpoint yet\.$/,
  );
  await writeCheckpoint(run, 'latest', { step: 1 }, fill('whole'));
  const failed = writeCheckpoint(run, 'latest', { step: 2 }, fillDisk);
  await expect(failed).rejects.toThrow(
    `the disk is full. Mend that, then go on with --resume from the newest checkpoint of ${run}.`,
  );
  await expect(failed).rejects.toThrow(InputError);
  expect(readdirSync(join(run, 'checkpoints'))).toEqual(['latest']);
  expect(readFileSync(join(run, 'checkpoints/latest/adapter'), 'utf8')).toBe('whole');
});

it('takes away what kills left of checkpoints, with the latest, once a run has ended', async () => {
  const run = await temporaryDirectory();
  await removeLatest(run); // one that wrote none
  await writeCheckpoint(run, 'latest', { step: 1 }, fill('whole'));
  await writeCheckpoint(run, 'step-000002', { step: 2 }, fill('whole'));
  for (const name of ['.latest.new', '.latest.old', '.best.new']) mkdirSync(join(run, 'checkpoints', name));
  await removeLatest(run);
  expect(readdirSync(join(run, 'checkpoints'))).toEqual(['step-000002']);
  expect(existsSync(join(run, 'checkpoints/step-000002/adapter'))).toBe(true);
});

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { findCheckpoint } from '../../src/cli/checkpoints.js';
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

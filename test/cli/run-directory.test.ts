import { symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { RunDirectory, readRun } from '../../src/cli/run-directory.js';
import { temporaryDirectory } from '../formats/helpers.js';

it('does not take metrics that cannot be read for none, which would wipe them', async () => {
  const path = await temporaryDirectory();
  await writeFile(join(path, 'run.json'), '{}');
  await symlink('metrics.jsonl', join(path, 'metrics.jsonl')); // leads to itself
  await expect(RunDirectory.reopen(path, {}, { step: 1 })).rejects.toThrow(/metrics\.jsonl cannot be read/);
});

it('reads a run.json of somebody else’s within bounds', async () => {
  const path = await temporaryDirectory();
  for (const [text, message] of [
    ['[]', /run\.json is not a JSON object/],
    ['{"options": ', /run\.json is not JSON/],
    [`{"options": ${'['.repeat(100_000)}${']'.repeat(100_000)}}`, /nested more than 100 deep/],
    [`{"options": "${'a'.repeat(16e6)}"}`, /run\.json has more than the 16000000 bytes/],
  ] as const) {
    await writeFile(join(path, 'run.json'), text);
    await expect(readRun(path)).rejects.toThrow(message);
  }
});

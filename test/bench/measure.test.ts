import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import yargs from 'yargs';
import { benchCommand } from '../../src/cli/bench.js';
import { parseRequest } from '../../src/cli/bench-request.js';
import { commands } from '../../src/cli/registry.js';

const directory = mkdtempSync(join(tmpdir(), 'lexalign-measure-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

it('bench/measure.sh asks for what there is and has an effect, goes on past a command that fails, and names it', async () => {
  const log = join(directory, 'asked');
  // In the place of lexalign: keeps what it was asked, and fails at the second.
  const stand = `#!/bin/sh\necho "$@" >> ${log}\n[ "$(wc -l < ${log})" != 2 ]\n`;
  writeFileSync(join(directory, 'npx'), stand, { mode: 0o755 });
  const out = join(directory, 'results');
  const measure = (...names: string[]) =>
    execFileSync('sh', [join(import.meta.dirname, '../../bench/measure.sh'), out, ...names], {
      env: { ...process.env, PATH: `${directory}${delimiter}${process.env.PATH}` },
      encoding: 'utf8',
    });
  const stdout = measure();
  expect(existsSync(out)).toBe(true);
  expect(stdout.match(/^FAILED.*$/gm)).toEqual(['FAILED: product ended with 1']);
  const asked = readFileSync(log, 'utf8').trim().split('\n');
  expect(asked).toHaveLength(stdout.match(/^== /gm)!.length);
  const files = asked.map((line) => {
    const [lexalign, name, ...words] = line.split(' ');
    const command = commands.find(({ command }) => command.split(' ')[0] === name)!;
    expect([lexalign, command?.command], line).toEqual(['lexalign', expect.any(String)]);
    const options = words.filter((word) => word.startsWith('--')).map((word) => word.slice(2));
    expect(
      options.filter((option) => !(option in command.options)),
      line,
    ).toEqual([]);
    return words.at(-1)!;
  });
  for (const line of asked) {
    const [, name, what, ...words] = line.split(' ');
    const given = words.filter((word) => word.startsWith('--')).map((word) => word.slice(2));
    if (name === 'bench')
      await parseRequest({ ...yargs(words).options(benchCommand.options).parseSync(), what }, new Set(given));
  }
  expect(measure('sft', 'doctor').match(/^== \S+/gm)).toEqual(['== doctor:', '== sft:']);
  expect(new Set(files).size).toBe(asked.length);
  expect(files.every((file) => file.startsWith(out) && file.endsWith('.json'))).toBe(true);
});

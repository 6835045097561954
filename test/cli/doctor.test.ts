import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it, vi } from 'vitest';
import { runCli } from './run.js';

const directory = mkdtempSync(join(tmpdir(), 'lexalign-doctor-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

it('doctor shows the device and the self-test of every tier, as text and as JSON', async () => {
  const file = join(directory, 'doctor.json');
  const { code, stdout } = await runCli('doctor', '--json', file);
  expect(code).toBe(0);
  const report = JSON.parse(readFileSync(file, 'utf8'));
  expect(report.tiers.at(-1)).toMatchObject({ tier: 'f32', name: 'f32', ok: true });
  expect(report.problems).toEqual([]);
  for (const { name, milliseconds } of report.tiers)
    expect(stdout).toMatch(
      new RegExp(`^tier ${name} +ok: matmul and attention equal the CPU’s \\(${milliseconds} ms\\)$`, 'm'),
    );
  expect(stdout).toContain(report.adapter.driver);
  expect(stdout.trimEnd().split('\n').at(-1)).toBe(report.device);
});

it('doctor says what is wrong and ends with 1 where no device can be used', async () => {
  const { code, stdout } = await runCli('doctor', '--device', 'nonesuch', '--json', '-');
  expect(code).toBe(1);
  const { tiers, problems, device } = JSON.parse(stdout);
  expect({ tiers, device }).toEqual({ tiers: [], device: null });
  expect(problems).toEqual([
    expect.stringMatching(/^--device nonesuch: no adapter has that in its name|^No \w+ device was found/),
  ]);
});

it.runIf(process.platform === 'linux')('doctor --install-driver sets one up, or says why it cannot', async () => {
  vi.stubEnv('XDG_CACHE_HOME', directory); // where there is none
  vi.stubEnv('LEXALIGN_DEBIAN_MIRROR', 'http://127.0.0.1:9/debian'); // and none to be had
  const { code, stderr, stdout } = await runCli('doctor', '--install-driver');
  vi.unstubAllEnvs();
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toMatch(/^lexalign: .*(driver|Debian)/m);
});

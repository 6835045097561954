import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { readTuning, writeTuning } from '../../src/cli/tuning-cache.js';

const info = { vendor: 'maker', architecture: 'arch', device: 'GPU 1/2', description: 'driver 1' } as GPUAdapterInfo;
const source = (path: string) => `text of ${path}`;
const tile = { GM: 1, GN: 2, TM: 2, TN: 1, BK: 16, PAD: 1, STAGES: 1, GROUP: 1, UNPACK: 0, TURN: 0 } as const;

let directory: string;
let said: string[];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lexalign-tuning-'));
  vi.stubEnv('XDG_CACHE_HOME', directory);
  said = [];
  vi.spyOn(console, 'error').mockImplementation((line: string) => said.push(line));
});
afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
  rmSync(directory, { recursive: true });
});

const folder = () => join(directory, 'lexalign', 'tuning');

it('is empty where nothing was tuned, without a word', async () => {
  expect(await readTuning(info, source)).toEqual(new Map());
  expect(said).toEqual([]);
});

it('gives back what was written, and adds to it', async () => {
  const file = await writeTuning(info, source, new Map([['a', tile]]));
  expect(file).toBe(join(folder(), 'maker-arch-GPU_1_2.json'));
  await writeTuning(info, source, new Map([['b', 'registers']]));
  expect(await readTuning(info, source)).toEqual(
    new Map<string, unknown>([
      ['a', tile],
      ['b', 'registers'],
    ]),
  );
  expect(said).toEqual([]);
});

describe('discards, with one line that says why,', () => {
  const spoil = (change: (text: string) => string) => async () => {
    const file = await writeTuning(info, source, new Map([['a', tile]]));
    writeFileSync(file, change(readFileSync(file, 'utf8')));
    return readTuning(info, source);
  };
  const cases: Record<string, [RegExp, () => Promise<unknown>]> = {
    'a cut file': [/it is not JSON/, spoil((text) => text.slice(0, 40))],
    'another type': [/it is not an object/, spoil(() => 'null')],
    'settings of another kind': [/its settings of a are none/, spoil((text) => text.replace('"GM": 1', '"GM": 5'))],
    'no settings': [/it has no settings/, spoil((text) => text.replace('"settings"', '"setting"'))],
    'another device': [/another device/, spoil((text) => text.replace('GPU 1/2', 'GPU 1-2'))],
    'another driver': [
      /another driver \(driver 1\)/,
      async () => {
        await writeTuning(info, source, new Map([['a', tile]]));
        return readTuning({ ...info, description: 'driver 2' } as GPUAdapterInfo, source);
      },
    ],
    'other kernels': [
      /another version of the kernels/,
      async () => {
        await writeTuning(info, source, new Map([['a', tile]]));
        return readTuning(info, (path) => source(path) + (path === 'matmul.wgsl' ? ' changed' : ''));
      },
    ],
  };
  it.each(Object.keys(cases))('%s', async (name) => {
    const [line, run] = cases[name];
    expect(await run()).toEqual(new Map());
    expect(said).toEqual([expect.stringMatching(line)]);
    expect(said[0]).toMatch(/bench kernels --tune/);
    expect(existsSync(folder()) && readdirSync(folder())).toEqual([]);
  });
});

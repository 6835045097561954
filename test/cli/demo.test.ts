import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { linearShapes } from '../../models/tensors.js';
import { describeScores } from '../../src/cli/demo.js';
import { listAdapterNames } from '../../src/cli/gpu.js';
import { main } from '../../src/cli/main.js';
import { openModel } from '../../src/cli/session.js';
import type { StudyResult } from '../../src/evaluate/study.js';
import { readAdapter } from '../../src/formats/peft.js';

const directory = mkdtempSync(join(tmpdir(), 'lexalign-demo-'));
const output = join(directory, 'run');
const jsonLines = (file: string) =>
  readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

afterAll(() => rmSync(directory, { recursive: true, force: true }));
afterEach(() => vi.restoreAllMocks());

/** Runs a command line in this process; gives its exit code and what it printed. */
async function run(...argv: string[]) {
  let out = '';
  let err = '';
  vi.spyOn(console, 'log').mockImplementation((line = '') => {
    out += `${line}\n`;
  });
  vi.spyOn(console, 'error').mockImplementation((line = '') => {
    err += `${line}\n`;
  });
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += text;
    return true;
  });
  return { code: await main(argv), out, err };
}

const hasAdapter = (await listAdapterNames()).length > 0;
if (!hasAdapter) console.log('lexalign demo: skipped, no adapter in this process: run npm test');

describe('what PPO scored, in short', () => {
  it('is told of both halves of the rollouts, good or bad', () => {
    const settings = { reward: 'rank', batchSize: 32 };
    expect(describeScores([-1, 0.5, 9, 0.25, 0], settings)).toBe(
      '  PPO, 5 rollouts of 32 answers: mean score (rank) -0.25 in the first half, 0.13 in the last',
    );
    expect(describeScores([-0.5], settings)).toMatch(/-0\.50 in the first half, -0\.50 in the last/);
  });
});

/** The demo's study in short. */
const recipe = join(directory, 'recipe.yaml');
const study = `
align: {output: unused, stages: sft-lists, measures: ranking, culture_prompt: false, few_shot: 0, test_cues: 6}
cultures:
  - {name: en-us, language: en, associations: mini-norms}
  - {name: zh-cn, language: zh, associations: mini-norms}
data: {split: "70,0,30", max_associates: 8, ranking: 4}
sft: {max_steps: 3, batch_size: 8, max_length: 128, learning_rate: 0.004, lora_r: 16, lora_alpha: 32}
ppo: {response_length: 4}
evaluate: {k: "5"}
`;

describe.skipIf(!hasAdapter)('lexalign demo', () => {
  let printed = '';

  beforeAll(async () => {
    writeFileSync(recipe, study);
    const { code, out, err } = await run('demo', '--output', output, '--recipe', recipe, '--seed', '7');
    expect(err).not.toMatch(/lexalign:/);
    expect(code).toBe(0);
    printed = out;
  });

  it('is the study of its recipe, with the seed that is asked for', async () => {
    const { provenance }: StudyResult = JSON.parse(readFileSync(join(output, 'result.json'), 'utf8'));
    expect(provenance.command).toBe(`npx lexalign demo --output ${output} --seed 7 --recipe ${recipe}`);
    const model = await openModel({});
    await model.checkpoint.close();
    for (const culture of ['en-us', 'zh-cn']) {
      const path = join(output, 'adapters', `${culture}.sft-lists`);
      const adapter = await readAdapter(path, linearShapes(model.config));
      expect(adapter.config).toMatchObject({ r: 16, alpha: 32 });
      expect(Math.max(...[...adapter.tensors.values()].flatMap(({ B }) => [...B].map(Math.abs)))).toBeGreaterThan(0);
      expect(jsonLines(join(path, 'metrics.jsonl')).map(({ step }) => step)).toEqual([1, 2, 3]);
      expect(JSON.parse(readFileSync(join(path, 'run.json'), 'utf8')).options).toMatchObject({
        learning_rate: 4e-3,
        seed: 7,
      });
    }
  });

  it('can be resumed as that study', async () => {
    const again = await run('align', '--config', recipe, '--output', output, '--seed', '7', '--resume');
    expect(again.err).not.toMatch(/lexalign:/);
    expect(again.code).toBe(0);
    expect(again.out.match(/complete, in/g)).toHaveLength(2);
  });

  it('says in short what the base and the adapter make of the same cues, and claims no more', () => {
    const result: StudyResult = JSON.parse(readFileSync(join(output, 'result.json'), 'utf8'));
    expect(result.cultures.map(({ language }) => language)).toEqual(['en', 'zh']);
    for (const { variants } of result.cultures) {
      const gain = variants[1].gains?.[0].aboveOther;
      expect(gain?.n).toBe(6);
      expect(printed).toContain(gain && gain.low > 0 ? 'above zero' : 'no gain is shown');
    }
    expect(printed).toMatch(/English +P@5 own list.+6\n/);
    expect(printed).toContain('Mandarin is weak');
    expect(printed).toMatch(/\("Words related to X:"\): the base gives \d+\.\d % \(other list/);
  });

  it('shows the first held-out cues, and ends with where the report lies', () => {
    const [, first] = readFileSync(join(output, 'data', 'en-us', 'test.tsv'), 'utf8').split('\n');
    expect(printed).toContain(`  ${first.split('\t')[0]}: `);
    const [report, , took] = printed.trimEnd().split('\n').slice(-3);
    expect(report.trim()).toBe(join(output, 'report', 'report.html'));
    expect(existsSync(report.trim())).toBe(true);
    expect(took).toMatch(/^All of it took [\d.]+ s\.$/);
  });

  it('leaves a directory in use alone, and refuses options that make no sense', async () => {
    const used = join(directory, 'used.txt');
    writeFileSync(used, 'mine');
    const refused = await run('demo', '--output', directory);
    expect(refused.code).toBe(1);
    expect(refused.err).toContain('is not empty');
    expect(readFileSync(used, 'utf8')).toBe('mine');
    expect((await run('demo', '--output', join(directory, 'x'), '--language', 'fr')).code).toBe(2);
    expect((await run('demo', '--output', join(directory, 'x'), '--seed', '1.5')).code).toBe(2);
    const english = join(directory, 'english.yaml');
    writeFileSync(english, study.replace(/.*zh-cn.*\n/, ''));
    const none = await run('demo', '--output', join(directory, 'x'), '--recipe', english, '--language', 'zh');
    expect([none.code, none.err]).toEqual([
      2,
      expect.stringMatching(/--language zh: .* has no culture of this language/),
    ]);
    expect(existsSync(join(directory, 'x'))).toBe(false);
  });
});

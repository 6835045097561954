import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { linearShapes } from '../../models/tensors.js';
import { listAdapterNames } from '../../src/cli/gpu.js';
import { main } from '../../src/cli/main.js';
import { openModel } from '../../src/cli/session.js';
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

describe.skipIf(!hasAdapter)('lexalign demo', () => {
  let printed = '';

  beforeAll(async () => {
    const { code, out, err } = await run('demo', '--output', output, '--cues', '20', '--max-steps', '3');
    expect(err).not.toMatch(/lexalign:/);
    expect(code).toBe(0);
    printed = out;
  });

  it('splits by cue: what is taught is never asked', () => {
    for (const language of ['en', 'zh']) {
      const rows = jsonLines(join(output, 'data', language, 'train.jsonl'));
      const [header, ...test] = readFileSync(join(output, 'data', language, 'test.tsv'), 'utf8')
        .trimEnd()
        .split('\n');
      expect(header).toBe('cue\tresponse\tcount');
      const asked = new Set(test.map((line) => line.split('\t')[0]));
      expect(rows).toHaveLength(14);
      expect(asked.size).toBe(6);
      for (const cue of asked)
        expect(rows.some(({ messages }) => messages[0].content.includes(`${cue}\n`))).toBe(false);
      for (const { messages } of rows) expect(messages[1].content.split(/, |，/)).toHaveLength(8);
    }
  });

  it('trains an adapter a language, as sft does', async () => {
    const model = await openModel({});
    await model.checkpoint.close();
    for (const language of ['en', 'zh']) {
      const adapter = await readAdapter(join(output, language), linearShapes(model.config));
      expect(adapter.config).toMatchObject({ r: 16, alpha: 32 });
      expect(Math.max(...[...adapter.tensors.values()].flatMap(({ B }) => [...B].map(Math.abs)))).toBeGreaterThan(0);
      const metrics = jsonLines(join(output, language, 'metrics.jsonl'));
      expect(metrics.map(({ step }) => step)).toEqual([1, 2, 3]);
      expect(JSON.parse(readFileSync(join(output, language, 'run.json'), 'utf8')).options).toMatchObject({
        learning_rate: 4e-3,
        batch_size: 8,
        num_train_epochs: 2,
      });
    }
  });

  it('reports both models on the same cues, with the gain and its interval, and claims no more', () => {
    const report = JSON.parse(readFileSync(join(output, 'report.json'), 'utf8'));
    expect(report.languages.map(({ language }: { language: string }) => language)).toEqual(['en', 'zh']);
    for (const { base, adapter, gains, cues, steps } of report.languages) {
      expect([base.n, adapter.n, cues.length, steps]).toEqual([6, 6, 6, 3]);
      const gain = gains[0].aboveOther;
      const difference = ({ precision }: typeof base) => precision[0].own.mean - precision[0].other.mean;
      expect(gain.mean).toBeCloseTo(difference(adapter) - difference(base), 12);
      expect(printed).toContain(gain.low > 0 ? 'above zero' : 'no gain is shown');
    }
    expect(report.languages[0].known_prompt.n).toBe(6);
    expect(printed).toMatch(/P@5 own − other.+\d/);
    expect(printed).toContain('Mandarin is weak');
    for (const place of ['adapter_model.safetensors', 'metrics.jsonl', 'train.jsonl', 'report.json'])
      expect(printed).toContain(place);
    expect(readFileSync(join(output, 'report.txt'), 'utf8')).toContain('own − other');
  });

  it('leaves a directory in use alone, and refuses options that make no sense', async () => {
    const used = join(directory, 'used.txt');
    writeFileSync(used, 'mine');
    const refused = await run('demo', '--output', directory);
    expect(refused.code).toBe(1);
    expect(refused.err).toContain('is not empty');
    expect(readFileSync(used, 'utf8')).toBe('mine');
    expect((await run('demo', '--output', join(directory, 'x'), '--language', 'fr')).code).toBe(2);
    expect((await run('demo', '--output', join(directory, 'x'), '--cues', '1.5')).code).toBe(2);
    expect(existsSync(join(directory, 'x'))).toBe(false);
  });
});

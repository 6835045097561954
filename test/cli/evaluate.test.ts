import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadMiniNorms } from '../../datasets/mini-norms.js';
import { type CueScore, scoreAssociations } from '../../src/evaluate/association.js';
import { mean } from '../../src/evaluate/statistics.js';
import { digestFile } from '../../src/text/lines.js';
import { loadGolden } from '../golden.js';
import { expectRefusal, runCli } from './run.js';

const directory = mkdtempSync(join(tmpdir(), 'lexalign-evaluate-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const write = (name: string, text: string) => {
  const file = join(directory, name);
  writeFileSync(file, text);
  return file;
};

const cues = loadMiniNorms('en').cues.slice(0, 8);
const table = cues.flatMap(({ cue, responses }) => responses.map(({ word, count }) => `${cue}\t${word}\t${count}`));
const norms = write('norms.tsv', ['cue\tresponse\tcount', ...table, ''].join('\n'));
/** Of a kind that lexi-base met in pretraining, so that it answers with lists. */
const promptFile = write('prompt.yaml', 'form: text\nquestion: "Words related to {cue}:"\n');

describe('lexalign evaluate association', () => {
  it('decodes a list a cue, scores it, and prints a table', async () => {
    const json = join(directory, 'result.json');
    const run = await runCli(
      ...['evaluate', 'association', '--norms', norms, '--language', 'en', '--prompt-file', promptFile],
      ...['--k', '10,5', '--json', json],
    );
    expect(run.code, run.stderr).toBe(0);
    const result = JSON.parse(readFileSync(json, 'utf8'));
    const [base] = result.runs;
    const texts: string[] = base.cues.map(({ text }: { text: string }) => text);
    const scores = scoreAssociations(cues, texts, [5, 10]);
    expect(base.cues).toEqual(scores.map((score, i) => ({ ...score, text: texts[i] })));
    expect(base).toMatchObject({ name: 'base', adapter: null, n: 8 });
    expect(result.gains).toBeNull();
    expect(result).toMatchObject({ model: expect.stringMatching(/lexi-base$/), quantize: 'none' });
    expect(['f16', 'f32', 'tensor']).toContain(result.tier);
    expect(result.human[0]).toEqual({ cue: 'red', words: cues[0].responses.map(({ word }) => word) });
    expect(result.provenance.command).toContain(`npx lexalign evaluate association --norms ${norms} --language en`);
    expect(result.provenance.files).toContainEqual({ file: norms, sha256: await digestFile(norms) });
    expect(base.precision.map(({ k }: { k: number }) => k)).toEqual([5, 10]);
    expect(base.precision[0].own.mean).toBeCloseTo(mean(scores.map(({ precision }: CueScore) => precision[0])), 12);
    // The penalty spares commas: lists go on, and no word is all separators.
    for (const { predictions } of scores) expect(predictions.length).toBeGreaterThanOrEqual(4);
    expect(base.precision[0].own.mean).toBeGreaterThan(base.precision[0].other.mean);
    const [first, header, ...lines] = run.stdout.trimEnd().split('\n');
    expect(first).toMatch(/^8 cues of .*norms\.tsv, no adapter:$/);
    expect(header).toMatch(/mean +95 % interval +n$/);
    expect(lines[0]).toMatch(new RegExp(`^P@5 own list, % +${(100 * base.precision[0].own.mean).toFixed(1)} .* 8$`));
    const { repeated } = base;
    expect(repeated).toBe(scores.reduce((sum, score) => sum + score.repeated, 0));
    // No two words of a cue have one count here.
    expect(lines[5]).toMatch(new RegExp(`^Spearman of people’s order +1\\.000 +${base.spearman.n}$`));
    expect(lines.slice(6)).toEqual(repeated > 0 ? [`in 8 answers: ${repeated} words given again`] : []);
  });

  it.each<[1 | 2, RegExp, string[]]>([
    [2, /affection/, ['affection', '--norms', norms]],
    [2, /needs --language/, ['association', '--norms', norms]],
    [2, /mini-norms:en and mini-norms:zh/, ['association', '--norms', 'mini-norms:fr']],
    [2, /not of --language zh/, ['association', '--norms', 'mini-norms:en', '--language', 'zh']],
    [2, /--k 5,x/, ['association', '--norms', 'mini-norms:en', '--k', '5,x']],
    [1, /nowhere\.tsv does not exist/, ['association', '--norms', 'nowhere.tsv', '--language', 'en']],
    [
      1,
      /has no column "response"; it has cue, answer/,
      ['association', '--norms', write('columns.csv', 'cue,answer\na,b\n'), '--language', 'en'],
    ],
    [
      1,
      /question must be text with \{cue\}/,
      ['association', '--norms', norms, '--language', 'en', '--prompt-file', write('p.yaml', 'question: Hello\n')],
    ],
    [
      1,
      /no tokenizer\.json/,
      ['association', '--norms', norms, '--language', 'en', '--model', join(loadGolden('llama').directory, 'model')],
    ],
  ])('exits %i: %s', async (code, sentence, args) => {
    await expectRefusal(['evaluate', ...args], code, sentence);
  });
});

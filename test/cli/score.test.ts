import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadGolden, loadModel } from '../golden.js';
import { forward, type ReferenceAdapter, type ReferenceModel } from '../reference/decoder.js';
import { chain } from '../reference/trie.js';
import { loadTokenizer } from '../text/shared.js';
import { expectRefusal, root, runCli } from './run.js';
import { lexalign } from './sft-helpers.js';

const directory = mkdtempSync(join(tmpdir(), 'lexalign-score-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const golden = loadGolden('llama');
const goldenModel = join(golden.directory, 'model');

const write = (name: string, lines: readonly string[]) => {
  const file = join(directory, name);
  writeFileSync(file, lines.map((line) => `${line}\n`).join(''));
  return file;
};

interface ScoredRow {
  readonly index: number;
  readonly ids: number[];
  readonly logprobs: (number | null)[];
  readonly labels: number[];
  readonly weight: number;
}

const read = (file: string): ScoredRow[] =>
  readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

/** log p of each token after the first, by the float64 decoder. */
function reference(model: ReferenceModel, adapter: ReferenceAdapter | null, ids: readonly number[]): number[] {
  const vocab = model.config.vocabSize;
  const logits = forward(model, adapter, chain(ids));
  return ids.slice(1).map((id, i) => {
    const row = logits.subarray(i * vocab, (i + 1) * vocab);
    const top = row.reduce((a, b) => Math.max(a, b));
    return row[id] - top - Math.log(row.reduce((sum, x) => sum + Math.exp(x - top), 0));
  });
}

function expectScores({ ids, logprobs }: ScoredRow, expected: readonly number[]): void {
  expect(logprobs).toHaveLength(ids.length);
  expect(logprobs[0]).toBeNull();
  expected.forEach((logprob, i) => {
    expect(Math.abs(logprobs[i + 1]! - logprob), `token ${i + 1}`).toBeLessThan(1e-4);
  });
}

describe('lexalign score', () => {
  it('leaves nothing at Ctrl-C', async () => {
    const data = write(
      'many.jsonl',
      Array(40).fill('{"prompt": "Words related to apple:", "completion": " fruit, red"}'),
    );
    const scored = lexalign('score', '--data', data, '--output', join(directory, 'cut.jsonl'));
    const left = () => readdirSync(directory).filter((name) => name.includes('cut.jsonl'));
    while (left().length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    expect(left()).toEqual([expect.stringMatching(/^\.cut\.jsonl\..*\.tmp$/)]);
    process.emit('SIGINT');
    expect((await scored).code).toBe(130);
    expect(left()).toEqual([]);
  });

  it('scores every token of every row shape, in the order of the rows', async () => {
    const lexiBase = join(root, 'models/lexi-base');
    const tokenizer = await loadTokenizer(lexiBase);
    const data = write('shapes.jsonl', [
      '{"prompt": "Words related to apple:", "completion": " fruit, red"}',
      '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "苹果"}]}',
      '',
      '{"text": "Words related to apple: tree", "weight": 3}',
      '{"input_ids": [5, 6, 7], "labels": [-100, -100, 7]}',
      '{"input_ids": [9]}',
    ]);
    const output = join(directory, 'shapes.out.jsonl');
    const run = await runCli('score', '--data', data, '--output', output, '--tier', 'f32');
    expect(run.code, run.stderr).toBe(0);
    expect(run.stdout).toBe('');
    const rows = read(output);
    const raw = (text: string) => Array.from(tokenizer.encode(text, { specials: true }));
    const turn = '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n苹果<|im_end|>\n';
    expect(rows.map(({ ids }) => ids)).toEqual([
      [...raw('Words related to apple:'), ...raw(' fruit, red'), tokenizer.eosId],
      raw(turn),
      [...raw('Words related to apple: tree'), tokenizer.eosId],
      [5, 6, 7],
      [9],
    ]);
    expect(rows.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4]);
    const model = loadModel(lexiBase);
    for (const row of rows) expectScores(row, reference(model, null, row.ids));
  });

  it('tells what sft would learn of a row, by masks, labels and weights', async () => {
    const tokenizer = await loadTokenizer(join(root, 'models/lexi-base'));
    const data = write('learnt.jsonl', [
      '{"input_ids": [5, 6, 7, 8], "completion_mask": [0, 0, 1, 1], "assistant_masks": [1, 1, 1, 0], "weight": 2.5}',
      '{"input_ids": [5, 6, 7, 8], "labels": [-100, 6, -100, 8], "attention_mask": [1, 1, 1, 1]}',
      '{"input_ids": [5, 6], "completion_mask": [0, 0]}',
      '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "red", "weight": 0}, {"role": "user", "content": "Ho"}, {"role": "assistant", "content": "blue"}]}',
      '{"prompt": "Words:", "completion": " fruit", "weight": 3}',
    ]);
    const output = join(directory, 'learnt.out.jsonl');
    const run = await runCli('score', '--data', data, '--output', output, '--tier', 'f32');
    expect(run.code, run.stderr).toBe(0);
    const rows = read(output);
    expect(rows.map(({ weight }) => weight)).toEqual([2.5, 1, 1, 1, 3]);
    expect(rows.slice(0, 3).map(({ labels }) => labels)).toEqual([
      [-100, -100, 7, -100],
      [-100, 6, -100, 8],
      [-100, -100],
    ]);
    const learnt = rows.slice(3).map(({ labels }) =>
      tokenizer.decode(
        labels.filter((label) => label !== -100),
        { skipSpecials: false },
      ),
    );
    expect(learnt).toEqual(['blue<|im_end|>', ` fruit${tokenizer.tokenText(tokenizer.eosId!)}`]);
    // What is not learnt is scored all the same.
    const model = loadModel(join(root, 'models/lexi-base'));
    for (const row of rows) {
      expect(row.labels).toHaveLength(row.ids.length);
      expectScores(row, reference(model, null, row.ids));
    }
  });

  it('scores more rows than it holds at once, with an adapter', async () => {
    const { ids } = golden.logits;
    const prefix = Array.from({ length: 48 }, (_, i) => ids[i % ids.length]);
    const sequences = Array.from({ length: 1400 }, (_, i) => [...prefix, 3 + (i % 9), 3 + ((i * 7) % 300)]);
    const data = write(
      'many.jsonl',
      sequences.map((sequence) => JSON.stringify({ input_ids: sequence })),
    );
    const output = join(directory, 'many.out.jsonl');
    const run = await runCli(
      ...['score', '--model', goldenModel, '--adapter', join(golden.directory, 'adapter'), '--tier', 'f32'],
      ...['--data', data, '--output', output, '--micro-batch-tokens', '256'],
    );
    expect(run.code, run.stderr).toBe(0);
    const rows = read(output);
    expect(rows.map(({ index, ids }) => [index, ids])).toEqual(sequences.map((sequence, i) => [i, sequence]));
    for (const index of [0, 1, 8, 700, 1399]) {
      expectScores(rows[index], reference(golden.model, golden.adapter, sequences[index]));
    }
    // Equal rows get equal numbers, whichever window and micro-batch they stood in.
    const distinct = new Map(rows.map((row) => [row.ids.join(), row.logprobs]));
    for (const { ids, logprobs } of rows) {
      logprobs.forEach((logprob, i) => {
        if (logprob !== null) expect(Math.abs(logprob - distinct.get(ids.join())![i]!)).toBeLessThan(1e-5);
      });
    }
  });

  it('scores with a quantised model', async () => {
    const { directory: folder, model, logits } = loadGolden('awq');
    const data = write('quantised.jsonl', [JSON.stringify({ input_ids: logits.ids })]);
    const output = join(directory, 'quantised.out.jsonl');
    const run = await runCli(
      ...['score', '--model', join(folder, 'model'), '--tier', 'f32', '--data', data, '--output', output],
    );
    expect(run.code, run.stderr).toBe(0);
    expectScores(read(output)[0], reference(model, null, logits.ids));
  });

  it('writes nothing when a row is bad, and names it', async () => {
    const output = join(directory, 'never.jsonl');
    const data = write('bad.jsonl', ['{"input_ids": [1, 2]}', '{"input_ids": [1, 320]}']);
    await expectRefusal(
      ['score', '--model', goldenModel, '--data', data, '--output', output],
      1,
      /bad\.jsonl, line 2 has token id 320, outside the model's vocabulary of 320/,
    );
    expect(existsSync(output)).toBe(false);
    expect(readdirSync(directory).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  it.each<[1 | 2, RegExp, string[]]>([
    [2, /^lexalign: .*output/m, ['--data', 'x']],
    [1, /no\.jsonl does not exist/, ['--data', join(directory, 'no.jsonl'), '--output', join(directory, 'o')]],
    [1, /not a directory that can be written to/, ['--data', 'x', '--output', join(directory, 'no/where.jsonl')]],
    [1, /--output .* is a directory: name a file/, ['--data', 'x', '--output', directory]],
    [1, /--data \/dev\/null is not a regular file/, ['--data', '/dev/null', '--output', join(directory, 'o')]],
    [1, /empty\.jsonl has no rows/, ['--data', write('empty.jsonl', ['']), '--output', join(directory, 'o')]],
    [
      1,
      /padded\.jsonl, line 1: "attention_mask" holds a 0: leave padding out of the row/,
      [
        ...['--output', join(directory, 'o')],
        ...['--data', write('padded.jsonl', ['{"input_ids": [1, 0], "attention_mask": [1, 0]}'])],
      ],
    ],
    [
      1,
      /other\.jsonl, line 2: "labels" holds 3 where "input_ids" holds 2, and score tells of a row's own tokens alone: make it that or -100/,
      [
        ...['--output', join(directory, 'o')],
        ...['--data', write('other.jsonl', ['{"input_ids": [1, 2]}', '{"input_ids": [1, 2], "labels": [1, 3]}'])],
      ],
    ],
    [
      1,
      /long\.jsonl, line 1 has 513 tokens, more than the model's 512 positions/,
      [
        ...['--output', join(directory, 'o')],
        ...['--data', write('long.jsonl', [JSON.stringify({ input_ids: new Array(513).fill(7) })])],
      ],
    ],
  ])('exits %i: %s', async (code, sentence, args) => {
    await expectRefusal(['score', ...args], code, sentence);
  });
});

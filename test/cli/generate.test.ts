import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadTokenizer } from '../../src/text/tokenizer.js';
import { loadGolden, loadModel } from '../golden.js';
import { greedy } from '../reference/greedy.js';
import { expectRefusal, root, runCli } from './run.js';

const directory = mkdtempSync(join(tmpdir(), 'lexalign-generate-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const lexiBase = join(root, 'models/lexi-base');
const golden = loadGolden('llama');
const goldenModel = join(golden.directory, 'model');

const write = (name: string, lines: readonly string[]) => {
  const file = join(directory, name);
  writeFileSync(file, lines.map((line) => `${line}\n`).join(''));
  return file;
};

describe('lexalign generate', () => {
  it('streams the continuation of one prompt, the device on stderr', async () => {
    const tokenizer = await loadTokenizer(lexiBase);
    const prompt = 'Words related to apple:';
    const { tokens } = greedy(loadModel(lexiBase), Array.from(tokenizer.encode(prompt, { specials: true })), 8);
    const run = await runCli('generate', '--no-chat', '--prompt', prompt, '--max-new-tokens', '8', '--tier', 'f32');
    expect(run.stdout).toBe(`${tokenizer.decode(tokens, { skipSpecials: true })}\n`);
    expect(run.stderr).toMatch(/Device: .*tier f32/);
    expect(run.code).toBe(0);
  });

  it('answers several prompts in order, through the chat template, as text and as JSON', async () => {
    const tokenizer = await loadTokenizer(lexiBase);
    const file = join(directory, 'answers.json');
    const questions = ['List words related to river.', 'List synonyms of big.'];
    const run = await runCli(
      ...['generate', ...questions.flatMap((text) => ['--prompt', text])],
      ...['--max-new-tokens', '6', '--json', file],
    );
    expect(run.code, run.stderr).toBe(0);
    const { results } = JSON.parse(readFileSync(file, 'utf8'));
    expect(results.map(({ prompt }: { prompt: string }) => prompt)).toEqual(questions);
    results.forEach(
      (result: { prompt_ids: number[]; ids: number[]; text: string; finish_reason: string }, i: number) => {
        const text = tokenizer.applyChatTemplate([{ role: 'user', content: questions[i] }], {
          addGenerationPrompt: true,
        });
        expect(result.prompt_ids).toEqual(Array.from(tokenizer.encode(text, { specials: false })));
        expect(result.text).toBe(tokenizer.decode(result.ids, { skipSpecials: true }));
        expect(result.finish_reason).toBe(result.ids.length === 6 ? 'length' : 'stop');
      },
    );
    expect(run.stdout).toBe(
      results.map(({ text }: { text: string }, i: number) => `[${i + 1}] ${questions[i]}\n${text}\n`).join(''),
    );
  });

  it('continues ids of a model without a tokenizer, with its adapter', async () => {
    const ids = golden.logits.ids;
    const run = await runCli(
      ...['generate', '--model', goldenModel, '--adapter', join(golden.directory, 'adapter'), '--tier', 'f32'],
      ...['--prompt-ids', ids.join(','), '--max-new-tokens', '6', '--ignore-eos'],
    );
    expect(run.stdout).toBe(`${greedy(golden.model, ids, 6, golden.adapter).tokens.join(' ')}\n`);
    expect(run.code).toBe(0);
  });

  it.each(['gptq-v1-actorder', 'nf4-double'] as const)('continues ids of a quantised model, %s', async (name) => {
    const { directory, model, adapter, logits } = loadGolden(name);
    const run = await runCli(
      ...['generate', '--model', join(directory, 'model'), '--adapter', join(directory, 'adapter'), '--tier', 'f32'],
      ...['--prompt-ids', logits.ids.join(','), '--max-new-tokens', '6', '--ignore-eos'],
    );
    expect(run.stdout).toBe(`${greedy(model, logits.ids, 6, adapter).tokens.join(' ')}\n`);
    expect(run.code).toBe(0);
  });

  it('takes rows of a training file, and JSON on standard output alone', async () => {
    const file = write('rows.jsonl', [
      '{"prompt": "Words related to apple:", "completion": " fruit"}',
      '',
      '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}',
      '{"input_ids": [5, 6, 7]}',
    ]);
    const sampling = ['--temperature', '0.8', '--top-p', '0.9', '--top-k', '40', '--seed', '7'];
    const args = ['generate', '--prompts', file, '--max-new-tokens', '4', ...sampling, '--json', '-'];
    const [run, again] = [await runCli(...args), await runCli(...args)];
    const tokenizer = await loadTokenizer(lexiBase);
    const { results } = JSON.parse(run.stdout);
    const chat = '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n';
    expect(results.map((result: { prompt_ids: number[] }) => result.prompt_ids)).toEqual([
      Array.from(tokenizer.encode('Words related to apple:', { specials: true })),
      Array.from(tokenizer.encode(chat, { specials: false })),
      [5, 6, 7],
    ]);
    expect(again.stdout).toBe(run.stdout);
  });

  it.each<[1 | 2, RegExp, string[]]>([
    [2, /one of --prompt, --prompt-ids and --prompts/, []],
    [2, /one of --prompt, --prompt-ids and --prompts/, ['--prompt', 'a', '--prompt-ids', '1']],
    [2, /temprature/, ['--prompt', 'a', '--temprature', '1']],
    [2, /--top-p must be above 0/, ['--prompt', 'a', '--top-p', '0']],
    [2, /"x" is not a token id/, ['--prompt-ids', '1,x']],
    [1, /token id 8192, outside the model's vocabulary of 8192/, ['--prompt-ids', '1,8192']],
    [1, /511 .*come to 514, more than the model's 512 positions/, ['--prompt-ids', '1,2,3', '--max-new-tokens', '511']],
    [1, /no tokenizer\.json/, ['--model', goldenModel, '--prompt', 'a']],
    [1, /adapter_config\.json/, ['--prompt', 'a', '--adapter', directory]],
    [1, /nowhere/, ['--model', join(directory, 'nowhere'), '--prompt', 'a']],
    [1, /has no prompts/, ['--prompts', write('empty.txt', ['', ' '])]],
    [1, /bad\.jsonl, line 2 is not valid JSON/, ['--prompts', write('bad.jsonl', ['{"prompt": "a"}', '{'])]],
  ])('exits %i: %s', async (code, sentence, args) => {
    await expectRefusal(['generate', ...args], code, sentence);
  });
});

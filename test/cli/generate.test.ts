import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadGolden, loadModel } from '../golden.js';
import { greedy } from '../reference/greedy.js';
import { loadTokenizer } from '../text/shared.js';
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

  it('says in its JSON which weights answered, in which tier', async () => {
    const asked = ['--no-chat', '--prompt', 'red', '--max-new-tokens', '1', '--quantize', 'int4', '--tier', 'f32'];
    const run = await runCli('generate', ...asked, '--json', '-');
    expect(run.code, run.stderr).toBe(0);
    const { results: _, ...told } = JSON.parse(run.stdout);
    expect(told).toEqual({ model: lexiBase, adapter: null, quantize: 'int4', tier: 'f32' });
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
      '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", "weight": 1}], "tools": [], "weight": 2}',
      '{"input_ids": [5, 6, 7]}',
      '{"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, -100]}',
      '{"input_ids": [5, 6, 7, 8], "completion_mask": [0, 0, 0, 1], "messages": null}',
      '{"input_ids": [5, 6], "assistant_masks": [0, 0]}',
      '{"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Hello"}]}',
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
      [5, 6],
      [5, 6, 7],
      [5, 6],
      Array.from(tokenizer.encode(chat, { specials: false })),
    ]);
    expect(again.stdout).toBe(run.stdout);
  });

  it('samples each prompt several times, each answer by itself, up to a stop string', async () => {
    const questions = ['Words related to apple:', 'Words related to river:'];
    const args = ['generate', '--no-chat', '--max-new-tokens', '12', '--tier', 'f32', '--seed', '3', '--json', '-'];
    const draw = ['--temperature', '1', '--num-samples', '3', '--ignore-eos', '--deterministic'];
    const ask = async (...more: string[]) => JSON.parse((await runCli(...args, ...draw, ...more)).stdout).results;
    type Result = {
      index: number;
      sample: number;
      text: string;
      ids: number[];
      logprobs: number[];
      finish_reason: string;
    };
    const both: Result[] = await ask(...questions.flatMap((text) => ['--prompt', text]));
    expect(both.map(({ index, sample }) => [index, sample])).toEqual(
      [0, 1].flatMap((i) => [0, 1, 2].map((s) => [i, s])),
    );
    expect(new Set(both.map(({ text }) => text)).size).toBe(6);
    expect(both.every(({ ids, logprobs }) => ids.length === 12 && logprobs.length === 12)).toBe(true);
    expect(both.every(({ logprobs }) => Math.max(...logprobs) < 0)).toBe(true);
    // The first prompt's answers are the same when it comes alone, with room for one answer at a time.
    const stop = both[0].text.slice(9, 13);
    const alone: Result[] = await ask('--prompt', questions[0], '--kv-cache-tokens', '25', '--stop', stop);
    alone.forEach(({ text, ids, finish_reason }, i) => {
      const whole = both[i].text;
      expect(text).toBe(whole.includes(stop) ? whole.slice(0, whole.indexOf(stop)) : whole);
      expect(ids).toEqual(both[i].ids.slice(0, ids.length));
      expect(finish_reason).toBe(whole.includes(stop) ? 'stop' : 'length');
    });
    expect(alone[0].finish_reason).toBe('stop');
  });

  it.each<[1 | 2, RegExp, string[]]>([
    [2, /--num-samples must be a whole number/, ['--prompt', 'a', '--num-samples', '0']],
    [2, /--num-samples 3: at --temperature 0 all/, ['--prompt', 'a', '--num-samples', '3']],
    [2, /--stop needs some text/, ['--prompt', 'a', '--stop', '']],
    [
      1,
      /of 3 tokens and an answer of 128 need 130 places .*--kv-cache-tokens allows/,
      ['--prompt-ids', '1,2,3', '--kv-cache-tokens', '50'],
    ],
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
    [1, /bad\.jsonl, line 2 is not valid JSON/, ['--prompts', write('bad.jsonl', ['{"prompt": "a"}', '{"'])]],
    [1, /list\.json, line 1 is not a row by itself/, ['--prompts', write('list.json', ['[{"prompt": "a"}]'])]],
    [
      1,
      /rows\.txt, line 2 is a JSON row, but rows are read/,
      ['--prompts', write('rows.txt', ['7', '{"prompt": "a"}'])],
    ],
    [2, /--prompt-ids are continued as they are: drop --system/, ['--prompt-ids', '1', '--system', 'a']],
    [2, /--prompt-ids are continued as they are: drop --system and --chat/, ['--prompt-ids', '1', '--chat']],
    ...(
      [
        [
          /line 1 has "prompt", which is continued as it is: for --system pass --chat, too/,
          '{"prompt": "a"}',
          '--system',
          'b',
        ],
        [
          /line 1 has "input_ids", which are continued as they are: drop --system and/,
          '{"input_ids": [1]}',
          '--system',
          'b',
        ],
        [/line 1 has "input_ids", which are continued as they are/, '{"input_ids": [1]}', '--chat'],
        [
          /line 1 has a system turn of its own: drop --system/,
          '{"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]}',
          ...['--system', 'c'],
        ],
        [/line 1 has "messages", which need the chat/, '{"messages": [{"role": "user", "content": "b"}]}', '--no-chat'],
      ] as const
    ).map(([sentence, row, ...more], i): [1, RegExp, string[]] => [
      1,
      sentence,
      ['--prompts', write(`options-${i}.jsonl`, [row]), ...more],
    ]),
  ])('exits %i: %s', async (code, sentence, args) => {
    await expectRefusal(['generate', ...args], code, sentence);
  });

  it.each<[object, RegExp]>([
    [{ tools: [{ type: 'function' }] }, / has "tools", which no chat template is given here: write them into the/],
    [{ messages: [{ role: 'user', content: 'a', name: 'b' }] }, /: message 1 has "name", which the chat template of/],
    [
      {
        messages: [
          { role: 'assistant', content: '', tool_calls: [{}] },
          { role: 'user', content: 'a' },
        ],
      },
      /: message 1 has "tool_calls", which the chat template of .* does not write: leave it out, or write it into/,
    ],
    [
      { chat_template_kwargs: { enable_thinking: true } },
      / has "chat_template_kwargs", which no chat template is given/,
    ],
    [{ prompt: 'a' }, / has more than one of the known shapes: a row is \{"prompt"\}, \{"messages"\} or/],
    [{ completion: 'a' }, / has more than one of the known shapes/],
    [{ input_ids: [1] }, / has more than one of the known shapes/],
    [{ text: 'a' }, / has more than one of the known shapes/],
    [{ messages: undefined }, / has none of the known shapes: a row is/],
    [{ messages: undefined, text: 'a' }, / has "text", all of it learnt, so no prompt: a row is/],
    [{ messages: undefined, prompt: [{ role: 'user' }] }, /: message 1 is not \{"role", "content"\} with strings/],
    [{ prompt: [{ role: 'user', content: 'a' }] }, / has more than one of the known shapes/],
    [{ messages: undefined, completion: 'a' }, /: "prompt" is missing/],
    [{ messages: undefined, prompt: 'a', system: 'b' }, / has "system", .* write it into "prompt"/],
    [{ messages: undefined, input_ids: [1, 2], seq_lengths: [1, 1] }, / has "seq_lengths", as packed rows do/],
    [
      { messages: undefined, input_ids: [1, 2], labels: [1, 2] },
      / is learnt from its first token on, so it has no prompt: leave its labels and masks out to go on from the whole row/,
    ],
    [{ messages: undefined, input_ids: [1, 2], completion_mask: [1, 0] }, / is learnt from its first token on, so it/],
    [{ messages: [{ role: 'user', content: 'a', weight: 1 }] }, /: message 1 of user has "weight" 1: only those of/],
    [{ messages: [{ role: 'user', content: 'a', train: true }] }, /: message 1 has "train": say which answers are/],
    [{ messages: [{ role: 'user' }] }, /: message 1 is not \{"role", "content"\} with strings/],
    [{ messages: [] }, /: "messages" is not a list of messages/],
    [{ weight: '2' }, /: "weight" is "2", not a number from/],
    [{ messages: undefined, input_ids: [1, 0], attention_mask: [1, 0] }, /: "attention_mask" holds a 0: leave padding/],
    [{ messages: undefined, input_ids: [1, -1] }, /: "input_ids" holds -1, not a token id/],
  ])('refuses the row %j in the words of sft', async (more, words) => {
    const row = { messages: [{ role: 'user', content: 'Hi' }], ...more };
    const file = write('refused.jsonl', ['{"prompt": "a"}', JSON.stringify(row)]);
    await expectRefusal(['generate', '--prompts', file], 1, new RegExp(`refused\\.jsonl, line 2${words.source}`));
  });

  it('has no chat with a model without a template', async () => {
    const plain = join(directory, 'plain');
    mkdirSync(plain);
    for (const file of ['config.json', 'model.safetensors', 'tokenizer.json'])
      copyFileSync(join(lexiBase, file), join(plain, file));
    const { chat_template: _, ...config } = JSON.parse(readFileSync(join(lexiBase, 'tokenizer_config.json'), 'utf8'));
    writeFileSync(join(plain, 'tokenizer_config.json'), JSON.stringify(config));
    const refused = (option: string, ...more: string[]) =>
      expectRefusal(
        ['generate', '--model', plain, '--prompt', 'a', `--${option}`, ...more],
        1,
        new RegExp(`--${option} needs a chat template, which .*plain has not: drop it\\.$`),
      );
    await refused('chat');
    await refused('system', 'b');
  });

  it('ends its process with the code of a refusal', async () => {
    const { code, stdout, stderr } = await runCli('generate', '--prompts', join(directory, 'nowhere'));
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^lexalign: .*nowhere.*\n$/);
    expect((await runCli('generate')).code).toBe(2);
  });
});

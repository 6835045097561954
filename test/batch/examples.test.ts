import { createHash } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { buildExample, buildExamples, type ExampleOptions } from '../../src/batch/examples.js';
import { parseRow, parseRows } from '../../src/batch/rows.js';
import { unsupervised } from '../../src/batch/types.js';
import { InputError } from '../../src/errors.js';
import { exampleVersion } from '../../src/text/cache.js';
import { placeLines } from '../../src/text/lines.js';
import type { Tokenizer } from '../../src/text/tokenizer.js';
import { lexiBase, loadTokenizer, makeSentencePiece, makeTokenizer, type StartMark } from '../text/shared.js';
import { itOfficial, markSupervised, official, turn } from './marked.js';

const chat = [turn('system', 'Be brief.'), turn('user', 'red'), turn('assistant', ' danger, blood')];
const longChat = [...chat, turn('user', 'blue'), turn('assistant', 'sky'), turn('user', 'unanswered')];

let lexi: Tokenizer;
beforeAll(async () => {
  lexi = await loadTokenizer(lexiBase);
});

const mark = (row: unknown, tokenizer = lexi) => markSupervised(row, tokenizer);

describe('buildExample', () => {
  it('masks prompts and ends completions with EOS, tokenised apart', () => {
    const row = { prompt: 'Words related to red:', completion: ' danger', weight: 3 };
    expect(mark(row)).toBe('Words related to red:« danger<|im_end|>»');
    const { ids, weight } = buildExample(parseRow(JSON.stringify(row), 'f'), lexi, 8192);
    const apart = [row.prompt, row.completion].flatMap((text) => [...lexi.encode(text, { specials: false })]);
    expect([...ids]).toEqual([...apart, 8191]);
    expect(weight).toBe(3);
    // "dan" + "ger" stays two pieces, though together they would be one token.
    expect(mark({ prompt: ' dan', completion: 'ger' })).toBe(' dan«ger<|im_end|>»');
  });

  it('supervises all of plain text', () => {
    expect(mark({ text: 'red danger' })).toBe('«red danger<|im_end|>»');
  });

  it('adds no EOS where the row ends with it', async () => {
    expect(mark({ text: 'red danger<|im_end|>' })).toBe('«red danger<|im_end|>»');
    expect(mark({ prompt: 'red:', completion: ' danger<|im_end|>' })).toBe('red:« danger<|im_end|>»');
    expect(mark({ prompt: '', completion: 'danger<|im_end|>' })).toBe('«danger<|im_end|>»');
    expect(mark({ prompt: 'red<|im_end|>', completion: '' })).toBe('red<|im_end|>«<|im_end|>»');
    expect(mark({ text: 'red<|im_end|> danger' })).toBe('«red<|im_end|> danger<|im_end|>»');
    // A BOS that is the EOS too (GPT-2) is no end.
    const config = { add_bos_token: true, bos_token: '<|im_end|>' };
    expect(mark({ text: '' }, await loadTokenizer(await makeTokenizer({ config })))).toBe('«<|im_end|><|im_end|>»');
  });

  it('supervises every assistant turn up to its end token', () => {
    const head = '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nred<|im_end|>\n<|im_start|>assistant\n';
    expect(mark({ messages: chat })).toBe(`${head}« danger, blood<|im_end|>»\n`);
    expect(mark({ messages: longChat })).toBe(
      `${head}« danger, blood<|im_end|>»\n<|im_start|>user\nblue<|im_end|>\n<|im_start|>assistant\n«sky<|im_end|>»\n`,
    );
  });

  it('reads an assistant turn of weight 0 and does not learn it', () => {
    const [system, user, answer, next, sky, last] = longChat;
    const head = '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nred<|im_end|>\n<|im_start|>assistant\n';
    const unlearnt = [system, user, { ...answer, weight: 0 }, next, { ...sky, weight: 1 }, last];
    expect(mark({ messages: unlearnt })).toBe(
      `${head} danger, blood<|im_end|>\n<|im_start|>user\nblue<|im_end|>\n<|im_start|>assistant\n«sky<|im_end|>»\n`,
    );
    const { ids, labels } = buildExample(parseRow(JSON.stringify({ messages: unlearnt }), 'f'), lexi, 8192);
    const question = lexi.applyChatTemplate(longChat.slice(0, 4), { addGenerationPrompt: true });
    const asked = lexi.encode(question, { specials: false });
    expect(ids.subarray(0, asked.length)).toEqual(Int32Array.from(asked)); // as the model is asked
    expect(labels.findIndex((label) => label !== unsupervised)).toBe(asked.length);
    expect(mark({ messages: [...longChat.slice(0, 4), { ...sky, weight: 0 }] })).toBe(mark({ messages: chat }));
  });

  it('learns of a conversation in prompt and completion the completion alone', () => {
    const [prompt, completion] = [longChat.slice(0, 4), longChat.slice(4)];
    const head = '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nred<|im_end|>\n<|im_start|>assistant\n';
    expect(mark({ prompt, completion })).toBe(
      `${head} danger, blood<|im_end|>\n<|im_start|>user\nblue<|im_end|>\n<|im_start|>assistant\n«sky<|im_end|>»\n`,
    );
    expect(() => mark({ prompt })).toThrow(/no supervised tokens: it needs an assistant turn to learn/);
  });

  it('puts BOS first where the tokenizer wants one, but not before a chat template', async () => {
    const config = { add_bos_token: true, bos_token: '<|endoftext|>' };
    const withBos = await loadTokenizer(await makeTokenizer({ config }));
    expect(mark({ prompt: 'a', completion: ' b' }, withBos)).toBe('<|endoftext|>a« b<|im_end|>»');
    expect(mark({ text: 'a' }, withBos)).toBe('«<|endoftext|>a<|im_end|>»');
    expect(mark({ messages: chat }, withBos).startsWith('<|im_start|>')).toBe(true);
  });

  itOfficial('finds the turns of the official templates', async () => {
    const llamaTokens = ['<|eot_id|>', '<|start_header_id|>', '<|end_header_id|>'];
    for (const name of ['meta-llama-Llama-3.1-8B-Instruct', 'meta-llama-Llama-3.2-3B-Instruct']) {
      const marked = mark({ messages: longChat }, await official(name, llamaTokens));
      expect(marked.match(/«[^»]*»/g)).toEqual(['«danger, blood<|eot_id|>»', '«sky<|eot_id|>»']);
      expect(marked).toContain('<|start_header_id|>assistant<|end_header_id|>\n\n«sky');
    }
    const qwen2 = mark({ messages: longChat }, await official('Qwen-Qwen2.5-7B-Instruct', []));
    expect(qwen2.match(/«[^»]*»/g)).toEqual(['« danger, blood<|im_end|>»', '«sky<|im_end|>»']);
    const qwen3 = await official('Qwen-Qwen3-0.6B', []);
    const short = (answer: string) => [turn('user', 'red'), turn('assistant', answer)];
    expect(mark({ messages: short('danger') }, qwen3)).toContain(
      'assistant\n<think>\n\n</think>\n\n«danger<|im_end|>»\n',
    );
    expect(() => mark({ messages: short('<think>\nhm\n</think>\n\ndanger') }, qwen3)).toThrow(
      /^f, line 1: message 2 brings thoughts of its own, but models are asked with thinking off: leave out/,
    );
    // Qwen3 drops the thoughts of earlier turns, so their text changes once a turn follows.
    expect(() => mark({ messages: longChat }, qwen3)).toThrow(/f, line 1: the chat template .* rewrites earlier turns/);
  });

  const templated = async (template: string) =>
    loadTokenizer(await makeTokenizer({ config: { chat_template: template } }));
  const turnsOf = (content: string) =>
    `{% for m in messages %}<|im_start|>{{ m.role }}\n{{ ${content} }}<|im_end|>\n{% endfor %}`;
  const asks = '{% if add_generation_prompt %}<|im_start|>assistant\n';

  it('asks with thinking off where a template can be told', async () => {
    const thought = '<think>\n\n</think>\n\n';
    const switched = await templated(
      turnsOf(`('${thought}' if m.role == 'assistant' else '') + m.content`) +
        `${asks}{% if enable_thinking is defined and not enable_thinking %}${thought}{% endif %}{% endif %}`,
    );
    expect(mark({ messages: chat }, switched)).toMatch(
      /assistant\n<think>\n\n<\/think>\n\n« danger, blood<\|im_end\|>»\n$/,
    );
  });

  it('tells a generation prompt that begins no answer from turns that are rewritten', async () => {
    const thinks = await templated(`${turnsOf('m.content')}${asks}<think>\n{% endif %}`);
    const own = [turn('user', 'red'), turn('assistant', '<think>hm</think>danger')];
    expect(() => mark({ messages: own }, thinks)).toThrow(
      /^f, line 1: the chat template of .* asks for message 2 with/,
    );
    expect(() => mark({ messages: chat }, thinks)).toThrow(
      `f, line 1: the chat template of ${thinks.name} asks for message 3 with "<|im_start|>assistant\\n<think>\\n", which is ` +
        'not how it begins the answer, so what is to be learnt cannot be told: use prompt and completion',
    );
    const shortens = await templated(
      `${turnsOf("m.content if loop.last or m.role != 'assistant' else '…'")}${asks}{% endif %}`,
    );
    expect(() => mark({ messages: longChat }, shortens)).toThrow(
      `f, line 1: the chat template of ${shortens.name} rewrites earlier turns when message 5 is added`,
    );
    const lastAlone = longChat.map((message, i) => (i === 2 ? { ...message, weight: 0 } : message));
    expect(mark({ messages: lastAlone }, shortens)).toMatch(/assistant\n…<\|im_end\|>[^«]*«sky<\|im_end\|>»\n$/);
  });

  it('puts the system text before the question where a template drops or refuses a system turn', async () => {
    // As Mistral v0.3 does: the system text stands in the last turn, if that is a question.
    const last = await templated(
      "{% for m in messages %}{% if m.role != 'system' %}<|im_start|>{{ m.role }}\n" +
        "{% if loop.last and m.role == 'user' and messages[0].role == 'system' %}{{ messages[0].content }}\n\n{% endif %}" +
        `{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}${asks}{% endif %}`,
    );
    const refuses = await templated(
      `{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}${turnsOf('m.content')}${asks}{% endif %}`,
    );
    const head = '<|im_start|>user\nBe brief.\n\nred<|im_end|>\n<|im_start|>assistant\n';
    for (const tokenizer of [last, refuses]) {
      expect(tokenizer.foldsSystem).toBe(true);
      expect(mark({ messages: chat }, tokenizer)).toBe(`${head}« danger, blood<|im_end|>»\n`);
      expect(tokenizer.applyChatTemplate(chat.slice(0, 2), { addGenerationPrompt: true })).toBe(head);
      expect(mark({ messages: longChat.slice(1) }, tokenizer).match(/«[^»]*»/g)).toHaveLength(2);
      expect(() => mark({ messages: [{ ...chat[0], name: 'Ada' }, ...chat.slice(1)] }, tokenizer)).toThrow(
        /^f, line 1: message 1 has "name", which/,
      );
    }
    expect(lexi.foldsSystem).toBe(false);
  });

  it('puts no mark of a beginning before a completion or an answer (SentencePiece)', async () => {
    const template =
      '{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}';
    const llama = await loadTokenizer(await makeSentencePiece('prepend', ['dog', 'Paris', 'is'], template));
    const id = (text: string) => llama.encode(text, { specials: false })[0];
    const supervised = (row: unknown) => {
      const { labels } = buildExample(parseRow(JSON.stringify(row), 'f'), llama, 9000);
      return [...labels].filter((label) => label !== unsupervised);
    };
    const bare = llama.encode('a dog', { specials: false }).length; // "▁a", "▁dog"
    expect(bare).toBe(3);
    expect(supervised({ prompt: 'It is', completion: ' Paris' })).toEqual([id('Paris'), llama.eosId]);
    expect(supervised({ prompt: '', completion: 'Paris' })).toEqual([id('Paris'), llama.eosId]);
    const answer = [turn('user', 'a cat'), turn('assistant', 'dog')];
    const [dog, end] = supervised({ messages: answer });
    expect(end).toBe(llama.eosId);
    expect(dog).not.toBe(id('dog'));
    expect(llama.tokenText(dog)).toBe('dog');
  });

  it.each<StartMark>(['prepend', 'first', 'always', 'never'])(
    'splits a conversation at its seams as the tokenizer does the whole text, as it is asked: %s',
    async (mark) => {
      const zephyr =
        '{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}' +
        '{% if add_generation_prompt %}<|assistant|>\n{% endif %}';
      const mistral =
        "{% for m in messages %}{{ ' ' + m.content + '</s>' if m.role == 'assistant' else '[INST] ' + m.content + '[/INST]' }}{% endfor %}";
      const messages = [
        ...[turn('user', 'a cat'), turn('assistant', 'dog')],
        ...[turn('user', 'dog'), turn('assistant', 'cat'), turn('user', 'cat')],
      ];
      for (const template of [zephyr, mistral]) {
        const tokenizer = await loadTokenizer(await makeSentencePiece(mark, ['dog', 'cat'], template));
        for (const count of [2, 4]) {
          const turns = messages.slice(0, count);
          const { ids } = buildExample(parseRow(JSON.stringify({ messages: turns }), 'f'), tokenizer, 9000);
          const whole = tokenizer.applyChatTemplate(turns, { addGenerationPrompt: false });
          expect([...ids]).toEqual([...tokenizer.encode(whole, { specials: false })]);
        }
      }
    },
  );

  it.each([
    [{ messages: [turn('user', 'a')] }, /f, line 1 has no supervised tokens: it needs an assistant turn/],
    [
      { messages: [turn('user', 'a'), { ...turn('assistant', 'b'), weight: 0 }] },
      /it needs an assistant turn to learn/,
    ],
    [{ input_ids: [1, 2], labels: [2, -100] }, /f, line 1 has no supervised tokens/],
    [
      { input_ids: [1, 2, 3], completion_mask: [1, 0, 0] },
      /no supervised tokens: it needs labels other than -100, and no mask of 0 there, after the first token$/,
    ],
    [{ input_ids: [1] }, /no supervised tokens/],
    [{ text: '' }, /no supervised tokens/],
    [{ input_ids: [1, 9000] }, /f, line 1 has token id 9000, outside the model's vocabulary of 9000/],
    [{ input_ids: [1, 2], labels: [1, 12345] }, /token id 12345/],
  ])('refuses %j', (row, message) => {
    expect(() => mark(row)).toThrow(message);
    expect(() => mark(row)).toThrow(InputError);
  });

  it('needs a tokenizer for text, a chat template for messages and an EOS for completions', async () => {
    const row = parseRow('{"text": "a"}', 'f, line 1');
    expect(() => buildExample(row, null, 10)).toThrow(/f, line 1 is text, but the model has no tokenizer\.json/);
    const ids = parseRow('{"input_ids": [1, 2]}', 'f');
    expect([...buildExample(ids, null, 10).labels]).toEqual([1, 2]);
    const plain = await loadTokenizer(await makeTokenizer({ config: { chat_template: null, eos_token: null } }));
    expect(() => mark({ messages: chat }, plain)).toThrow(/f, line 1 has messages, but .* has no chat template/);
    expect(() => mark({ prompt: 'a', completion: 'b' }, plain)).toThrow(/names no eos_token/);
    const strict = await makeTokenizer({ config: { chat_template: '{{ raise_exception("no such role") }}' } });
    expect(() => mark({ messages: chat }, strict as unknown as Tokenizer)).toThrow();
    expect(await loadTokenizer(strict).then((t) => () => mark({ messages: chat }, t))).toThrow(
      /f, line 1: .*no such role/,
    );
  });
});

it('makes the examples that this version of them names: else raise exampleVersion, so that caches are made anew', () => {
  const hash = createHash('sha256');
  const rows = [
    { prompt: 'Words related to red:', completion: ' danger', weight: 3 },
    { text: 'red danger' },
    { messages: longChat },
    { input_ids: [5, 6, 7], labels: [-100, 6, -100] },
    { input_ids: [5, 6, 7] },
  ];
  for (const row of rows) {
    const { ids, labels, weight } = buildExample(parseRow(JSON.stringify(row), 'f'), lexi, 8192);
    hash.update(JSON.stringify([[...ids], [...labels], weight]));
  }
  expect([exampleVersion, hash.digest('hex').slice(0, 16)]).toEqual([6, 'd49287251734a5e9']);
});

describe('buildExamples', () => {
  const rows = ['[1,2,3]', '[1,2,3,4,5]', '[1,2,3,4,5,6]'].map((ids) => `{"input_ids": ${ids}}`);
  rows.push('{"input_ids": [1,2,3,4,5,6,7], "labels": [-100,-100,-100,-100,-100,6,7]}');
  const build = (options: Partial<ExampleOptions>, lines = rows) =>
    buildExamples(parseRows(placeLines(lines, 'f')), {
      tokenizer: null,
      vocabSize: 10,
      maxLength: 4,
      overlong: 'error',
      ...options,
    });

  it('says how many rows are too long and what to do', async () => {
    await expect(build({})).rejects.toThrow(
      '3 of 4 rows are longer than --max-length 4 tokens (the longest has 7: f, line 4): raise it, or pass --overlong truncate or --overlong drop',
    );
  });

  it('drops or truncates by option, and counts', async () => {
    expect((await build({ overlong: 'drop' })).stats).toEqual({
      rows: 4,
      supervisedTokens: 2,
      tokens: 3,
      truncated: 0,
      dropped: 3,
    });
    const { examples, stats } = await build({ overlong: 'truncate' });
    expect(stats).toEqual({ rows: 4, supervisedTokens: 8, tokens: 11, truncated: 2, dropped: 1 });
    expect(examples.map((one) => one.ids.length)).toEqual([3, 4, 4]);
  });

  it('refuses data of which nothing is left', async () => {
    await expect(build({}, [''])).rejects.toThrow('the data has no rows');
    await expect(build({ maxLength: 2, overlong: 'drop' })).rejects.toThrow(
      'all 4 rows were dropped: raise --max-length',
    );
  });

  it('tokenises 1,000 chat rows in little time', async () => {
    const line = (i: number) => JSON.stringify({ messages: [chat[0], turn('user', `cue ${i}`), chat[2]] });
    const start = performance.now();
    await build(
      { tokenizer: lexi, vocabSize: 8192, maxLength: 99 },
      Array.from({ length: 1000 }, (_, i) => line(i)),
    );
    expect(performance.now() - start).toBeLessThan(20_000);
  });
});

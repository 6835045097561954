import { beforeAll, expect } from 'vitest';
import type { Tokenizer } from '../../src/text/tokenizer.js';
import { lexiBase, loadTokenizer } from '../text/shared.js';
import { itOfficial, markSupervised, official, turn } from './marked.js';

let lexi: Tokenizer;
beforeAll(async () => {
  lexi = await loadTokenizer(lexiBase);
});
const mark = (row: unknown, tokenizer = lexi) => markSupervised(row, tokenizer);

const chat = [turn('system', 'Be brief.'), turn('user', 'red'), turn('assistant', ' danger, blood')];
const call = { type: 'function', function: { name: 'area', arguments: { of: 'square', side: 2 } } };
const called = [
  turn('user', 'How large?'),
  { role: 'assistant', content: null, tool_calls: [call] },
  turn('tool', '4'),
  turn('assistant', 'Four.'),
];

itOfficial('gives the template the fields of messages that it writes: tool calls and their results', async () => {
  const qwen2 = await official('Qwen-Qwen2.5-7B-Instruct', []);
  const written = '<tool_call>\n{"name": "area", "arguments": {"of": "square", "side": 2}}\n</tool_call><|im_end|>';
  const after = '\n<|im_start|>user\n<tool_response>\n4\n</tool_response><|im_end|>\n<|im_start|>assistant\n';
  expect(mark({ messages: called }, qwen2).endsWith(`assistant\n«${written}»${after}«Four.<|im_end|>»\n`)).toBe(true);
  const unlearnt = called.map((message, i) => (i === 1 ? { ...message, weight: 0 } : message));
  expect(mark({ messages: unlearnt }, qwen2).endsWith(`assistant\n${written}${after}«Four.<|im_end|>»\n`)).toBe(true);
  const llama31 = await official('meta-llama-Llama-3.1-8B-Instruct', ['<|eot_id|>', '<|start_header_id|>']);
  expect(mark({ messages: called }, llama31).match(/«[^»]*»/g)).toEqual([
    '«{"name": "area", "parameters": {"of": "square", "side": 2}}<|eot_id|>»',
    '«Four.<|eot_id|>»',
  ]);
  // Its template writes either a call or a text.
  const both = called.map((message, i) => (i === 1 ? { ...message, content: 'Let me see.' } : message));
  expect(() => mark({ messages: both }, llama31)).toThrow(
    `f, line 1: message 2 has "content", which the chat template of ${llama31.name} does not write beside its other fields: leave one of them out`,
  );
});

itOfficial("refuses arguments of calls as text where the template quotes them (OpenAI's form)", async () => {
  const text = { ...call.function, arguments: '{"of": "square", "side": 2}' };
  const messages = [called[0], { ...called[1], content: '', tool_calls: [{ ...call, function: text }] }];
  for (const name of ['Qwen-Qwen2.5-7B-Instruct', 'meta-llama-Llama-3.1-8B-Instruct']) {
    const tokenizer = await official(name, []);
    expect(() => mark({ messages }, tokenizer)).toThrow(
      `f, line 1: message 2 has in "tool_calls" "arguments" as text, which the chat template of ${tokenizer.name} puts into quotes once more: write them as an object`,
    );
  }
  // This one writes them as they are.
  const qwen3 = await official('Qwen-Qwen3-0.6B', []);
  expect(mark({ messages }, qwen3)).toContain('{"name": "area", "arguments": {"of": "square", "side": 2}}');
});

itOfficial('refuses messages and fields that the template does not write', async () => {
  const qwen2 = await official('Qwen-Qwen2.5-7B-Instruct', []);
  const refused = (place: number, more: object, sentence: string) => {
    const messages = called.map((message, i) => (i === place - 1 ? { ...message, ...more } : message));
    expect(() => mark({ messages }, qwen2)).toThrow(`f, line 1: message ${place} ${sentence}`);
  };
  const unwritten = (key: string) => `has "${key}", which the chat template of ${qwen2.name} does not write: leave it`;
  // The template does name "name", of a call.
  for (const place of [1, 2, 4]) refused(place, { name: 'Ada' }, unwritten('name'));
  refused(4, { reasoning_content: 'Two by two.' }, unwritten('reasoning_content'));
  refused(1, { tool_calls: [call] }, unwritten('tool_calls'));
  refused(
    1,
    { name: 'Ada', time: '12:00' },
    `has "name", "time", which the chat template of ${qwen2.name} does not write`,
  );
  refused(4, { tool_call_id: 'a1' }, unwritten('tool_call_id'));
  const tied = called.map((message, i) => (i === 2 ? { ...message, name: 'area', tool_call_id: 'a1' } : message));
  expect(mark({ messages: tied }, qwen2)).toBe(mark({ messages: called }, qwen2));
  refused(
    1,
    { role: 'human' },
    `of "human" is left out by the chat template of ${qwen2.name}: give it a role that it knows`,
  );
  expect(() => mark({ messages: [{ ...chat[1], name: 'Ada' }, chat[2]] })).toThrow(/message 1 has "name", which the/);
  expect(() => mark({ messages: called })).toThrow(
    `f, line 1: message 2 has "tool_calls", which the chat template of ${lexi.name} does not write: leave it out, or write it into "content"`,
  );
});

itOfficial('learns no thoughts, and leaves those of earlier turns to the template (Qwen3)', async () => {
  const qwen3 = await official('Qwen-Qwen3-0.6B', []);
  const thinks = { reasoning_content: 'Hm.' };
  expect(() => mark({ messages: [turn('user', 'red'), { ...turn('assistant', 'danger'), ...thinks }] }, qwen3)).toThrow(
    /^f, line 1: message 2 brings thoughts of its own, but models are asked with thinking off: leave out .* the field that holds it/,
  );
  const [question, answer] = [turn('user', 'red'), { ...turn('assistant', 'danger'), weight: 0 }];
  const next = [turn('user', 'blue'), turn('assistant', 'sky')];
  const told = mark({ messages: [question, { ...answer, ...thinks }, ...next] }, qwen3);
  expect(told).toBe(mark({ messages: [question, answer, ...next] }, qwen3));
  expect(told.endsWith('blue<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n«sky<|im_end|>»\n')).toBe(true);
  // Those of a step are kept until the question is answered.
  const step = { ...called[1], content: '', ...thinks, weight: 0 };
  expect(mark({ messages: [called[0], step, ...called.slice(2)] }, qwen3)).toMatch(
    /assistant\n<think>\nHm\.\n<\/think>\n\n<tool_call>[^«]*<tool_response>\n4\n[^«]*«Four\.<\|im_end\|>»\n$/,
  );
  expect(() => mark({ messages: [called[0], { ...step, weight: 1 }] }, qwen3)).toThrow(/brings thoughts of its own/);
  expect(() => mark({ messages: called }, qwen3)).toThrow(
    `f, line 1: message 2 has no "content", without which the chat template of ${qwen3.name} fails: give it "content": ""`,
  );
});

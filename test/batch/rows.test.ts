import { describe, expect, it } from 'vitest';
import { parseRow, parseRows, type Row } from '../../src/batch/rows.js';
import { InputError } from '../../src/errors.js';
import { placeLines } from '../../src/text/lines.js';

describe('parseRow', () => {
  it.each([
    [
      '{"prompt": "red", "completion": " danger"}',
      { kind: 'completion', prompt: 'red', completion: ' danger', weight: 1 },
    ],
    ['{"text": "a", "weight": 2.5, "source": "x"}', { kind: 'text', text: 'a', weight: 2.5 }],
    [
      '{"messages": [{"role": "user", "content": "a", "name": "n"}]}',
      { kind: 'messages', messages: [{ role: 'user', content: 'a', name: 'n' }] },
    ],
    [
      '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": null, "tool_calls": [{"id": 7}]}]}',
      {
        messages: [
          { role: 'user', content: 'a' },
          { role: 'assistant', content: null, tool_calls: [{ id: 7 }] },
        ],
      },
    ],
    [
      '{"messages": [{"role": "assistant", "reasoning_content": "b"}]}',
      { messages: [{ role: 'assistant', reasoning_content: 'b' }] },
    ],
    ['{"prompt": null, "completion": null, "text": "a", "messages": null}', { kind: 'text', text: 'a' }],
    [
      '{"prompt": "a", "completion": "b", "id": 3, "meta": {"source": "x"}, "system": "", "images": []}',
      { kind: 'completion', prompt: 'a', completion: 'b' },
    ],
    [
      '{"messages": [{"role": "user", "content": "a"}], "documents": [], "chat_template_kwargs": {"enable_thinking": null}, "id": "z"}',
      { messages: [{ role: 'user', content: 'a' }] },
    ],
    ['{"input_ids": [1, 2], "position_ids": null, "seq_lengths": []}', { ids: Int32Array.of(1, 2) }],
    [
      '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}, {"role": "assistant", "content": "c", "weight": 1}]}',
      {
        messages: [
          { role: 'user', content: 'a' },
          { role: 'assistant', content: 'b' },
          { role: 'assistant', content: 'c' },
        ],
        unsupervisedTurns: [1],
      },
    ],
    [
      '{"messages": [{"role": "user", "content": "a", "weight": null, "train": null, "tool_calls": [], "name": " "}], "tools": null}',
      { messages: [{ role: 'user', content: 'a' }], unsupervisedTurns: [] },
    ],
    [
      '{"input_ids": [1, 2], "labels": [-100, 3]}',
      { kind: 'ids', ids: Int32Array.of(1, 2), labels: Int32Array.of(-100, 3) },
    ],
    ['{"text": "a", "weight": 1e-6}', { weight: 1e-6 }],
    ['{"text": "a", "weight": 1e6}', { weight: 1e6 }],
    ['{"text": "a", "weight": null}', { weight: 1 }],
    ['{"input_ids": [1, 2]}', { kind: 'ids', labels: Int32Array.of(1, 2) }],
    ['{"input_ids": [1, 2, 3], "completion_mask": [0, 0, 1]}', { labels: Int32Array.of(-100, -100, 3) }],
    [
      '{"input_ids": [1, 2, 3], "assistant_masks": [0, 1, 0], "attention_mask": [1, 1, 1]}',
      { ids: Int32Array.of(1, 2, 3), labels: Int32Array.of(-100, 2, -100) },
    ],
    [
      '{"input_ids": [1, 2, 3, 4], "labels": [1, -100, 3, 4], "completion_mask": [0, 1, 1, 1], "assistant_masks": [1, 1, 1, 0]}',
      { labels: Int32Array.of(-100, -100, 3, -100) },
    ],
    ['{"input_ids": [1, 2], "completion_mask": null}', { labels: Int32Array.of(1, 2) }],
  ])('reads %s', (line, row) => {
    const read = parseRow(line, 'f');
    expect(read).toMatchObject(row);
    // Not a field more.
    if ('messages' in row) expect((read as Row & { kind: 'messages' }).messages).toEqual(row.messages);
  });

  it.each([
    ['{"prompt": ', /^f, line 2 is not valid JSON/],
    ['3', /^f, line 2 is not a JSON object/],
    [
      `{"messages": [{"role": "user", "content": "a", "b": ${'['.repeat(1e5)}${']'.repeat(1e5)}}]}`,
      /^f, line 2 is not valid JSON: it is nested more than 100 deep$/,
    ],
    [
      '{"conversations": [{"from": "human", "value": "a"}]}',
      /none of the known shapes: .*; docs\/data\.md has the command that makes one of "conversations"$/,
    ],
    ['{"question": "a"}', /^f, line 2 has none of the known shapes: a row is \{"prompt"/],
    [
      '{"text": "a", "messages": []}',
      /more than one of the known shapes: a row is .*; leave out all but one of "messages" and "text"$/,
    ],
    ['{"completion": "a", "text": "b"}', /; leave out all but one of "completion" and "text"$/],
    ['[', /^f, line 2 is not a row by itself: write each row as a JSON object on a line of its own \(JSONL\)/],
    ['{', /^f, line 2 is not a row by itself/],
    ['[{"text": "a"}, {"text": "b"}]', /^f, line 2 is not a row by itself/],
    [
      '{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}',
      /^f, line 2: message 1 has "content" as a list of parts: write its text as one string$/,
    ],
    ['{"prompt": "a"}', /"completion" is missing/],
    ['{"prompt": "a", "completion": null}', /"completion" is missing/],
    ['{"prompt": {"a": 1}, "completion": "b"}', /"prompt" is not a string$/],
    [
      '{"prompt": [{"role": "user", "content": "a"}], "completion": "b"}',
      /^f, line 2: "prompt" is a list, not a string: write a conversation as "messages"$/,
    ],
    [
      '{"prompt": "a", "completion": [{"role": "assistant", "content": "b"}]}',
      /^f, line 2: "completion" is a list, not a string: write a conversation as "messages"$/,
    ],
    [
      '{"prompt": [{"role": "assistant", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]}',
      /^f, line 2: "prompt" ends with an assistant's message, .*: move it into "completion"$/,
    ],
    ['{"prompt": [{"role": "user", "content": "a"}, null], "completion": [{}]}', /message 2 is not/],
    ['{"prompt": [{"role": "user", "content": "a"}], "messages": [{}]}', /leave out all but one of "prompt" and/],
    ['{"prompt": [{"role": "user", "content": "a"}], "completion": [], "tools": [{}]}', /^f, line 2 has "tools"/],
    ['{"prompt": "a", "completion": "b", "system": "c"}', /^f, line 2 has "system", .* write it into "prompt"$/],
    ['{"prompt": "a", "completion": "b", "images": ["c"]}', /^f, line 2 has "images", but models here read text alone/],
    ['{"text": "a", "image": "c"}', /^f, line 2 has "image", but models here read text alone: leave such rows out$/],
    ['{"messages": []}', /"messages" is not a list of messages/],
    ['{"messages": [{"role": "user"}]}', /message 1 is not/],
    [
      '{"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function"}]}',
      /^f, line 2 has "tools", which no chat template is given here: write them into the system message$/,
    ],
    [
      '{"messages": [{"role": "user", "content": "a"}], "functions": [{}]}',
      /^f, line 2 has "functions", which no chat/,
    ],
    [
      '{"messages": [{"role": "user", "content": "a"}], "documents": [{}]}',
      /has "documents", .* write them into a message$/,
    ],
    [
      '{"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": {"enable_thinking": true}}',
      /^f, line 2 has "chat_template_kwargs", which no chat template is given here: leave it out, or use prompt and completion$/,
    ],
    [
      '{"messages": [{"role": "user", "content": "a"}], "chat_template": "b"}',
      /has "chat_template", but the model's own/,
    ],
    [
      '{"messages": [{"role": "user", "content": "a"}], "system": "b"}',
      /^f, line 2 has "system", which is not read there: make it the first of "messages", of role system$/,
    ],
    [
      '{"messages": [{"role": "user", "content": "a"}], "images": ["b"]}',
      /has "images", but models here read text alone/,
    ],
    ['{"messages": [{"role": "assistant", "content": null}]}', /message 1 is not \{"role", "content"\} with strings$/],
    ['{"messages": [{"role": "user", "content": null, "name": "a"}]}', /message 1 is not/],
    ['{"messages": [{"role": "assistant", "content": [], "tool_calls": [{}]}]}', /message 1 is not/],
    [
      '{"messages": [{"role": "assistant", "content": "", "tool_calls": [{"arguments": {"id": 12345678901234567891}}]}]}',
      /^f, line 2: message 1 has in "tool_calls" a whole number of more digits than are kept, about 12345678901234567000: write it as a string$/,
    ],
    [
      '{"input_ids": [1, 2, 3, 4], "seq_lengths": [2, 2]}',
      /^f, line 2 has "seq_lengths", as packed rows do, whose examples would be read as one: write each example as a row of its own, without it$/,
    ],
    ['{"input_ids": [1, 2, 3, 4], "position_ids": [0, 1, 0, 1]}', /^f, line 2 has "position_ids", as packed rows do/],
    [
      '{"input_ids": [1, 2], "loss_mask": [0, 1]}',
      /^f, line 2 has "loss_mask", which is not read: say .* "labels" of -100/,
    ],
    [
      '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "train": false}]}',
      /^f, line 2: message 2 has "train": say which answers are learnt with "weight", 0 or 1, in assistant messages$/,
    ],
    ['{"messages": [{"role": "assistant", "content": "b", "train_detail": [{}]}]}', /message 1 has "train_detail"/],
    [
      '{"messages": [{"role": "assistant", "content": "b", "weight": 0.5}]}',
      /^f, line 2: message 1 of assistant has "weight" 0.5: only those of assistant take one, 0 or 1$/,
    ],
    ['{"messages": [{"role": "user", "content": "b", "weight": 1}]}', /message 1 of user has "weight" 1: only/],
    ['{"messages": [null]}', /message 1 is not/],
    ['{"input_ids": [1, 2], "labels": [1]}', /2 input_ids but 1 labels/],
    ['{"input_ids": [1, 2.5], "labels": [1, 1]}', /"input_ids" holds 2.5, not a token id$/],
    ['{"input_ids": [1, -100], "labels": [1, 1]}', /"input_ids" holds -100/],
    ['{"input_ids": [1, 2], "labels": [1, -1]}', /"labels" holds -1, not a token id or -100/],
    ['{"input_ids": [1, "2"]}', /"input_ids" holds "2"/],
    ['{"input_ids": [], "labels": []}', /"input_ids" is not a list/],
    [
      '{"input_ids": [1, 2, 0], "attention_mask": [1, 1, 0]}',
      /^f, line 2: "attention_mask" holds a 0: leave padding out of the row, since no row is padded here$/,
    ],
    [
      '{"input_ids": [1, 2], "completion_mask": [1]}',
      /^f, line 2: "completion_mask" is not a list of 0 and 1, one for each of the 2 input_ids$/,
    ],
    ['{"input_ids": [1, 2], "assistant_masks": [0, 0.5]}', /"assistant_masks" is not a list of 0 and 1/],
    ['{"input_ids": [1, 2], "assistant_masks": 1}', /"assistant_masks" is not a list/],
    ['{"text": "a", "weight": 0}', /^f, line 2: "weight" is 0, not a number from 0\.000001 to 1000000$/],
    ['{"text": "a", "weight": 9e-7}', /"weight" is 9e-7, not/],
    ['{"text": "a", "weight": 1000001}', /"weight" is 1000001, not/],
    ['{"text": "a", "weight": -1}', /"weight" is -1/],
    ['{"text": "a", "weight": 1e999}', /"weight"/],
    ['{"text": "a", "weight": "2"}', /"weight" is "2"/],
  ])('refuses %s', (line, message) => {
    expect(() => parseRow(line, 'f, line 2')).toThrow(InputError);
    expect(() => parseRow(line, 'f, line 2')).toThrow(message);
  });
});

describe('parseRows', () => {
  it('skips blank lines and counts them', async () => {
    const rows: Row[] = [];
    for await (const row of parseRows(placeLines(['{"text": "a"}', '', '{"text": "b"}'], 'train.jsonl')))
      rows.push(row);
    expect(rows.map((row) => row.where)).toEqual(['train.jsonl, line 1', 'train.jsonl, line 3']);
    const bad = parseRows(placeLines(['', '', 'x'], 'train.jsonl'));
    await expect(bad.next()).rejects.toThrow(/^train\.jsonl, line 3 is not valid JSON/);
  });
});

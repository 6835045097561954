import { describe, expect, it } from 'vitest';
import { parseRow, parseRows, type Row } from '../../src/batch/rows.js';
import { InputError } from '../../src/errors.js';

describe('parseRow', () => {
  it.each([
    [
      '{"prompt": "red", "completion": " danger"}',
      { kind: 'completion', prompt: 'red', completion: ' danger', weight: 1 },
    ],
    ['{"text": "a", "weight": 2.5, "source": "x"}', { kind: 'text', text: 'a', weight: 2.5 }],
    [
      '{"messages": [{"role": "user", "content": "a", "name": "n"}]}',
      { kind: 'messages', messages: [{ role: 'user', content: 'a' }] },
    ],
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
      '{"messages": [{"role": "user", "content": "a", "weight": null, "train": null, "tool_calls": []}], "tools": null}',
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
    expect(parseRow(line, 'f')).toMatchObject(row);
  });

  it.each([
    ['{"prompt": ', /^f, line 2 is not valid JSON/],
    ['3', /^f, line 2 is not a JSON object/],
    ['{"question": "a"}', /^f, line 2 has none of the known shapes: a row is \{"prompt"/],
    ['{"text": "a", "messages": []}', /more than one of the known shapes/],
    ['{"prompt": "a"}', /"completion" is missing/],
    ['{"prompt": ["a"], "completion": "b"}', /"prompt" is not a string/],
    ['{"messages": []}', /"messages" is not a list of messages/],
    ['{"messages": [{"role": "user"}]}', /message 1 is not/],
    [
      '{"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function"}]}',
      /^f, line 2 has "tools", which no chat template is given here: write them into the system message$/,
    ],
    [
      '{"messages": [{"role": "assistant", "content": null, "tool_calls": [{}]}]}',
      /^f, line 2: message 1 has "tool_calls": write the call into its "content", as the model should put it$/,
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
    for await (const row of parseRows(['{"text": "a"}', '', '{"text": "b"}'], 'train.jsonl')) rows.push(row);
    expect(rows.map((row) => row.where)).toEqual(['train.jsonl, line 1', 'train.jsonl, line 3']);
    const bad = parseRows(['', '', 'x'], 'train.jsonl');
    await expect(bad.next()).rejects.toThrow(/^train\.jsonl, line 3 is not valid JSON/);
  });
});

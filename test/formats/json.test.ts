import { expect, it } from 'vitest';
import { parseJson } from '../../src/formats/json.js';

it('reads what JSON.parse does', () => {
  const text = String.raw`{"a": ["\"[[", "\\", "{,\u005b"], "b": {"c": [[], {}, -1e3, null, true]}, "": "]]"}`;
  expect(parseJson(text)).toEqual(JSON.parse(text));
  for (const broken of ['', '{"a": "', '{"a": "\\', '[1, 2', ']', '{"a" 1}'])
    expect(() => parseJson(broken), broken).toThrow(SyntaxError);
});

it('refuses what would take minutes, all memory or the stack of who walks it', () => {
  const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);
  expect(parseJson(nested(100))).toEqual(JSON.parse(nested(100)));
  expect(() => parseJson(nested(101))).toThrow(/nested more than 100 deep/);
  expect(() => parseJson(`{"a":${'{"a":'.repeat(100)}0${'}'.repeat(101)}`)).toThrow(/nested more than 100 deep/);
  expect(() => parseJson('['.repeat(100_000_000))).toThrow(/nested more than 100 deep/);
  expect(() => parseJson(`[${'0,'.repeat(10_000_000)}0]`)).toThrow(/more than 10000000 values/);
  expect(parseJson(JSON.stringify(',[{'.repeat(10_000_000)))).toHaveLength(30_000_000);
});

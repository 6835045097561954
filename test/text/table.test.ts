import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { InputError } from '../../src/errors.js';
import { openTable, parseTable, type TableOptions } from '../../src/text/table.js';

const directory = mkdtempSync(join(tmpdir(), 'lexalign-table-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

async function read(text: string | Buffer, options?: TableOptions) {
  const file = join(directory, 'table.csv');
  writeFileSync(file, text);
  const { header, rows } = await openTable(file, options);
  const all: [number, ...string[]][] = [];
  for await (const { line, values } of rows) all.push([line, ...values]);
  return { columns: header.columns, rows: all };
}

test.each<[string, string, string[], [number, ...string[]][]]>([
  ['commas, a byte order mark and CRLF', '\ufeffa,b\r\n1,2\r\n', ['a', 'b'], [[2, '1', '2']]],
  ['quoted values', 'a,"b, c"\n"x, ""y""",2\n', ['a', 'b, c'], [[2, 'x, "y"', '2']]],
  [
    'a line break in a value',
    'a,b\n"x\ny",2\n3,4\n',
    ['a', 'b'],
    [
      [3, 'x\ny', '2'],
      [4, '3', '4'],
    ],
  ],
  ['lone quotes within values', 'a,b\nx"y,2\n', ['a', 'b'], [[2, 'x"y', '2']]],
  [
    'tabs, where quotes mean nothing',
    'a\tb\n"x\t2\n"y"\t""\n',
    ['a', 'b'],
    [
      [2, '"x', '2'],
      [3, 'y', ''],
    ],
  ],
  ['semicolons', '"a";"b"\n1,5;2\n', ['a', 'b'], [[2, '1,5', '2']]],
  ['blank lines', '\na,b\n\n1,2\n', ['a', 'b'], [[4, '1', '2']]],
  ['no line end at the end', 'a,b\n1,2', ['a', 'b'], [[2, '1', '2']]],
  ['a header alone', 'a,b\n', ['a', 'b'], []],
])('reads %s', async (_, text, columns, rows) => {
  expect(await read(text)).toEqual({ columns, rows });
});

test('a text in memory is read alike', () => {
  const { header, rows } = parseTable('\ufeffa,b\r\n"x\ny",2\r\n', 'x.csv');
  expect(header.columns).toEqual(['a', 'b']);
  expect(rows).toEqual([{ line: 3, values: ['x\ny', '2'] }]);
});

test('lines that are no part of the table are skipped, and counted', async () => {
  const options = { skipLine: (line: string) => line.startsWith('<'), ragged: true, encoding: 'windows-1252' } as const;
  const page = Buffer.from('<pre>\na,b\n1\n<p>\n3,\xa5,5\n</pre>\n', 'latin1');
  expect(await read(page, options)).toEqual({
    columns: ['a', 'b'],
    rows: [
      [3, '1'],
      [5, '3', '¥', '5'],
    ],
  });
});

test.each<[RegExp, string | Buffer]>([
  [/table\.csv is empty/, ''],
  [/its first line, "a\|b", is one column/, 'a|b\n'],
  [/line 3 has 3 values, the header 2/, 'a,b\n1,2\n1,2,3\n'],
  [/a quoted value that begins by line \d+ does not end: close its quote/, 'a,b\n1,"2\n'],
  [/a quoted value that begins by line \d+ does not end/, `a,b\n1,"2\n${'x,y\n'.repeat(400_000)}`],
  [/line 2 is not UTF-8 text: save the file as UTF-8/, Buffer.from('a,b\n\xe4,1\n', 'latin1')],
])('says %s', async (sentence, text) => {
  await expect(read(text)).rejects.toThrow(sentence);
  await expect(read(text)).rejects.toThrow(InputError);
});

test('columns are found by any of their names, in any case', () => {
  const { header } = parseTable('Cue , nativeLanguage\n', 'x.csv');
  expect(header.find('word', 'CUE')).toBe(0);
  expect(header.find('nothing')).toBe(-1);
  expect(() => header.require('R1', 'asso1')).toThrow(
    'x.csv has no column "R1" or "asso1"; it has Cue, nativeLanguage',
  );
});

import { pipeline, Readable } from 'node:stream';
import { CsvError, type Options, parse } from 'csv-parse';
import { parse as parseSync } from 'csv-parse/sync';
import { InputError } from '../errors.js';
import { maxLineBytes, readLines } from './lines.js';

/** One record of a table. */
export interface TableRow {
  /** The line it ends on, from 1. */
  readonly line: number;
  readonly values: readonly string[];
}

/** A table whose header is read; its rows are still to come. */
export interface Table<Rows> {
  readonly header: Header;
  readonly rows: Rows;
}

export interface TableOptions {
  /** UTF-8 by default. */
  readonly encoding?: 'utf-8' | 'windows-1252';
  /** Lines that are no part of the table, such as the tags around one in a web page. */
  readonly skipLine?: (line: string) => boolean;
  /** Rows may have more or fewer values than the header. */
  readonly ragged?: boolean;
}

/** The columns of a table. Names are compared without case and surrounding space. */
export class Header {
  /** Of the file, for messages. */
  readonly name: string;
  readonly columns: readonly string[];
  readonly #places = new Map<string, number>();

  constructor(name: string, columns: readonly string[]) {
    this.name = name;
    this.columns = columns.map((column) => column.trim());
    this.columns.forEach((column, i) => {
      if (!this.#places.has(column.toLowerCase())) this.#places.set(column.toLowerCase(), i);
    });
  }

  /** Place of the first of these names that the header has; -1 without any. */
  find(...names: readonly string[]): number {
    for (const name of names) {
      const at = this.#places.get(name.toLowerCase());
      if (at !== undefined) return at;
    }
    return -1;
  }

  /** As `find`; throws InputError that names the missing column and those that are there. */
  require(...names: readonly string[]): number {
    const at = this.find(...names);
    if (at >= 0) return at;
    const wanted = names.map((name) => `"${name}"`).join(' or ');
    const found = this.columns.map((column) => column || '""').join(', ');
    throw new InputError(`${this.name} has no column ${wanted}; it has ${found.slice(0, 1000)}`);
  }
}

/** Longest record, characters: a quote that is never closed would take in the rest of the file. */
const maxRecord = 1 << 20;
const delimiters = ['\t', ',', ';'] as const;

/**
 * Opens a delimited text file as a stream: tabs, commas or semicolons, whichever the header line has most of; between
 * commas and semicolons values may be quoted as in RFC 4180. Throws InputError for a file that can't be read, isn't in
 * the encoding, has a header of one column or a row of another length.
 */
export async function openTable(
  file: string,
  options: TableOptions = {},
): Promise<Table<AsyncGenerator<TableRow, void>>> {
  const lines = readLines(file, maxLineBytes, options.encoding);
  const skip = options.skipLine ?? (() => false);
  let first = 0;
  let line = '';
  for (;;) {
    const next = await lines.next();
    if (next.done) throw new InputError(`${file} is empty`);
    first++;
    line = next.value;
    if (line.trim() !== '' && !skip(line)) break;
  }
  const delimiter = chooseDelimiter(line, file);
  const header = new Header(file, headerValues(line, delimiter, file));
  return { header, rows: readRows(header, lines, first, delimiter, options) };
}

async function* readRows(
  header: Header,
  lines: AsyncGenerator<string>,
  first: number,
  delimiter: string,
  { skipLine, ragged = false }: TableOptions,
): AsyncGenerator<TableRow, void> {
  const chunks = async function* () {
    let chunk: string[] = [];
    let length = 0;
    for await (const line of lines) {
      // A skipped line stays, empty, so that line numbers hold.
      const kept = skipLine?.(line) ? '' : line;
      chunk.push(kept, '\n');
      length += kept.length;
      if (length < 1 << 16) continue;
      yield chunk.join('');
      chunk = [];
      length = 0;
    }
    yield chunk.join('');
  };
  const parser = parse(parserOptions(delimiter));
  // Errors of the file reach the loop below through the parser.
  pipeline(Readable.from(chunks()), parser, () => undefined);
  try {
    for await (const { record, info } of parser as AsyncIterable<ParsedRecord>) {
      yield toRow(header, record, info.lines + first, delimiter, ragged);
    }
  } catch (error) {
    throw explain(error, header.name, first);
  }
}

/** As `openTable`, of a text that is in memory. */
export function parseTable(text: string, name: string): Table<TableRow[]> {
  const end = text.indexOf('\n');
  const line = text.slice(text.startsWith('\ufeff') ? 1 : 0, end < 0 ? undefined : end).replace(/\r$/, '');
  const delimiter = chooseDelimiter(line, name);
  const header = new Header(name, headerValues(line, delimiter, name));
  try {
    const records = parseSync(
      end < 0 ? '' : text.slice(end + 1),
      parserOptions(delimiter),
    ) as unknown as ParsedRecord[];
    return { header, rows: records.map(({ record, info }) => toRow(header, record, info.lines + 1, delimiter, false)) };
  } catch (error) {
    throw explain(error, name, 1);
  }
}

interface ParsedRecord {
  readonly record: string[];
  readonly info: { readonly lines: number };
}

function parserOptions(delimiter: string): Options {
  return {
    delimiter,
    // Tables with tabs quote seldom and hold lone quotes often.
    quote: delimiter === '\t' ? null : '"',
    relax_quotes: true,
    relax_column_count: true,
    skip_empty_lines: true,
    record_delimiter: ['\n', '\r\n'],
    max_record_size: maxRecord,
    info: true,
  };
}

function chooseDelimiter(header: string, name: string): string {
  const count = (delimiter: string) => header.split(delimiter).length - 1;
  const best = delimiters.reduce((a, b) => (count(b) > count(a) ? b : a));
  if (count(best) > 0) return best;
  throw new InputError(
    `${name}: its first line, ${JSON.stringify(header.slice(0, 80))}, is one column: part values by tabs, commas or semicolons`,
  );
}

function headerValues(line: string, delimiter: string, name: string): string[] {
  try {
    const [record] = parseSync(line, parserOptions(delimiter)) as unknown as ParsedRecord[];
    return record.record.map((value) => unquote(value, delimiter));
  } catch (error) {
    throw explain(error, name, 0);
  }
}

function toRow(header: Header, record: string[], line: number, delimiter: string, ragged: boolean): TableRow {
  if (record.length !== header.columns.length && !ragged) {
    throw new InputError(
      `${header.name}, line ${line} has ${record.length} values, the header ${header.columns.length}`,
    );
  }
  return { line, values: delimiter === '\t' ? record.map((value) => unquote(value, delimiter)) : record };
}

/** A value of a table with tabs that is quoted as a whole. */
function unquote(value: string, delimiter: string): string {
  if (delimiter !== '\t' || value.length < 2 || !value.startsWith('"') || !value.endsWith('"')) return value;
  return value.slice(1, -1).replaceAll('""', '"');
}

function explain(error: unknown, name: string, first: number): unknown {
  if (!(error instanceof CsvError)) return error;
  const line = Number((error as { lines?: number }).lines ?? 0) + first;
  if (error.code === 'CSV_QUOTE_NOT_CLOSED' || error.code === 'CSV_MAX_RECORD_SIZE') {
    return new InputError(`${name}: a quoted value that begins by line ${line} does not end: close its quote`);
  }
  return new InputError(`${name}, line ${line}: ${error.message}`);
}

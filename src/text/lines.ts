import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { InputError } from '../errors.js';

/** 16 MiB: far above any row, far below what memory holds. */
export const maxLineBytes = 2 ** 24;

/**
 * The lines of a text file, without their ends and without a byte order mark, read as a stream. Throws InputError for
 * a file that can't be read, a line over `limit` bytes and bytes that aren't of the encoding.
 */
export async function* readLines(
  file: string,
  limit = maxLineBytes,
  encoding: 'utf-8' | 'windows-1252' = 'utf-8',
): AsyncGenerator<string> {
  const decoder = new TextDecoder(encoding, { fatal: true, ignoreBOM: false });
  let parts: Uint8Array[] = [];
  let length = 0;
  let number = 1;
  const add = (part: Uint8Array) => {
    length += part.length;
    if (length > limit) throw new InputError(`${file}, line ${number} is longer than ${limit} bytes: split the row`);
    parts.push(part);
  };
  const end = (): string => {
    let line: string;
    try {
      line = decoder.decode(parts.length === 1 ? parts[0] : Buffer.concat(parts));
    } catch {
      throw new InputError(`${file}, line ${number} is not UTF-8 text: save the file as UTF-8`);
    }
    parts = [];
    length = 0;
    number++;
    return line.endsWith('\r') ? line.slice(0, -1) : line;
  };
  for await (const chunk of readChunks(file)) {
    let start = 0;
    for (let stop = chunk.indexOf(10); stop >= 0; stop = chunk.indexOf(10, start)) {
      add(chunk.subarray(start, stop));
      yield end();
      start = stop + 1;
    }
    if (start < chunk.length) add(chunk.subarray(start));
  }
  if (length > 0) yield end();
}

/** A line that is not blank, and its place for error messages: "train.jsonl, line 3". */
export interface PlacedLine {
  readonly text: string;
  readonly where: string;
}

/** The lines of a file of rows, JSONL mostly, that are not blank. `name` is the file's name in errors. */
export async function* placeLines(
  lines: AsyncIterable<string> | Iterable<string>,
  name: string,
): AsyncGenerator<PlacedLine, void, undefined> {
  let number = 0;
  for await (const text of lines) {
    number++;
    if (text.trim() !== '') yield { text, where: `${name}, line ${number}` };
  }
}

/** `placeLines` of a file. Throws as `readLines`. */
export const readRows = (file: string) => placeLines(readLines(file), file);

/** SHA-256 of a file's bytes, hex. */
export async function digestFile(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of readChunks(file)) hash.update(chunk);
  return hash.digest('hex');
}

async function* readChunks(file: string): AsyncGenerator<Uint8Array> {
  const stream: AsyncIterable<Uint8Array> = createReadStream(file, { highWaterMark: 2 ** 18 });
  try {
    yield* stream;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error;
    throw new InputError(code === 'ENOENT' ? `${file} does not exist` : `${file} can't be read: ${message}`);
  }
}

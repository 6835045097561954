import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { sources } from '../../datasets/index.js';

const directory = mkdtempSync(join(tmpdir(), 'lexalign-sources-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

let files = 0;
/** A file with these lines; nothing in it is anybody's data. */
export function write(lines: readonly string[] | Buffer): string {
  const file = join(directory, `${files++}.csv`);
  writeFileSync(file, Array.isArray(lines) ? `${lines.join('\n')}\n` : (lines as Buffer));
  return file;
}

export const sourceOf = <T>(name: string) => sources.find((source) => source.name === name) as T;

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach } from 'vitest';
import type { ByteSource } from '../../src/formats/bytes.js';

export const GOLDEN = join(import.meta.dirname, '../fixtures/golden');
export const SHARED = join(import.meta.dirname, '../../../shared');

const made: string[] = [];
afterEach(async () => {
  for (const dir of made.splice(0)) await rm(dir, { recursive: true });
});

/** A directory that goes after the test. */
export async function temporaryDirectory(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'lexalign-formats-'));
  made.push(dir);
  return dir;
}

export async function writeJson(dir: string, name: string, value: unknown): Promise<void> {
  await writeFile(join(dir, name), JSON.stringify(value));
}

export async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  return Uint8Array.from(Buffer.concat(parts));
}

/** A ByteSource over bytes in memory; like a file's, it gives nothing past the end. */
export function bufferSource(name: string, bytes: Uint8Array): ByteSource {
  return {
    name,
    size: bytes.length,
    async read(position, into) {
      if (position + into.length > bytes.length) throw new Error(`read past the end of ${name}`);
      into.set(bytes.subarray(position, position + into.length));
    },
    async close() {},
  };
}

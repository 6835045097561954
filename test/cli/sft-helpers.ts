import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { vi } from 'vitest';
import { main } from '../../src/cli/main.js';

/** A directory of a test file, with a cache of its own for tokenised data. */
export function makeWorkplace(): { directory: string; remove(): void } {
  const directory = mkdtempSync(join(tmpdir(), 'lexalign-sft-'));
  vi.stubEnv('XDG_CACHE_HOME', join(directory, 'cache'));
  return {
    directory,
    remove() {
      vi.unstubAllEnvs();
      rmSync(directory, { recursive: true });
    },
  };
}

export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command line in this process. */
export async function lexalign(...argv: readonly string[]): Promise<Outcome> {
  const out: string[] = [];
  const err: string[] = [];
  const spies = [
    vi.spyOn(console, 'log').mockImplementation((...text) => void out.push(text.join(' '))),
    vi.spyOn(console, 'error').mockImplementation((...text) => void err.push(text.join(' '))),
    vi.spyOn(process.stdout, 'write').mockImplementation((text) => out.push(String(text)) > 0),
  ];
  try {
    const code = await main(argv);
    return { code, stdout: out.join('\n'), stderr: err.join('\n') };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

export function writeRows(file: string, rows: readonly (object | string)[]): string {
  writeFileSync(file, rows.map((row) => `${typeof row === 'string' ? row : JSON.stringify(row)}\n`).join(''));
  return file;
}

/** Rows of token ids that share prefixes, of a vocabulary of 64. */
export function idRows(count: number, length = 10): { input_ids: number[] }[] {
  return Array.from({ length: count }, (_, i) => ({
    input_ids: Array.from({ length: length - (i % 3) }, (_, at) => (at < 4 ? 5 + at : 3 + ((i * 7 + at * at) % 61))),
  }));
}

/** A copy of a model directory, changed by `change`, which gets the header and the bytes of model.safetensors. */
export function spoilCheckpoint(
  from: string,
  to: string,
  change: (file: {
    header: Record<string, Entry>;
    data: Buffer;
    config: Record<string, unknown>;
  }) => Buffer | undefined,
): string {
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from)) copyFileSync(join(from, name), join(to, name));
  const weights = join(to, 'model.safetensors');
  const bytes = readFileSync(weights);
  const end = 8 + Number(bytes.readBigUInt64LE(0));
  const config = JSON.parse(readFileSync(join(to, 'config.json'), 'utf8'));
  const parts = { header: JSON.parse(bytes.toString('utf8', 8, end)), data: bytes.subarray(end), config };
  const instead = change(parts);
  const text = Buffer.from(JSON.stringify(parts.header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(weights, instead ?? Buffer.concat([length, text, parts.data]));
  writeFileSync(join(to, 'config.json'), JSON.stringify(config));
  return to;
}

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

export const metricsOf = (output: string): Record<string, number>[] =>
  readFileSync(join(output, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

/** Whole lines of the metrics of a run that may be writing: what stands behind the last line break may be half a line. */
export const metricsWritten = (output: string): number => {
  const file = join(output, 'metrics.jsonl');
  return existsSync(file) ? readFileSync(file, 'utf8').split('\n').length - 1 : 0;
};

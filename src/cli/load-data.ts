import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { buildExamples, type ExampleStats, type Overlong } from '../batch/examples.js';
import { parseRows } from '../batch/rows.js';
import type { Example } from '../batch/types.js';
import { InputError } from '../errors.js';
import { exampleCacheKey, readExampleCache, writeExampleCache } from '../text/cache.js';
import { digestFile, readRows } from '../text/lines.js';
import type { OpenModel } from './session.js';
import { cacheDirectory } from './software-driver.js';

/** A data file, tokenised. */
export interface LoadedData {
  readonly file: string;
  /** SHA-256 (hex) of the file. */
  readonly digest: string;
  readonly examples: readonly Example[];
  readonly stats: ExampleStats;
}

/** train.jsonl and, where there is one, valid.jsonl of a directory; or one file. */
export async function findData(
  data: string,
  evalData: string | undefined,
): Promise<{ train: string; valid: string | null }> {
  const info = await stat(data).catch(() => null);
  if (!info) throw new InputError(`--data ${data} does not exist.`);
  if (info.isFile()) return { train: data, valid: await existing(evalData) };
  if (!info.isDirectory()) throw new InputError(`--data ${data} is neither a file nor a directory.`);
  const train = join(data, 'train.jsonl');
  if (!(await stat(train).catch(() => null)))
    throw new InputError(`--data ${data} is a directory without train.jsonl.`);
  const valid = join(data, 'valid.jsonl');
  return { train, valid: (await existing(evalData)) ?? ((await stat(valid).catch(() => null)) ? valid : null) };
}

async function existing(file: string | undefined): Promise<string | null> {
  if (file === undefined) return null;
  if (!(await stat(file).catch(() => null))?.isFile()) throw new InputError(`--eval-data ${file} is not a file.`);
  return file;
}

/** Tokenises a JSONL file, or takes it from the cache where the same bytes were tokenised alike before. */
export async function loadData(
  file: string,
  model: Pick<OpenModel, 'tokenizer' | 'config'>,
  options: { maxLength: number; overlong: Overlong },
): Promise<LoadedData> {
  const { tokenizer, config } = model;
  const digest = await digestFile(file);
  const cache = join(cacheDirectory(), 'tokenised');
  const key = exampleCacheKey({
    tokenizerDigest: tokenizer?.digest ?? createHash('sha256').update('none').digest('hex'),
    dataDigest: digest,
    options: { ...options, vocabSize: config.vocabSize },
  });
  const cached = await readExampleCache(cache, key);
  if (cached) return { file, digest, examples: cached.examples, stats: cached.stats as unknown as ExampleStats };
  const made = await buildExamples(parseRows(readRows(file)), {
    tokenizer,
    vocabSize: config.vocabSize,
    ...options,
  }).catch((error) => {
    const named = !(error instanceof InputError) || error.message.includes(file);
    throw named ? error : new InputError(`${file}: ${error.message}`);
  });
  await writeExampleCache(cache, key, { examples: made.examples, stats: { ...made.stats } });
  return { file, digest, ...made };
}

import { readFile, stat } from 'node:fs/promises';
import { InputError } from '../errors.js';
import type { AssociationResult, EvaluationResult } from '../evaluate/result.js';
import { isRecord } from '../formats/keys.js';

const maxBytes = 400e6;

/** Reads the `--json` of an evaluation. Throws InputError for anything else. */
export async function readEvaluationResult(file: string): Promise<EvaluationResult> {
  const info = await stat(file).catch(() => null);
  if (!info?.isFile()) throw new InputError(`${file} ${info ? 'is not a file' : 'does not exist'}`);
  if (info.size > maxBytes) throw new InputError(`${file} is larger than ${maxBytes} bytes: no result of evaluate`);
  let value: unknown;
  try {
    value = JSON.parse(await readFile(file, 'utf8'));
  } catch {
    throw new InputError(`${file} is not JSON: give what evaluate --json wrote`);
  }
  const measure = isRecord(value) ? value.measure : undefined;
  const parts = {
    association: 'runs',
    ranking: 'runs',
    affect: 'dimensions',
    survey: 'runs',
    'side-effects': 'runs',
    study: 'cultures',
  } as const;
  const part = parts[measure as keyof typeof parts];
  if (!part || !Array.isArray((value as Record<string, unknown>)[part])) {
    throw new InputError(`${file} is no result of evaluate: it has no measure with ${part ?? 'runs'}`);
  }
  return value as EvaluationResult;
}

/** As `readEvaluationResult`, of the association measure. */
export async function readAssociationResult(file: string): Promise<AssociationResult> {
  const result = await readEvaluationResult(file);
  if (result.measure === 'association') return result;
  throw new InputError(`${file} is of evaluate ${result.measure}, not of evaluate association`);
}

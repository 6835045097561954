import { InputError } from '../errors.js';
import { unsupervised } from './types.js';

interface RowOrigin {
  /** Where it stands, for error messages: "train.jsonl, line 3". */
  readonly where: string;
  /** Scales the loss of the row's supervised tokens. */
  readonly weight: number;
}

/** One data row, as written. */
export type Row = RowOrigin &
  (
    | { readonly kind: 'completion'; readonly prompt: string; readonly completion: string }
    | {
        readonly kind: 'messages';
        readonly messages: readonly { readonly role: string; readonly content: string }[];
        /** Places of assistant messages that are read but not learnt. */
        readonly unsupervisedTurns?: readonly number[];
      }
    | { readonly kind: 'text'; readonly text: string }
    | { readonly kind: 'ids'; readonly ids: Int32Array; readonly labels: Int32Array }
  );

const shapes =
  '{"prompt", "completion"}, {"messages"}, {"text"} or {"input_ids", "labels"}, each with an optional "weight"';

/** Parses the lines of a JSONL file; blank lines are skipped. `name` is the file's name in errors. */
export async function* parseRows(
  lines: AsyncIterable<string> | Iterable<string>,
  name: string,
): AsyncGenerator<Row, void, undefined> {
  let number = 0;
  for await (const line of lines) {
    number++;
    if (line.trim() !== '') yield parseRow(line, `${name}, line ${number}`);
  }
}

/**
 * Parses one line. Exactly one of the four shapes has to be there; other keys are left alone, as TRL does. Throws
 * InputError that begins with `where`.
 */
export function parseRow(line: string, where: string): Row {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new InputError(`${where} is not valid JSON: ${(error as Error).message}`);
  }
  if (!isObject(value)) throw new InputError(`${where} is not a JSON object: a row is ${shapes}`);
  const { prompt, completion, messages, text, input_ids: ids } = value;
  const present = [
    ['prompt', 'completion'].some((key) => value[key] !== undefined),
    messages !== undefined,
    text !== undefined,
    ids !== undefined,
  ].filter(Boolean).length;
  if (present !== 1) {
    throw new InputError(
      `${where} has ${present === 0 ? 'none' : 'more than one'} of the known shapes: a row is ${shapes}`,
    );
  }
  const origin = { where, weight: parseWeight(value.weight, where) };
  if (messages !== undefined) return { ...origin, kind: 'messages', ...parseMessages(value, where) };
  if (text !== undefined) return { ...origin, kind: 'text', text: parseText(text, 'text', where) };
  if (ids !== undefined) return { ...origin, kind: 'ids', ...parseTokens(value, where) };
  return {
    ...origin,
    kind: 'completion',
    prompt: parseText(prompt, 'prompt', where),
    completion: parseText(completion, 'completion', where),
  };
}

/** Weights beyond these would leave the range of 16-bit gradients; counts and frequencies stay far within. */
const leastWeight = 1e-6;
const greatestWeight = 1e6;

/** A row's "weight", 1 without one. Throws InputError. */
export function parseWeight(value: unknown, where: string): number {
  if (value === undefined || value === null) return 1;
  if (typeof value === 'number' && value >= leastWeight && value <= greatestWeight) return value;
  throw new InputError(`${where}: "weight" is ${JSON.stringify(value)}, not a number from 0.000001 to 1000000`);
}

function parseText(value: unknown, key: string, where: string): string {
  if (typeof value === 'string') return value;
  throw new InputError(`${where}: "${key}" is ${value === undefined ? 'missing' : 'not a string'}`);
}

const weightInstead = 'say which answers are learnt with "weight", 0 or 1, in assistant messages';
const contentInstead = 'write the call into its "content", as the model should put it';
/** Keys of messages that others honour, and what to write instead. */
const unknownToMessages = {
  train: weightInstead,
  training: weightInstead,
  train_detail: weightInstead,
  tool_calls: contentInstead,
  function_call: contentInstead,
};

/** A row's messages, and which assistant turns OpenAI's "weight" of 0 leaves unlearnt. Throws InputError. */
export function parseMessages(
  row: Readonly<Record<string, unknown>>,
  where: string,
): Omit<Row & { kind: 'messages' }, keyof RowOrigin | 'kind'> {
  const { messages, tools } = row;
  if (!Array.isArray(messages) || messages.length === 0)
    throw new InputError(`${where}: "messages" is not a list of messages`);
  if (!isEmpty(tools))
    throw new InputError(
      `${where} has "tools", which no chat template is given here: write them into the system message`,
    );
  const unsupervisedTurns: number[] = [];
  const turns = messages.map((message, i) => {
    for (const [key, instead] of Object.entries(unknownToMessages))
      if (!isEmpty(message?.[key])) throw new InputError(`${where}: message ${i + 1} has "${key}": ${instead}`);
    if (!isObject(message) || typeof message.role !== 'string' || typeof message.content !== 'string') {
      throw new InputError(`${where}: message ${i + 1} is not {"role", "content"} with strings`);
    }
    const { role, content, weight } = message;
    if (!isEmpty(weight) && (role !== 'assistant' || (weight !== 0 && weight !== 1)))
      throw new InputError(
        `${where}: message ${i + 1} of ${role} has "weight" ${JSON.stringify(weight)}: only those of assistant take one, 0 or 1`,
      );
    if (weight === 0) unsupervisedTurns.push(i);
    return { role, content };
  });
  return { messages: turns, unsupervisedTurns };
}

/** What tables leave where other rows have the key. */
function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || (Array.isArray(value) && value.length === 0);
}

/**
 * The tokens of a row of `input_ids`; without `labels` each is its own. Where a mask of TRL's holds 0 the label is −100.
 * Throws InputError.
 */
export function parseTokens(
  row: Readonly<Record<string, unknown>>,
  where: string,
): { ids: Int32Array; labels: Int32Array } {
  const ids = parseIds(row.input_ids, 'input_ids', 0, where);
  const labels = row.labels === undefined ? ids : parseIds(row.labels, 'labels', unsupervised, where);
  if (labels.length !== ids.length)
    throw new InputError(`${where} has ${ids.length} input_ids but ${labels.length} labels: make them equally long`);
  if (parseMask(row, 'attention_mask', ids.length, where).includes(0))
    throw new InputError(
      `${where}: "attention_mask" holds a 0: leave padding out of the row, since no row is padded here`,
    );
  const masks = ['completion_mask', 'assistant_masks'].map((key) => parseMask(row, key, ids.length, where));
  return { ids, labels: labels.map((label, i) => (masks.every((mask) => mask[i] === 1) ? label : unsupervised)) };
}

/** [length] of 0 and 1; all 1 where the row has no such mask. */
function parseMask(
  row: Readonly<Record<string, unknown>>,
  key: string,
  length: number,
  where: string,
): readonly number[] {
  const mask = row[key] ?? new Array(length).fill(1);
  if (Array.isArray(mask) && mask.length === length && mask.every((one) => one === 0 || one === 1)) return mask;
  throw new InputError(`${where}: "${key}" is not a list of 0 and 1, one for each of the ${length} input_ids`);
}

/** A list of token ids; `least` is the one number below 0 allowed (−100 in labels), or 0. */
function parseIds(value: unknown, key: string, least: number, where: string): Int32Array {
  if (!Array.isArray(value) || value.length === 0)
    throw new InputError(`${where}: "${key}" is not a list of token ids`);
  for (const id of value) {
    if (!Number.isInteger(id) || (id < 0 && id !== least) || id > 0x7fffffff) {
      const also = least < 0 ? ` or ${least}` : '';
      throw new InputError(`${where}: "${key}" holds ${JSON.stringify(id)}, not a token id${also}`);
    }
  }
  return Int32Array.from(value);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

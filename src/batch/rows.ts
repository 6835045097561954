import { InputError } from '../errors.js';
import { parseJson } from '../formats/json.js';
import { isRecord } from '../formats/keys.js';
import type { Message } from '../text/chat-template.js';
import type { PlacedLine } from '../text/lines.js';
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
        readonly messages: readonly Message[];
        /** Places of assistant messages that are read but not learnt. */
        readonly unsupervisedTurns?: readonly number[];
      }
    | { readonly kind: 'text'; readonly text: string }
    | { readonly kind: 'ids'; readonly ids: Int32Array; readonly labels: Int32Array }
  );

const shapes =
  '{"prompt", "completion"}, {"messages"}, {"text"} or {"input_ids", "labels"}, each with an optional "weight"';

/** Parses the lines of a JSONL file. */
export async function* parseRows(lines: AsyncIterable<PlacedLine>): AsyncGenerator<Row, void, undefined> {
  for await (const { text, where } of lines) yield parseRow(text, where);
}

/**
 * Parses one line. Exactly one of the four shapes has to be there; other keys are left alone, as TRL does, but for those
 * that others put into the prompt. Throws InputError that begins with `where`.
 */
export function parseRow(line: string, where: string): Row {
  const row = joinConversation(parseObject(line, where, shapes), where);
  const shape = shapeOf(row, where, shapes);
  const origin = { where, weight: parseWeight(row.weight, where) };
  if (shape === 'messages') return { ...origin, kind: 'messages', ...parseMessages(row, where) };
  if (shape === 'text') return { ...origin, kind: 'text', text: parseText(row, 'text', media, where) };
  if (shape === 'input_ids') return { ...origin, kind: 'ids', ...parseTokens(row, where) };
  const prompt = parsePrompt(row, where);
  return { ...origin, kind: 'completion', prompt, completion: parseText(row, 'completion', {}, where) };
}

/** What files of one JSON list, and rows over several lines, are told. */
const notJsonl =
  "is not a row by itself: write each row as a JSON object on a line of its own (JSONL), as jq -c '.[]' does of a list";

type JsonObject = Readonly<Record<string, unknown>>;

/** A line's object. `shapes` says in errors what a row is. Throws InputError. */
export function parseObject(line: string, where: string, shapes: string): JsonObject {
  let value: unknown;
  try {
    value = parseJson(line);
  } catch (error) {
    if (/^\s*[[{]\s*$/.test(line)) throw new InputError(`${where} ${notJsonl}`);
    throw new InputError(`${where} is not valid JSON: ${(error as Error).message}`);
  }
  if (Array.isArray(value) && value.every(isRecord)) throw new InputError(`${where} ${notJsonl}`);
  if (!isRecord(value)) throw new InputError(`${where} is not a JSON object: a row is ${shapes}`);
  return value;
}

/**
 * TRL's conversation in two lists of messages, "prompt" and "completion", as a row of "messages" of which the prompt's
 * part is not learnt; other rows as they are. Throws InputError where the completion would go on with an answer.
 */
export function joinConversation(row: JsonObject, where: string): JsonObject {
  const { prompt, completion, ...rest } = row;
  if (!Array.isArray(prompt) || !(Array.isArray(completion) || isEmpty(completion)) || !isEmpty(row.messages))
    return row;
  if (prompt.at(-1)?.role === 'assistant')
    throw new InputError(
      `${where}: "prompt" ends with an assistant's message, which a completion would go on with: move it into "completion"`,
    );
  const read = prompt.map((message) => (message?.role === 'assistant' ? { ...message, weight: 0 } : message));
  return { ...rest, messages: [...read, ...(Array.isArray(completion) ? completion : [])] };
}

/** The one of the four shapes that a row has; null counts as absent. Throws InputError for none and for several. */
export function shapeOf(row: JsonObject, where: string, shapes: string): 'prompt' | 'messages' | 'text' | 'input_ids' {
  const has = (key: string) => row[key] !== undefined && row[key] !== null;
  const present = (['prompt', 'messages', 'text', 'input_ids'] as const).filter(
    (key) => has(key) || (key === 'prompt' && has('completion')),
  );
  if (present.length === 1) return present[0];
  if (present.length === 0) {
    const other = ['conversations', 'instruction'].find(has);
    const mend = other ? `; docs/data.md has the command that makes one of "${other}"` : '';
    throw new InputError(`${where} has none of the known shapes: a row is ${shapes}${mend}`);
  }
  const keys = present.map((key) => `"${has(key) ? key : 'completion'}"`).join(' and ');
  throw new InputError(
    `${where} has more than one of the known shapes: a row is ${shapes}; leave out all but one of ${keys}`,
  );
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

/** A row's "prompt". Throws InputError. */
export function parsePrompt(row: JsonObject, where: string): string {
  return parseText(row, 'prompt', { system: 'which is not read there: write it into "prompt"', ...media }, where);
}

/** A text of a row that has none of the fields `unread`. */
function parseText(row: JsonObject, key: string, unread: Readonly<Record<string, string>>, where: string): string {
  refuseFields(row, unread, where);
  const value = row[key];
  if (typeof value === 'string') return value;
  if (Array.isArray(value))
    throw new InputError(`${where}: "${key}" is a list, not a string: write a conversation as "messages"`);
  throw new InputError(`${where}: "${key}" is ${isEmpty(value) ? 'missing' : 'not a string'}`);
}

const textAlone = 'but models here read text alone: leave such rows out';
const media = { images: textAlone, image: textAlone, videos: textAlone, audios: textAlone };
const toSystem = 'which no chat template is given here: write them into the system message';
/** Fields of rows of messages that others put into what the model reads, and what to do instead. */
const unreadBesideMessages = {
  tools: toSystem,
  functions: toSystem,
  documents: 'which no chat template is given here: write them into a message',
  chat_template_kwargs: 'which no chat template is given here: leave it out, or use prompt and completion',
  chat_template: "but the model's own is taken: leave it out, or use prompt and completion",
  system: 'which is not read there: make it the first of "messages", of role system',
  ...media,
};
const packed =
  'as packed rows do, whose examples would be read as one: write each example as a row of its own, without it';
const labelInstead = 'which is not read: say what is not learnt with "labels" of -100, or "completion_mask"';
const unreadBesideIds = { position_ids: packed, seq_lengths: packed, loss_mask: labelInstead };

function refuseFields(row: JsonObject, fields: Readonly<Record<string, string>>, where: string): void {
  for (const [key, instead] of Object.entries(fields))
    if (!isEmpty(row[key])) throw new InputError(`${where} has "${key}", ${instead}`);
}

const weightInstead = 'say which answers are learnt with "weight", 0 or 1, in assistant messages';
/** Keys with which others say what is learnt of a message. */
const otherWeights = ['train', 'training', 'train_detail'];

/**
 * A row's messages, with all their fields that are not empty but "weight", and which assistant turns OpenAI's "weight"
 * of 0 leaves unlearnt. Only an assistant's message may lack a content, beside another field. Throws InputError.
 */
export function parseMessages(
  row: JsonObject,
  where: string,
): Omit<Row & { kind: 'messages' }, keyof RowOrigin | 'kind'> {
  const { messages } = row;
  if (!Array.isArray(messages) || messages.length === 0)
    throw new InputError(`${where}: "messages" is not a list of messages`);
  refuseFields(row, unreadBesideMessages, where);
  const unsupervisedTurns: number[] = [];
  const turns = messages.map((message, i) => {
    const place = `${where}: message ${i + 1}`;
    for (const key of otherWeights)
      if (!isEmpty(message?.[key])) throw new InputError(`${place} has "${key}": ${weightInstead}`);
    if (!isRecord(message)) throw new InputError(`${place} is not {"role", "content"} with strings`);
    const { role, content, weight, ...rest } = message;
    const fields = Object.fromEntries(Object.entries(rest).filter(([, value]) => !isEmpty(value)));
    const mayLack = role === 'assistant' && Object.keys(fields).length > 0;
    const lacks = content === undefined || content === null;
    if (Array.isArray(content) && content.length > 0)
      throw new InputError(`${place} has "content" as a list of parts: write its text as one string`);
    if (typeof role !== 'string' || !(typeof content === 'string' || (lacks && mayLack)))
      throw new InputError(`${place} is not {"role", "content"} with strings`);
    if (weight !== undefined && weight !== null && (role !== 'assistant' || (weight !== 0 && weight !== 1)))
      throw new InputError(
        `${place} of ${role} has "weight" ${JSON.stringify(weight)}: only those of assistant take one, 0 or 1`,
      );
    for (const [key, value] of Object.entries(fields)) {
      const number = findUnsafe(value);
      if (number !== undefined)
        throw new InputError(
          `${place} has in "${key}" a whole number of more digits than are kept, about ${number}: write it as a string`,
        );
    }
    if (weight === 0) unsupervisedTurns.push(i);
    return { role, ...(content === undefined ? {} : { content: content as string | null }), ...fields };
  });
  return { messages: turns, unsupervisedTurns };
}

/** What tables leave where other rows have the key (null, [], an object of them), and text of blanks. */
function isEmpty(value: unknown): boolean {
  if (typeof value === 'string') return value.trim() === '';
  if (Array.isArray(value)) return value.length === 0;
  return value === undefined || (typeof value === 'object' && Object.values(value ?? {}).every(isEmpty));
}

/** A whole number within a JSON value that JavaScript does not hold exactly. */
function findUnsafe(value: unknown): number | undefined {
  if (typeof value === 'number') return Number.isInteger(value) && !Number.isSafeInteger(value) ? value : undefined;
  if (typeof value !== 'object' || value === null) return undefined;
  return Object.values(value)
    .map(findUnsafe)
    .find((number) => number !== undefined);
}

const masks = ['completion_mask', 'assistant_masks'] as const;

/**
 * The tokens of a row of `input_ids`; without `labels` each is its own. Where a mask of TRL's holds 0 the label is −100.
 * Throws InputError.
 */
function parseTokens(row: JsonObject, where: string): { ids: Int32Array; labels: Int32Array } {
  refuseFields(row, unreadBesideIds, where);
  const ids = parseIds(row.input_ids, 'input_ids', 0, where);
  const labels = row.labels === undefined ? ids : parseIds(row.labels, 'labels', unsupervised, where);
  if (labels.length !== ids.length)
    throw new InputError(`${where} has ${ids.length} input_ids but ${labels.length} labels: make them equally long`);
  if (parseMask(row, 'attention_mask', ids.length, where).includes(0))
    throw new InputError(
      `${where}: "attention_mask" holds a 0: leave padding out of the row, since no row is padded here`,
    );
  const learnt = masks.map((key) => parseMask(row, key, ids.length, where));
  return { ids, labels: labels.map((label, i) => (learnt.every((mask) => mask[i] === 1) ? label : unsupervised)) };
}

/**
 * What a row of `input_ids` asks: its tokens before the first that is learnt; all of them where neither labels nor a
 * mask tell. Throws InputError.
 */
export function parsePromptTokens(row: JsonObject, where: string): Int32Array {
  const { ids, labels } = parseTokens(row, where);
  if (['labels', ...masks].every((key) => row[key] === undefined || row[key] === null)) return ids;
  const first = labels.findIndex((label) => label !== unsupervised);
  if (first === 0)
    throw new InputError(
      `${where} is learnt from its first token on, so it has no prompt: leave its labels and masks out to go on from the whole row`,
    );
  return first < 0 ? ids : ids.subarray(0, first);
}

/** [length] of 0 and 1; all 1 where the row has no such mask. */
function parseMask(row: JsonObject, key: string, length: number, where: string): readonly number[] {
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

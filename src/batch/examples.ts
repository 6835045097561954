import { InputError } from '../errors.js';
import type { Tokenizer } from '../text/tokenizer.js';
import { checkMessages, renderMessages } from './messages.js';
import type { Row } from './rows.js';
import { type Example, unsupervised } from './types.js';

/** What a row longer than the limit meets: an error, a cut at its end, or being left out. */
export type Overlong = 'error' | 'truncate' | 'drop';

export interface ExampleOptions {
  /** Null when the model directory has none: then only rows of `input_ids` are taken. */
  readonly tokenizer: Tokenizer | null;
  /** The model's vocabulary size. */
  readonly vocabSize: number;
  /** Tokens. */
  readonly maxLength: number;
  readonly overlong: Overlong;
}

export interface ExampleStats {
  /** Rows read. */
  readonly rows: number;
  /** Tokens of the kept examples that count in the loss. */
  readonly supervisedTokens: number;
  /** Tokens of the kept examples. */
  readonly tokens: number;
  /** Rows cut at `maxLength` and kept. */
  readonly truncated: number;
  /** Rows left out: overlong, or without supervised tokens once cut. */
  readonly dropped: number;
}

/**
 * Tokenises rows. Throws InputError for a row without supervised tokens, an id outside the vocabulary, overlong rows
 * under 'error' (after reading all, so that it can say how many), and when nothing is left.
 */
export async function buildExamples(
  rows: AsyncIterable<Row> | Iterable<Row>,
  options: ExampleOptions,
): Promise<{ examples: Example[]; stats: ExampleStats }> {
  const { maxLength, overlong } = options;
  const examples: Example[] = [];
  let read = 0;
  let supervisedTokens = 0;
  let tokens = 0;
  let truncated = 0;
  let dropped = 0;
  let long = 0;
  let longest = { length: 0, where: '' };
  for await (const row of rows) {
    read++;
    let example = buildExample(row, options.tokenizer, options.vocabSize);
    if (example.ids.length > maxLength) {
      long++;
      if (example.ids.length > longest.length) longest = { length: example.ids.length, where: row.where };
      if (overlong === 'error') continue;
      const cut = { ids: example.ids.slice(0, maxLength), labels: example.labels.slice(0, maxLength) };
      if (overlong === 'drop' || countSupervised(cut.labels) === 0) {
        dropped++;
        continue;
      }
      truncated++;
      example = { ...cut, weight: example.weight };
    }
    examples.push(example);
    supervisedTokens += countSupervised(example.labels);
    tokens += example.ids.length;
  }
  if (long > 0 && overlong === 'error') {
    throw new InputError(
      `${long} of ${read} rows ${long === 1 ? 'is' : 'are'} longer than --max-length ${maxLength} tokens ` +
        `(the longest has ${longest.length}: ${longest.where}): raise it, or pass --overlong truncate or --overlong drop`,
    );
  }
  if (examples.length === 0) {
    throw new InputError(read === 0 ? 'the data has no rows' : `all ${read} rows were dropped: raise --max-length`);
  }
  return { examples, stats: { rows: read, supervisedTokens, tokens, truncated, dropped } };
}

/** Tokenises one row, at its full length. Throws InputError as `buildExamples` does. */
export function buildExample(row: Row, tokenizer: Tokenizer | null, vocabSize: number): Example {
  let example: Example;
  if (row.kind === 'ids') {
    example = { ids: row.ids, labels: row.labels, weight: row.weight };
  } else {
    if (tokenizer === null) {
      throw new InputError(
        `${row.where} is text, but the model has no tokenizer.json: add it, or use rows of input_ids`,
      );
    }
    const pieces = row.kind === 'messages' ? messagePieces(row, tokenizer) : textPieces(row, tokenizer);
    example = joinPieces(pieces, row.weight);
  }
  for (const list of [example.ids, example.labels]) {
    for (const id of list) {
      if (id >= vocabSize) {
        throw new InputError(`${row.where} has token id ${id}, outside the model's vocabulary of ${vocabSize}`);
      }
    }
  }
  if (countSupervised(example.labels) === 0) {
    const mend = {
      ids: 'labels other than -100, and no mask of 0 there,',
      messages: 'an assistant turn to learn',
      text: 'text',
      completion: 'a completion',
    };
    throw new InputError(`${row.where} has no supervised tokens: it needs ${mend[row.kind]} after the first token`);
  }
  return example;
}

/** Tokens whose prediction counts; the first token of a sequence is never predicted. */
export function countSupervised(labels: Int32Array): number {
  let count = 0;
  for (let i = 1; i < labels.length; i++) if (labels[i] !== unsupervised) count++;
  return count;
}

interface Piece {
  readonly ids: ArrayLike<number>;
  readonly supervised: boolean;
}

/** [BOS] + prompt, completion, EOS unless it ends so, tokenised apart; the prompt is masked. Of text all is supervised. */
function textPieces(row: Row & { kind: 'text' | 'completion' }, tokenizer: Tokenizer): Piece[] {
  const { eosId } = tokenizer;
  if (eosId === null) {
    throw new InputError(`${tokenizer.name}: tokenizer_config.json names no eos_token, which ends every row: add it`);
  }
  const ended = (ids: Int32Array, written: string): Piece[] => {
    const pieces = [{ ids, supervised: true }];
    if (written === '' || ids.at(-1) !== eosId) pieces.push({ ids: Int32Array.of(eosId), supervised: true });
    return pieces;
  };
  if (row.kind === 'text') return ended(tokenizer.encode(row.text, { specials: true }), row.text);
  const { prompt, completion } = row;
  return [
    { ids: tokenizer.encode(prompt, { specials: true }), supervised: false },
    ...ended(
      prompt === '' ? tokenizer.encode(completion, { specials: false }) : tokenizer.encodeContinuation(completion),
      completion,
    ),
  ];
}

/**
 * The conversation as the chat template writes it, every assistant turn supervised that is to be learnt: what the
 * template adds between the generation prompt before the turn and the end of the turn, up to its end-of-turn token
 * (blanks after that token are never generated, so they are not learnt). Tokenised apart at these seams, as at
 * generation. BOS only where the template writes it.
 */
function messagePieces(row: Row & { kind: 'messages' }, tokenizer: Tokenizer): Piece[] {
  const { messages } = row;
  if (!tokenizer.hasChatTemplate) {
    throw new InputError(
      `${row.where} has messages, but ${tokenizer.name} has no chat template: use prompt and completion`,
    );
  }
  checkMessages(messages, tokenizer, row.where);
  const render = (count: number, addGenerationPrompt: boolean) =>
    renderMessages(messages.slice(0, count), tokenizer, row.where, addGenerationPrompt);
  const pieces: Piece[] = [];
  let closing: number | undefined;
  const add = (text: string, supervised: boolean): void => {
    if (text === '') return;
    const ids =
      pieces.length === 0 ? tokenizer.encode(text, { specials: false }) : tokenizer.encodeContinuation(text, closing);
    pieces.push({ ids, supervised });
    closing = undefined;
  };
  let done = '';
  let masked = '';
  for (const [turn, { role }] of messages.entries()) {
    if (role !== 'assistant' || row.unsupervisedTurns?.includes(turn)) continue;
    const before = render(turn, true);
    const through = render(turn + 1, false);
    if (!before.startsWith(done) || !through.startsWith(before)) {
      const asked = render(turn, false);
      throw new InputError(`${row.where}: ${explainSeam({ asked, before, through, done }, turn, tokenizer)}`);
    }
    add(masked + before.slice(done.length), false);
    const answer = through.slice(before.length);
    const trimmed = answer.trimEnd();
    const ids = tokenizer.encodeContinuation(trimmed);
    const last = ids.at(-1);
    const closed = last !== undefined && tokenizer.specialIds.has(last);
    if (closed) {
      pieces.push({ ids, supervised: true });
      closing = last;
    } else add(answer, true);
    masked = closed ? answer.slice(trimmed.length) : '';
    done = through;
  }
  add(masked, false);
  return pieces;
}

/**
 * Why message `turn` is not what the template adds to the text before it, and what helps. `done` is the text up to the
 * answer before, `asked` that of the turns before this answer, `before` the same with the generation prompt, `through`
 * the text with the answer.
 */
function explainSeam(
  { asked, before, through, done }: Readonly<Record<'asked' | 'before' | 'through' | 'done', string>>,
  turn: number,
  { name }: Tokenizer,
): string {
  if (!before.startsWith(done) || !through.startsWith(asked))
    return (
      `the chat template of ${name} rewrites earlier turns when message ${turn + 1} is added, ` +
      'so its turns cannot be told apart: learn one assistant turn a row ("weight": 0 in the others), or use prompt and completion'
    );
  const prompt = before.startsWith(asked) ? before.slice(asked.length) : before.slice(-40);
  if ([through.slice(asked.length), prompt].every((text) => text.includes('</think>')))
    return (
      `message ${turn + 1} brings thoughts of its own, but models are asked with thinking off: ` +
      'leave out the part up to </think> or the field that holds it, or use prompt and completion'
    );
  return (
    `the chat template of ${name} asks for message ${turn + 1} with ${JSON.stringify(prompt)}, which is not how it begins the answer, ` +
    'so what is to be learnt cannot be told: use prompt and completion'
  );
}

function joinPieces(pieces: readonly Piece[], weight: number): Example {
  const length = pieces.reduce((sum, piece) => sum + piece.ids.length, 0);
  const ids = new Int32Array(length);
  const labels = new Int32Array(length).fill(unsupervised);
  let at = 0;
  for (const piece of pieces) {
    ids.set(piece.ids, at);
    if (piece.supervised) labels.set(piece.ids, at);
    at += piece.ids.length;
  }
  return { ids, labels, weight };
}

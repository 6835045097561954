import { createHash } from 'node:crypto';
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { InputError } from '../errors.js';
import { readFileInside } from '../formats/files.js';
import { parseJson } from '../formats/json.js';
import { isRecord } from '../formats/keys.js';
import { type ChatTemplate, compileChatTemplate, type Message } from './chat-template.js';
import { createStreamDecoder, type StreamDecoder } from './stream-decoder.js';

export interface Tokenizer {
  /** The directory it came from, for error messages. */
  readonly name: string;
  /** One past the highest token id; a model's own vocabulary may be padded beyond. */
  readonly vocabSize: number;
  /** Token put before every text by the tokenizer's own rule; null for none. */
  readonly bosId: number | null;
  readonly eosId: number | null;
  /** Ids of tokens that mark structure, such as ends of turns; skipped by decode on demand. */
  readonly specialIds: ReadonlySet<number>;
  readonly hasChatTemplate: boolean;
  /** The special token with which the chat template ends an assistant's turn; null for none. */
  readonly turnEndId: number | null;
  /** The chat template takes no system turn, so its text is put before the first question. */
  readonly foldsSystem: boolean;
  /** SHA-256 (hex) of all that decides what `encode` and `applyChatTemplate` give; the day's date where a template prints it. */
  readonly digest: string;
  /** Token ids; `specials` puts BOS first where the tokenizer wants one and the text has none, never EOS. Special tokens spelled out in the text are recognised. */
  encode(text: string, options: { specials: boolean }): Int32Array;
  /**
   * As `encode` without specials, for text that goes on after other text: without the "▁" that a tokenizer of
   * SentencePiece's kind (Llama 2) puts before a text's first word. `special` is the special token that stands just
   * before, if one does: some tokenizers put "▁" after each, too. Throws InputError where that can't be told.
   */
  encodeContinuation(text: string, special?: number): Int32Array;
  /** Text as the tokens spell it (no clean-up of spaces); ids without a token give nothing. */
  decode(ids: ArrayLike<number>, options: { skipSpecials: boolean }): string;
  /** Text of one token, for display. */
  tokenText(id: number): string;
  streamDecoder(options?: { skipSpecials: boolean }): StreamDecoder;
  /** Throws InputError when there is no chat template or it refuses the messages. */
  applyChatTemplate(messages: readonly Message[], options: { addGenerationPrompt: boolean }): string;
}

const maxFileBytes = 200 * 2 ** 20;
const maxTokenId = 2 ** 24;

type Json = Record<string, unknown>;

// The library's own declarations do not resolve under NodeNext, so what is used of it is declared here.
interface HubTokenizer {
  encode(text: string, options: { add_special_tokens: boolean }): { readonly ids: readonly (number | undefined)[] };
  decode(ids: readonly number[], options: { clean_up_tokenization_spaces: boolean }): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
  get_added_tokens_decoder(): ReadonlyMap<number, { readonly special: boolean }>;
}
const HubTokenizer: new (definition: unknown, config: unknown) => HubTokenizer = HuggingFaceTokenizer;

/**
 * Reads `tokenizer.json` and, where present, `tokenizer_config.json`, `special_tokens_map.json` and
 * `chat_template.jinja`; null when there is no `tokenizer.json`. Each file may have 200 MiB and must lie inside the
 * directory (or its hub cache). Regular expressions in `tokenizer.json` are run as they are: a hostile one can take
 * time, nothing else.
 */
export async function tryLoadTokenizer(directory: string): Promise<Tokenizer | null> {
  const hash = createHash('sha256');
  const readText = async (name: string): Promise<string | null> => {
    const bytes = await readOptional(directory, name);
    if (bytes !== null) hash.update(`${name}\0${bytes.length}\0`).update(bytes);
    return bytes?.toString('utf8') ?? null;
  };
  const readJson = async (name: string): Promise<Json | null> => {
    const text = await readText(name);
    return text === null ? null : parseObject(text, join(directory, name));
  };
  const file = join(directory, 'tokenizer.json');
  const definition = await readJson('tokenizer.json');
  if (definition === null) return null;
  const config = (await readJson('tokenizer_config.json')) ?? {};
  const specialsMap = (await readJson('special_tokens_map.json')) ?? {};
  const templateFile = await readText('chat_template.jinja');

  const tokens: Record<string, string> = {};
  for (const key of ['bos_token', 'eos_token', 'unk_token', 'pad_token']) {
    const token = tokenContent(key in config ? config[key] : specialsMap[key]);
    if (token !== null) tokens[key] = token;
  }
  let template: ChatTemplate | null = null;
  if (templateFile !== null) {
    template = compileChatTemplate(templateFile, join(directory, 'chat_template.jinja'), tokens);
  } else {
    const where = `${join(directory, 'tokenizer_config.json')}, key chat_template`;
    const source = selectTemplate(config.chat_template, where);
    if (source !== null) template = compileChatTemplate(source, where, tokens);
  }
  if (template?.usesDate) hash.update(new Date().toDateString());
  return createTokenizer(directory, file, definition, config, tokens, template, hash.digest('hex'));
}

function createTokenizer(
  directory: string,
  file: string,
  definition: Json,
  config: Json,
  tokens: Readonly<Record<string, string>>,
  template: ChatTemplate | null,
  digest: string,
): Tokenizer {
  const ids = checkVocabulary(definition, file);
  let hub: HubTokenizer;
  try {
    const optional = { added_tokens: [], normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null };
    hub = new HubTokenizer({ ...optional, ...definition }, config);
  } catch (error) {
    throw new InputError(`${file} can't be used: ${error instanceof Error ? error.message : String(error)}`);
  }
  const split = (text: string) => hub.encode(text, { add_special_tokens: false }).ids;
  const known = (ids: readonly (number | undefined)[], text: string): Int32Array => {
    const result = new Int32Array(ids.length);
    for (const [i, id] of ids.entries()) {
      if (id === undefined)
        throw new InputError(`${file} has no token for a part of ${JSON.stringify(text.slice(0, 40))}`);
      result[i] = id;
    }
    return result;
  };
  const encodePlain = (text: string) => known(split(text), text);
  const idOf = (key: string): number | null => {
    if (tokens[key] === undefined) return null;
    const id = hub.token_to_id(tokens[key]);
    if (id === undefined)
      throw new InputError(`${directory}: ${key} ${JSON.stringify(tokens[key])} is not in tokenizer.json`);
    return id;
  };
  const specialIds = new Set<number>();
  for (const [id, token] of hub.get_added_tokens_decoder()) if (token.special) specialIds.add(id);
  const bosId = findBos(hub, config, idOf('bos_token'));
  const splitContinuation = createContinuationSplit(split, tokens.unk_token && hub.token_to_id(tokens.unk_token));

  const decode = (list: ArrayLike<number>, skipSpecials: boolean): string => {
    const shown = Array.from(list).filter(
      (id) => hub.id_to_token(id) !== undefined && !(skipSpecials && specialIds.has(id)),
    );
    return shown.length === 0 ? '' : hub.decode(shown, { clean_up_tokenization_spaces: false });
  };
  return {
    name: directory,
    vocabSize: ids,
    bosId,
    eosId: idOf('eos_token'),
    specialIds,
    hasChatTemplate: template !== null,
    turnEndId: template === null ? null : findTurnEnd(template, split, specialIds),
    foldsSystem: template?.foldsSystem ?? false,
    digest,
    encode(text, { specials }) {
      const plain = encodePlain(text);
      // A text that a chat template has written begins with its own.
      return specials && bosId !== null && plain[0] !== bosId ? Int32Array.of(bosId, ...plain) : plain;
    },
    encodeContinuation(text, special) {
      const ids = splitContinuation(text, special === undefined ? undefined : hub.id_to_token(special));
      if (ids === null)
        throw new InputError(
          `${file} merges ${JSON.stringify(text.slice(0, 40))} with what stands before it, so it can't go on after other text`,
        );
      return known(ids, text);
    },
    decode: (list, { skipSpecials }) => decode(list, skipSpecials),
    tokenText: (id) => decode([id], false),
    streamDecoder: ({ skipSpecials } = { skipSpecials: true }) =>
      createStreamDecoder((list) => decode(list, skipSpecials)),
    applyChatTemplate(messages, { addGenerationPrompt }) {
      if (template === null)
        throw new InputError(`${directory} has no chat template: use rows of prompt and completion`);
      return template.render(messages, addGenerationPrompt);
    },
  };
}

type Split = (text: string) => readonly (number | undefined)[];

/** Texts after which a continuation is tokenised to see what it adds; in SentencePiece's vocabularies neither merges. */
const anchors = ['\n', ':'] as const;

/**
 * Splits text as it goes on after other text; null where what it adds to that text can't be told. Only a tokenizer that
 * marks the beginning of a text (Prepend, Metaspace) makes a difference; others split a continuation as any text.
 */
function createContinuationSplit(
  split: Split,
  unknownId: unknown,
): (text: string, before?: string) => ReturnType<Split> | null {
  const after = (before: string, text: string) => {
    const ids = split(before);
    const both = split(before + text);
    // A run of unknown characters may be one token, which hides where the text before ends.
    const ends = ids.every((id, i) => id !== undefined && id !== unknownId && both[i] === id);
    return ends ? both.slice(ids.length) : null;
  };
  const afterAny = (text: string) => after(anchors[0], text) ?? after(anchors[1], text);
  const marksStart = afterAny('a')?.join() !== split('a').join();
  if (!marksStart) return split;
  return (text, before) => (before === undefined ? afterAny(text) : after(before, text));
}

/** The special token that ends an answer as the template writes it, blanks after it aside; null for none. */
function findTurnEnd(template: ChatTemplate, split: Split, specialIds: ReadonlySet<number>): number | null {
  const turns = [
    { role: 'user', content: 'a' },
    { role: 'assistant', content: 'b' },
  ];
  const text = template.tryRender(turns, false);
  const last = text === null ? undefined : split(text.trimEnd()).at(-1);
  return last !== undefined && specialIds.has(last) ? last : null;
}

/** The post-processor's first token, unless `add_bos_token` of the config says otherwise. */
function findBos(hub: HubTokenizer, config: Json, bosToken: number | null): number | null {
  if (config.add_bos_token === false) return null;
  const plain = hub.encode('a', { add_special_tokens: false }).ids;
  const full = hub.encode('a', { add_special_tokens: true }).ids;
  if (full.length > plain.length && full[0] !== plain[0]) return full[0] ?? null;
  return config.add_bos_token === true ? bosToken : null;
}

/** Checks ids, so that a file can't make the library allocate by them; returns one past the highest. */
function checkVocabulary(definition: Json, file: string): number {
  const model = definition.model;
  if (!isRecord(model)) throw new InputError(`${file} has no "model": not a tokenizer.json`);
  const { type = 'BPE' } = model;
  if (typeof type !== 'string' || !['BPE', 'Unigram', 'WordPiece'].includes(type)) {
    throw new InputError(
      `${file}: model type ${JSON.stringify(type)} is not supported, only BPE, Unigram and WordPiece`,
    );
  }
  let end = 0;
  const check = (id: unknown, token: unknown) => {
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= maxTokenId) {
      throw new InputError(
        `${file}: token ${JSON.stringify(token)} has id ${JSON.stringify(id)}, not one of 0 to 2^24 - 1`,
      );
    }
    end = Math.max(end, id + 1);
  };
  if (Array.isArray(model.vocab)) end = model.vocab.length;
  else if (isRecord(model.vocab)) for (const token in model.vocab) check(model.vocab[token], token);
  else throw new InputError(`${file}: "model" has no "vocab"`);
  const added = definition.added_tokens ?? [];
  if (!Array.isArray(added)) throw new InputError(`${file}: "added_tokens" is not a list`);
  for (const token of added) {
    if (!isRecord(token) || typeof token.content !== 'string' || token.content === '') {
      throw new InputError(`${file}: an entry of "added_tokens" has no content`);
    }
    check(token.id, token.content);
  }
  return end;
}

/** A template string, or the one named `default` of a list of `{name, template}`. */
function selectTemplate(value: unknown, where: string): string | null {
  if (value === undefined || value === null) return null;
  if (typeof value === 'string') return value;
  if (Array.isArray(value)) {
    const named = value.filter((entry) => isRecord(entry) && typeof entry.template === 'string');
    const chosen = named.find((entry) => entry.name === 'default') ?? named[0];
    if (chosen !== undefined) return chosen.template;
  }
  throw new InputError(`${where} is neither a template nor a list of named templates`);
}

/** A special token is written as its text or as `{content}`. */
function tokenContent(value: unknown): string | null {
  if (typeof value === 'string') return value;
  return isRecord(value) && typeof value.content === 'string' ? value.content : null;
}

function parseObject(text: string, file: string): Json {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (error) {
    throw new InputError(`${file} is not valid JSON: ${(error as Error).message}`);
  }
  if (!isRecord(value)) throw new InputError(`${file} is not a JSON object`);
  return value;
}

/** The bytes of a file of the directory; null when there is none of that name. */
async function readOptional(directory: string, name: string): Promise<Buffer | null> {
  const absent = await lstat(join(directory, name)).then(
    () => false,
    (error: NodeJS.ErrnoException) => error.code === 'ENOENT' || error.code === 'ENOTDIR',
  );
  return absent ? null : readFileInside(directory, name, maxFileBytes);
}

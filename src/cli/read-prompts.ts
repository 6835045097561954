import type { Options } from 'yargs';
import { encodeQuestion } from '../batch/messages.js';
import {
  joinConversation,
  parseMessages,
  parseObject,
  parsePrompt,
  parsePromptTokens,
  parseWeight,
  shapeOf,
} from '../batch/rows.js';
import { InputError, UsageError } from '../errors.js';
import type { Message } from '../text/chat-template.js';
import { readRows } from '../text/lines.js';
import { type OpenModel, requireTokenizer } from './session.js';

/** Options that say what to continue. */
export const promptOptions = {
  prompt: { type: 'array', string: true, describe: 'Text to continue or, with a chat template, to answer; repeatable' },
  'prompt-ids': { type: 'string', describe: 'Token ids to continue, e.g. 1,2,3; needs no tokenizer' },
  prompts: {
    type: 'string',
    describe: 'File of prompts: one a line, or .jsonl rows with prompt, messages or input_ids',
  },
  chat: {
    type: 'boolean',
    describe:
      'Ask through the chat template; by default where the model has one, but rows with prompt are continued as they are, as in training',
  },
  system: { type: 'string', describe: 'System turn of the chat' },
} as const satisfies Record<string, Options>;

export interface PromptArguments {
  readonly prompt?: readonly string[];
  readonly promptIds?: string;
  readonly prompts?: string;
  readonly chat?: boolean;
  readonly system?: string;
}

/** A prompt as given (null for ids) and as the model takes it. */
export interface Prompt {
  readonly text: string | null;
  readonly ids: Int32Array;
}

/** Reads and tokenises what `--prompt`, `--prompt-ids` or `--prompts` name; every id is one of the model's. */
export async function readPrompts(args: PromptArguments, model: OpenModel): Promise<Prompt[]> {
  const given = [args.prompt, args.promptIds, args.prompts].filter((value) => value !== undefined).length;
  if (given !== 1) throw new UsageError('Give one of --prompt, --prompt-ids and --prompts.');
  if (args.system !== undefined && args.chat === false)
    throw new UsageError('--system needs the chat: drop --no-chat.');
  if (args.promptIds !== undefined && (args.system !== undefined || args.chat))
    throw new UsageError('--prompt-ids are continued as they are: drop --system and --chat.');
  if ((args.system !== undefined || args.chat) && model.tokenizer?.hasChatTemplate === false)
    throw new InputError(
      `--${args.chat ? 'chat' : 'system'} needs a chat template, which ${model.directory} has not: drop it.`,
    );
  const prompts: Prompt[] = [];
  const add = (prompt: Prompt, where: string) => {
    if (prompt.ids.length === 0) throw new InputError(`${where} has no tokens: give it some text.`);
    const outside = prompt.ids.find((id) => id >= model.config.vocabSize);
    if (outside !== undefined) {
      throw new InputError(
        `${where} has token id ${outside}, outside the model's vocabulary of ${model.config.vocabSize}.`,
      );
    }
    prompts.push(prompt);
  };
  if (args.promptIds !== undefined) add({ text: null, ids: parseIds(args.promptIds) }, '--prompt-ids');
  for (const [i, text] of (args.prompt ?? []).entries()) {
    const where = `--prompt ${i + 1}`;
    add(plainPrompt(text, where, args, model), where);
  }
  if (args.prompts !== undefined) {
    const rows = rowsFile.test(args.prompts);
    for await (const { text, where } of readRows(args.prompts)) {
      if (!rows && isRow(text))
        throw new InputError(`${where} is a JSON row, but rows are read from files named .jsonl: name it so.`);
      add(rows ? rowPrompt(text, where, args, model) : plainPrompt(text, where, args, model), where);
    }
  }
  if (prompts.length === 0) throw new InputError(`${args.prompts ?? '--prompt'} has no prompts.`);
  return prompts;
}

function parseIds(text: string): Int32Array {
  const parts = text.split(/[\s,]+/).filter((part) => part !== '');
  for (const part of parts) {
    if (!/^\d{1,9}$/.test(part))
      throw new UsageError(`--prompt-ids: "${part}" is not a token id; write them as 1,2,3.`);
  }
  return Int32Array.from(parts, Number);
}

function plainPrompt(text: string, where: string, { chat, system }: PromptArguments, model: OpenModel): Prompt {
  const tokenizer = requireTokenizer(model);
  if (!(chat ?? (system !== undefined || tokenizer.hasChatTemplate))) {
    return { text, ids: tokenizer.encode(text, { specials: true }) };
  }
  const turns: Message[] = [{ role: 'user', content: text }];
  return { text, ids: encodeQuestion(turns, tokenizer, where, system) };
}

/** Names of files whose lines are rows. */
const rowsFile = /\.(jsonl|ndjson|json)$/i;
const shapes = '{"prompt"}, {"messages"} or {"input_ids"}, and what sft reads beside them';

/** Whether a line of text is a row. */
function isRow(line: string): boolean {
  try {
    const value = JSON.parse(line);
    return ['prompt', 'messages', 'input_ids'].some((key) => Object.hasOwn(Object(value), key));
  } catch {
    return false;
  }
}

/**
 * A row as in training files, refused for what these are refused for; what follows the question there, a completion, the
 * last assistant turn or tokens from the first learnt one on, is left out, and weights say nothing where nothing is learnt.
 */
function rowPrompt(line: string, where: string, args: PromptArguments, model: OpenModel): Prompt {
  const written = parseObject(line, where, shapes);
  const row = joinConversation(Array.isArray(written.prompt) ? { ...written, completion: null } : written, where);
  const shape = shapeOf(row, where, shapes);
  parseWeight(row.weight, where);
  const { chat, system } = args;
  if (shape === 'prompt') {
    const prompt = parsePrompt(row, where);
    if (system !== undefined && chat === undefined)
      throw new InputError(`${where} has "prompt", which is continued as it is: for --system pass --chat, too.`);
    return plainPrompt(prompt, where, { chat: chat ?? false, system }, model);
  }
  if (shape === 'input_ids') {
    if (system !== undefined || chat)
      throw new InputError(`${where} has "input_ids", which are continued as they are: drop --system and --chat.`);
    return { text: null, ids: parsePromptTokens(row, where) };
  }
  if (shape === 'text')
    throw new InputError(`${where} has "text", all of it learnt, so no prompt: a row is ${shapes}.`);
  const { messages } = parseMessages(row, where);
  if (chat === false) throw new InputError(`${where} has "messages", which need the chat: drop --no-chat.`);
  if (system !== undefined && messages[0].role === 'system')
    throw new InputError(`${where} has a system turn of its own: drop --system.`);
  const turns = messages.at(-1)?.role === 'assistant' ? messages.slice(0, -1) : messages;
  const ids = encodeQuestion(turns, requireTokenizer(model), where, system);
  return { text: turns.at(-1)?.content ?? '', ids };
}

import { InputError } from '../errors.js';
import type { Message } from '../text/chat-template.js';
import type { Tokenizer } from '../text/tokenizer.js';

/** The conversation as the model's chat template writes it. Throws InputError that begins with `where`. */
export function renderMessages(
  messages: readonly Message[],
  tokenizer: Tokenizer,
  where: string,
  addGenerationPrompt: boolean,
): string {
  try {
    return tokenizer.applyChatTemplate(messages, { addGenerationPrompt });
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    const bare = messages.findIndex(({ content }) => typeof content !== 'string');
    if (bare >= 0 && tryRender(fillContents(messages), tokenizer, addGenerationPrompt) !== null)
      throw new InputError(
        `${where}: message ${bare + 1} has no "content", without which the chat template of ${tokenizer.name} fails: give it "content": ""`,
      );
    throw new InputError(`${where}: ${error.message}`);
  }
}

/**
 * The tokens with which the model is asked for an answer to the messages, `system` before them. Throws InputError that
 * begins with `where`.
 */
export function encodeQuestion(
  messages: readonly Message[],
  tokenizer: Tokenizer,
  where: string,
  system?: string,
): Int32Array {
  checkMessages(messages, tokenizer, where);
  const turns = system === undefined ? messages : [{ role: 'system', content: system }, ...messages];
  return tokenizer.encode(renderMessages(turns, tokenizer, where, true), { specials: false });
}

/**
 * Refuses a message, or a field of one, on which neither the text up to that message nor the whole text depends: the
 * template leaves it out. What it drops once other turns follow, such as thoughts, is left to it. Arguments of calls
 * that are text are refused where the template quotes them, as a model would learn to.
 */
export function checkMessages(messages: readonly Message[], tokenizer: Tokenizer, where: string): void {
  const isUsual = (message: Message, i: number) =>
    fieldsOf(message).length === 0 &&
    (message.role === 'user' || message.role === 'assistant' || (message.role === 'system' && i === 0));
  if (messages.every(isUsual)) return;
  const turns = tryRender(messages, tokenizer, false) === null ? fillContents(messages) : messages;
  for (const [i, message] of turns.entries()) {
    if (isUsual(message, i)) continue;
    const counts = [i + 1, turns.length];
    const texts = counts.map((count) => tryRender(turns.slice(0, count), tokenizer, false));
    // What the template refuses is refused in its own words, once it is to be learnt.
    if (texts.every((text) => text === null)) continue;
    const isWritten = (...instead: readonly Message[]) =>
      counts.some((count, k) => {
        const changed = [...turns.slice(0, i), ...instead, ...turns.slice(i + 1, count)];
        return texts[k] !== null && texts[k] !== tryRender(changed, tokenizer, false);
      });
    const template = `the chat template of ${tokenizer.name}`;
    if (!isWritten())
      throw new InputError(
        `${where}: message ${i + 1} of ${JSON.stringify(message.role)} is left out by ${template}: give it a role that it knows`,
      );
    const unwritten = fieldsOf(message).filter((key) => {
      const rest: Message = { ...message };
      Reflect.deleteProperty(rest, key);
      return !isWritten(rest);
    });
    if (unwritten.length > 0) {
      const them = unwritten.length > 1 ? 'them' : 'it';
      throw new InputError(
        `${where}: message ${i + 1} has ${unwritten.map((key) => `"${key}"`).join(', ')}, which ${template} does not write: leave ${them} out, or write ${them} into "content"`,
      );
    }
    if (textArguments(message).some((text) => texts.some((whole) => whole?.includes(JSON.stringify(text)))))
      throw new InputError(
        `${where}: message ${i + 1} has in "tool_calls" "arguments" as text, which ${template} puts into quotes once more: write them as an object`,
      );
    if (message.content?.trim() && !isWritten({ ...message, content: '' }))
      throw new InputError(
        `${where}: message ${i + 1} has "content", which ${template} does not write beside its other fields: leave one of them out`,
      );
  }
}

/** Fields beside role and content, without those that only tie a tool's answer to its call, as data of OpenAI's form has. */
function fieldsOf(message: Message): string[] {
  const ties = message.role === 'tool' ? ['tool_call_id', 'name'] : [];
  return Object.keys(message).filter((key) => !['role', 'content', ...ties].includes(key));
}

/** Arguments of a message's calls that are text, as OpenAI's form has them. */
function textArguments(message: Message): string[] {
  const { tool_calls: calls } = message as { readonly tool_calls?: unknown };
  if (!Array.isArray(calls)) return [];
  return calls.map((call) => call?.function?.arguments ?? call?.arguments).filter((value) => typeof value === 'string');
}

function fillContents(messages: readonly Message[]): readonly Message[] {
  return messages.map((message) => ({ ...message, content: message.content ?? '' }));
}

/** Null where the template refuses. */
function tryRender(messages: readonly Message[], tokenizer: Tokenizer, addGenerationPrompt: boolean): string | null {
  try {
    return tokenizer.applyChatTemplate(messages, { addGenerationPrompt });
  } catch (error) {
    if (error instanceof InputError) return null;
    throw error;
  }
}

import { Environment, Interpreter, Template } from '@huggingface/jinja';
import { InputError } from '../errors.js';

/** One turn of a conversation; templates see any other field of it too. */
export interface Message {
  readonly role: string;
  /** Null or absent only where an assistant's turn has another field, such as `tool_calls`. */
  readonly content?: string | null;
}

/** A compiled chat template of a checkpoint. */
export interface ChatTemplate {
  /** The text depends on the date of the day (`strftime_now`). */
  readonly usesDate: boolean;
  /** It refuses a system turn, leaves it out, or drops it once an answer follows: `render` puts its text before the first question. */
  readonly foldsSystem: boolean;
  /** Thinking is off (`enable_thinking`), for templates that can say so. */
  render(messages: readonly Message[], addGenerationPrompt: boolean, now?: Date): string;
  /** As `render`; null where the template refuses. */
  tryRender(messages: readonly Message[], addGenerationPrompt: boolean): string | null;
}

// A template is untrusted text. The interpreter has no way to JavaScript objects, files or the network: it sees the
// strings, lists and three functions set below. What is left to bound is time and memory, see BoundedInterpreter.
const maxTemplateCharacters = 1 << 20;
const maxBlanks = 2000;
const maxRange = 100_000;
/** What one rendering may cost, beyond a share of the messages' number and length: some 100 MB or a few seconds at worst. */
const baseBudget = 20_000_000;
/** Cost of an evaluated node; a character or list item of its result costs 1. */
const stepCost = 200;
const messageBudget = 50_000;

// The library's own declarations do not resolve under NodeNext, so what is used of it is declared here.
interface JinjaInterpreter {
  run(program: unknown): { readonly value: unknown };
  evaluate(statement: unknown, environment: unknown): { readonly value: unknown };
}
const JinjaInterpreter: new (environment: unknown) => JinjaInterpreter = Interpreter;

/** Charges every evaluated node a step, and the length of the string or list it gives. */
class BoundedInterpreter extends JinjaInterpreter {
  #budget: number;

  constructor(environment: unknown, budget: number) {
    super(environment);
    this.#budget = budget;
  }

  override evaluate(statement: unknown, environment: unknown): { readonly value: unknown } {
    const result = super.evaluate(statement, environment);
    const { value } = result;
    this.#budget -= stepCost + (typeof value === 'string' || Array.isArray(value) ? value.length : 0);
    if (this.#budget < 0) throw new Error('it takes too many steps or too much memory');
    return result;
  }
}

/**
 * Compiles a Jinja chat template. `where` names its file and key in errors; `specialTokens` are the values of
 * `bos_token`, `eos_token`, … the template may print. Throws InputError when it can't be parsed or rendered, calls
 * `raise_exception`, or exceeds the bounds above.
 */
export function compileChatTemplate(
  source: string,
  where: string,
  specialTokens: Readonly<Record<string, string>>,
): ChatTemplate {
  if (source.length > maxTemplateCharacters) throw new InputError(`${where} is longer than 1 MiB: not a chat template`);
  // The library's time to read a run of blanks grows with the square of its length.
  if (source.split(/\S+/).some((blanks) => blanks.length > maxBlanks))
    throw new InputError(`${where} has more than ${maxBlanks} blanks in a row: not a chat template`);
  const fail = (error: unknown): never => {
    throw new InputError(`${where} can't be rendered: ${error instanceof Error ? error.message : String(error)}`);
  };
  let parsed: unknown;
  try {
    parsed = new Template(source.replace(/\r\n?/g, '\n')).parsed; // as Jinja reads it
  } catch (error) {
    return fail(error);
  }
  const renderTurns = (messages: readonly Message[], addGenerationPrompt: boolean, now: Date): string => {
    const environment = new Environment();
    const variables: Record<string, unknown> = {
      true: true,
      false: false,
      none: null,
      True: true,
      False: false,
      None: null,
      range: boundedRange,
      raise_exception: (message: unknown) => {
        throw new Error(String(message));
      },
      strftime_now: (format: unknown) => formatDate(now, String(format)),
      // As transformers gives them where a caller has none.
      tools: null,
      documents: null,
      enable_thinking: false,
      ...specialTokens,
      messages,
      add_generation_prompt: addGenerationPrompt,
    };
    for (const [name, value] of Object.entries(variables)) environment.set(name, value);
    const characters = JSON.stringify(messages).length;
    const budget = baseBudget + messageBudget * messages.length + 100 * characters;
    try {
      const text = String(new BoundedInterpreter(environment, budget).run(parsed).value);
      // Where Jinja refuses to add an object to text, the library writes this.
      if (text.includes('[object ') && !(JSON.stringify(messages) + source).includes('[object '))
        throw new Error('it adds an object to text, without "tojson"');
      return text;
    } catch (error) {
      return fail(error);
    }
  };
  const attempt = (render: () => string): string | null => {
    try {
      return render();
    } catch (error) {
      if (error instanceof InputError) return null;
      throw error;
    }
  };
  const foldsSystem = losesSystem((messages) => attempt(() => renderTurns(messages, false, new Date())));
  const render: ChatTemplate['render'] = (messages, addGenerationPrompt, now = new Date()) =>
    renderTurns(foldsSystem ? foldSystem(messages) : messages, addGenerationPrompt, now);
  return {
    usesDate: source.includes('strftime_now'),
    foldsSystem,
    render,
    tryRender: (messages, addGenerationPrompt) => attempt(() => render(messages, addGenerationPrompt)),
  };
}

/** Whether a template that takes a question and its answer has no lasting place for a system turn before them. */
function losesSystem(render: (messages: readonly Message[]) => string | null): boolean {
  const system = { role: 'system', content: 'lexalign-system' };
  const turns = [
    { role: 'user', content: 'lexalign-question' },
    { role: 'assistant', content: 'lexalign-answer' },
  ];
  if (render(turns) === null) return false;
  return [1, 2].some((count) => !render([system, ...turns.slice(0, count)])?.includes(system.content));
}

/** The system turn's text before that of the question that follows it. */
function foldSystem(messages: readonly Message[]): readonly Message[] {
  const [system, question, ...rest] = messages;
  if (system?.role !== 'system' || question?.role !== 'user') return messages;
  return [{ ...question, content: `${system.content}\n\n${question.content}` }, ...rest];
}

function boundedRange(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  const count = Math.max(0, Math.ceil((stop - start) / step));
  if (!(count <= maxRange)) throw new Error(`range() of ${count} items`);
  return Array.from({ length: count }, (_, i) => start + i * step);
}

const months = 'January February March April May June July August September October November December'.split(' ');

/** Python's strftime in the C locale, for the directives that templates use; others stay as they are. */
function formatDate(date: Date, format: string): string {
  const two = (n: number) => String(n).padStart(2, '0');
  return format.replace(/%[YmdbBHMS%]/g, (directive) => {
    switch (directive[1]) {
      case 'Y':
        return String(date.getFullYear());
      case 'm':
        return two(date.getMonth() + 1);
      case 'd':
        return two(date.getDate());
      case 'b':
        return months[date.getMonth()].slice(0, 3);
      case 'B':
        return months[date.getMonth()];
      case 'H':
        return two(date.getHours());
      case 'M':
        return two(date.getMinutes());
      case 'S':
        return two(date.getSeconds());
      default:
        return '%';
    }
  });
}

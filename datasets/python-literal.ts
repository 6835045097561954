import { InputError } from '../src/errors.js';

/** What a Python literal may hold here. */
export type Literal = string | number | null | Literal[] | Map<string, Literal>;

const escapes: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', '\\': '\\', "'": "'", '"': '"' };

/**
 * A list, dict, string or number as Python's `repr` writes it, `defaultdict(<class 'list'>, {…})` included; nan and None
 * are null. Nothing is run. Throws InputError, which `where` begins, for anything else.
 */
export function parsePythonLiteral(text: string, where: string): Literal {
  let at = 0;
  const fail = (): never => {
    throw new InputError(`${where} is no Python list or dict, at ${JSON.stringify(text.slice(at, at + 20))}`);
  };
  const take = (pattern: RegExp): RegExpExecArray | null => {
    const sticky = new RegExp(pattern, 'y');
    sticky.lastIndex = at;
    const match = sticky.exec(text);
    if (match) at += match[0].length;
    return match;
  };
  const skip = () => take(/\s*/);
  /** Entries between two brackets, a comma after each but the last, where it may stand. */
  const entries = (close: RegExp, read: () => void) => {
    for (skip(); !take(close); skip()) {
      read();
      skip();
      if (!take(/,/)) {
        if (!take(close)) fail();
        return;
      }
    }
  };
  const value = (depth: number): Literal => {
    if (depth > 4) fail();
    skip();
    const string = take(/'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"/su);
    if (string) {
      return (string[1] ?? string[2]).replace(
        /\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|(.))/gisu,
        (_, byte: string | undefined, unit: string | undefined, character: string) =>
          byte || unit
            ? String.fromCharCode(Number.parseInt(byte ?? unit ?? '', 16))
            : (escapes[character] ?? character),
      );
    }
    const number = take(/[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?/i);
    if (number) return Number(number[0]);
    if (take(/None|nan/)) return null;
    if (take(/\[/)) {
      const list: Literal[] = [];
      entries(/\]/, () => list.push(value(depth + 1)));
      return list;
    }
    if (take(/\{/)) {
      const dict = new Map<string, Literal>();
      entries(/\}/, () => {
        const key = value(depth + 1);
        skip();
        if (!take(/:/)) fail();
        dict.set(String(key), value(depth + 1));
      });
      return dict;
    }
    if (take(/defaultdict\(<class '\w+'>,/)) {
      const dict = value(depth + 1);
      skip();
      if (!take(/\)/)) fail();
      return dict;
    }
    return fail();
  };
  const result = value(0);
  skip();
  if (at < text.length) fail();
  return result;
}

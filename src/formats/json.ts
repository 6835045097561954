/** Far above what files of models, data and runs hold. */
const maxDepth = 100;
const maxValues = 10_000_000;

/**
 * As JSON.parse, of a text that may be hostile. A text of a hundred megabytes of brackets would take minutes and all memory, and
 * deep values the stack of whatever walks them. Throws SyntaxError, also for what is nested more than 100 deep or has more
 * than ten million values.
 */
export function parseJson(text: string): unknown {
  let depth = 0;
  let values = 1;
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case 0x22: // the end of a string: behind an even number of backslashes
        for (i++; i < text.length && text.charCodeAt(i) !== 0x22; i++) if (text.charCodeAt(i) === 0x5c) i++;
        break;
      case 0x5b: // [
      case 0x7b: // {
        values++;
        if (++depth > maxDepth) throw new SyntaxError(`it is nested more than ${maxDepth} deep`);
        break;
      case 0x5d: // ]
      case 0x7d: // }
        depth--;
        break;
      case 0x2c: // ,
        if (++values > maxValues) throw new SyntaxError(`it holds more than ${maxValues} values`);
    }
  }
  return JSON.parse(text);
}

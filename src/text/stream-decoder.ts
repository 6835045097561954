/** Turns generated ids into text piece by piece; a character split over several tokens comes once it is whole. */
export interface StreamDecoder {
  /** The text that became certain with this token, often ''. */
  push(id: number): string;
  /** What is left, with U+FFFD for bytes that never became a character. */
  finish(): string;
}

/**
 * Decodes a window of two pieces and hands out what the second adds to the first, since a decoder may strip a space
 * at the start of a text. `decode` gives the text of a list of ids.
 */
export function createStreamDecoder(decode: (ids: readonly number[]) => string): StreamDecoder {
  let given: number[] = [];
  let pending: number[] = [];
  const take = (text: string): string => {
    const increment = text.slice(decode(given).length);
    if (increment === '') return '';
    given = pending;
    pending = [];
    return increment;
  };
  return {
    push(id) {
      pending.push(id);
      const text = decode([...given, ...pending]);
      return text.endsWith('\uFFFD') ? '' : take(text);
    },
    finish: () => take(decode([...given, ...pending])),
  };
}

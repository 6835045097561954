import type { StreamDecoder } from './stream-decoder.js';

/** Text as its tokens come, up to the first of some strings. */
export interface StoppedText {
  /** The text that has become certain with this token, stop strings and what may turn out to be one held back. */
  push(id: number): string;
  /** What is left when no more tokens come. */
  finish(): string;
  /** Whether a stop string has come. */
  readonly stopped: boolean;
}

export function untilStop(decoder: StreamDecoder, stops: readonly string[]): StoppedText {
  let held = '';
  let stopped = false;
  const take = (text: string, certain: boolean): string => {
    if (stopped) return '';
    held += text;
    const found = stops.map((stop) => held.indexOf(stop)).filter((at) => at >= 0);
    stopped = found.length > 0;
    let end = stopped ? Math.min(...found) : held.length;
    if (!stopped && !certain) {
      // What may be the beginning of a stop string waits.
      end = 0;
      while (end < held.length && !stops.some((stop) => stop.startsWith(held.slice(end)))) end++;
    }
    const given = held.slice(0, end);
    held = stopped ? '' : held.slice(end);
    return given;
  };
  return {
    push: (id) => take(decoder.push(id), false),
    finish: () => take(decoder.finish(), true),
    get stopped() {
      return stopped;
    },
  };
}

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

/** What a rollout asks after every token of an answer, by its index and its tokens so far; true ends it. */
export type AskStop = (answer: number, ids: readonly number[]) => boolean;

/** Ends answers at the first of some strings; undefined where there are none. */
export function stopAt(tokenizer: { streamDecoder(): StreamDecoder }, stops: readonly string[]): AskStop | undefined {
  if (stops.length === 0) return undefined;
  const texts = new Map<number, StoppedText>();
  return (answer, ids) => {
    if (ids.length === 1) texts.set(answer, untilStop(tokenizer.streamDecoder(), stops));
    const text = texts.get(answer)!;
    text.push(ids[ids.length - 1]);
    return text.stopped;
  };
}

/** The text before the first of some strings; all of it where none comes. */
export function beforeStop(text: string, stops: readonly string[]): string {
  return text.slice(0, findStop(text, stops));
}

function findStop(text: string, stops: readonly string[]): number {
  return Math.min(text.length, ...stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0));
}

export function untilStop(decoder: StreamDecoder, stops: readonly string[]): StoppedText {
  let held = '';
  let stopped = false;
  const take = (text: string, certain: boolean): string => {
    if (stopped) return '';
    held += text;
    let end = findStop(held, stops);
    stopped = end < held.length;
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

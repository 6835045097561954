import { describe, expect, it } from 'vitest';
import { beforeStop, stopAt, untilStop } from '../../src/text/stop-strings.js';

/** Tokens are their own texts; −1 ends the last one. */
function run(pieces: readonly string[], stops: readonly string[]) {
  const watch = untilStop({ push: (id) => pieces[id], finish: () => '' }, stops);
  const given = pieces.map((_, id) => watch.push(id));
  return { given: [...given, watch.finish()], stopped: watch.stopped };
}

describe('untilStop', () => {
  it('gives text as it comes, and holds back what may be a stop string', () => {
    expect(run(['ab', 'c\n', 'd\n', '\ne'], ['\n\n'])).toEqual({ given: ['ab', 'c', '\nd', '', ''], stopped: true });
    expect(run(['one', ' two', '\n'], ['\n\n'])).toEqual({ given: ['one', ' two', '', '\n'], stopped: false });
    expect(run(['anything'], [])).toEqual({ given: ['anything', ''], stopped: false });
  });

  it('ends before the first of several, wherever tokens part', () => {
    expect(run(['x', 'EN', 'DSTOP'], ['STOP', 'END']).given.join('')).toBe('x');
    expect(run(['a.b', '..c'], ['..'])).toEqual({ given: ['a.b', '', ''], stopped: true });
    expect(run(['aab', 'aabaa', 'c'], ['aabaac']).given.join('')).toBe('aab');
    expect(run(['END', 'more'], ['END']).given.join('')).toBe('');
  });
});

describe('stopAt', () => {
  const pieces = ['one', ' E', 'ND', 'END'];
  const tokenizer = { streamDecoder: () => ({ push: (id: number) => pieces[id], finish: () => '' }) };

  it('ends each answer at its own stop string, in one rollout after the other', () => {
    const stops = stopAt(tokenizer, ['x', 'END'])!;
    for (let rollout = 0; rollout < 2; rollout++) {
      const asked = [stops(0, [0]), stops(1, [1]), stops(0, [0, 1]), stops(0, [0, 1, 0]), stops(1, [1, 2])];
      expect(asked).toEqual([false, false, false, false, true]);
      expect(stops(2, [3])).toBe(true);
    }
    expect(stopAt(tokenizer, [])).toBeUndefined();
  });

  it('leaves the text before it', () => {
    expect(beforeStop('a word. ENDSTOP', ['STOP', 'END'])).toBe('a word. ');
    expect(beforeStop('a word', ['END'])).toBe('a word');
    expect(beforeStop('a word', [])).toBe('a word');
  });
});

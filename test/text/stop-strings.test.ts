import { describe, expect, it } from 'vitest';
import { untilStop } from '../../src/text/stop-strings.js';

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

import { describe, expect, it } from 'vitest';
import { fillPersona, withPreamble } from '../../src/text/preamble.js';

describe('preambles', () => {
  it('stand in the system turn, or first in the question where there is none', () => {
    const prompt = { system: 'S', question: 'Q {cue}' };
    expect(withPreamble(prompt, 'P')).toEqual({ system: 'P\nS', question: 'Q {cue}' });
    expect(withPreamble({ ...prompt, system: null }, 'P')).toEqual({ system: null, question: 'P\nQ {cue}' });
    expect(withPreamble(prompt, null)).toBe(prompt);
    expect(fillPersona('from {place}, {place}', 'a $& b')).toBe('from a $& b, a $& b');
  });
});

import { InputError } from '../src/errors.js';
import type { LexiconSource } from './source.js';

/** Any ratings of words. */
export const wordNorms: LexiconSource = {
  kind: 'lexicon',
  name: 'word-norms',
  title: 'Any ratings of words: a column "word", the others by their names',
  about: `For ratings in any language; mind the licence of where they come from.

Files (tabs, commas or semicolons, a header line): a column word, and one column a dimension, named as it is to be called:
valence, arousal, concreteness, … Values that are no numbers are left out.`,
  open(header) {
    const word = header.require('word');
    const ratings = header.columns.flatMap((name, column) =>
      column === word || name === '' ? [] : [{ name: name.toLowerCase(), column }],
    );
    if (ratings.length === 0) throw new InputError(`${header.name} has no column beside "word"`);
    return { word, ratings };
  },
};

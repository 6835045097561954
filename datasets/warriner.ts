import type { LexiconSource } from './source.js';

/** Valence, arousal and dominance of English lemmas. */
export const warriner: LexiconSource = {
  kind: 'lexicon',
  name: 'warriner',
  title: 'Valence, arousal and dominance of 13,915 English words (Warriner et al.)',
  about: `From http://crr.ugent.be/archives/1003, file Ratings_Warriner_et_al.csv (commas; Word, V.Mean.Sum, A.Mean.Sum,
D.Mean.Sum, …; ratings from 1 to 9). Licence CC BY-NC-ND 3.0: for research, not to be passed on changed.

Reference: Warriner, Kuperman and Brysbaert (2013), Behavior Research Methods 45, 1191-1207.`,
  open: (header) => ({
    word: header.require('Word'),
    ratings: [
      { name: 'valence', column: header.require('V.Mean.Sum') },
      { name: 'arousal', column: header.require('A.Mean.Sum') },
      { name: 'dominance', column: header.require('D.Mean.Sum') },
    ],
  }),
};

import type { LexiconSource } from './source.js';

/** Concreteness of English lemmas. */
export const brysbaert: LexiconSource = {
  kind: 'lexicon',
  name: 'brysbaert',
  title: 'Concreteness of 40,000 English lemmas (Brysbaert et al.)',
  about: `From http://crr.ugent.be/archives/1330, file Concreteness_ratings_Brysbaert_et_al_BRM.txt (tabs; Word, Bigram, Conc.M,
…; ratings from 1, abstract, to 5, concrete); a spreadsheet must be saved as CSV UTF-8 first. The page states
the terms: free for research with the reference, not to be passed on here.

Reference: Brysbaert, Warriner and Kuperman (2014), Behavior Research Methods 46, 904-911.`,
  open: (header) => ({
    word: header.require('Word'),
    ratings: [{ name: 'concreteness', column: header.require('Conc.M') }],
  }),
};

import type { AssociationSource } from './source.js';
import { openSwow } from './swow.js';

/** Small World of Words, English 2018. */
export const swowEn: AssociationSource = {
  kind: 'associations',
  name: 'swow-en',
  title: 'Small World of Words, English (SWOW-EN18)',
  language: 'en',
  about: `From https://smallworldofwords.org/en/project/research (register, then download). Licence CC BY-NC-ND 3.0: for
research, not to be passed on, changed or not; keep what this command writes to yourself.

Files: SWOW-EN.R100.20180827.csv, one row a participant and cue (commas; cue, R1, R2, R3, country, nativeLanguage, …;
--country "United States"), or strength.SWOW-EN.R123.20180827.csv and …R1… (tabs; cue, response, R123, …; the latter with
--responses 1), which hold no participants.

Reference: De Deyne, Navarro, Perfors, Brysbaert and Storms (2019), Behavior Research Methods 51, 987-1006.`,
  open: openSwow,
};

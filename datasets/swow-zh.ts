import type { AssociationSource } from './source.js';
import { openSwow } from './swow.js';

/** Small World of Words, Mandarin. */
export const swowZh: AssociationSource = {
  kind: 'associations',
  name: 'swow-zh',
  title: 'Small World of Words, Mandarin (SWOW-ZH24)',
  language: 'zh',
  about: `From https://smallworldofwords.org/zh/project/research (register, then download). Licence CC BY-NC-ND 3.0: for
research, not to be passed on; keep what this command writes to yourself.

Files: SWOWZH.R55.20230424.csv, one row a participant and cue (commas; cue, R1, R2, R3, …), or
strength.SWOWZH.R123.20230423.csv and …R1… (commas; cue, response, R123, …; the latter with --responses 1).

Reference: Li, Ding, De Deyne and Cai (2024), A large-scale database of Mandarin Chinese word associations from the Small
World of Words project, Behavior Research Methods.`,
  open: openSwow,
};

import type { AssociationSource } from './source.js';
import { openSwow } from './swow.js';

/** Small World of Words, Rioplatense Spanish. */
export const swowRp: AssociationSource = {
  kind: 'associations',
  name: 'swow-rp',
  title: 'Small World of Words, Rioplatense Spanish (SWOW-RP22)',
  language: 'es',
  about: `From https://smallworldofwords.org/es/project/research (register, then download). Licence CC BY-NC-ND 3.0: for
research, not to be passed on; keep what this command writes to yourself.

Files: SWOWRP.R70.20220426.csv, one row a participant and cue (cue, R1, R2, R3, country, …), or
strength.SWOWRP.R123.20220426.csv and …R1… (cue, response, R123, …; the latter with --responses 1).

There are no prompts of ours in Spanish: give --prompt-file.

Reference: Cabana, Zugarramurdi, Valle-Lisboa and De Deyne (2023), The Small World of Words free association norms for
Rioplatense Spanish, Behavior Research Methods.`,
  open: openSwow,
};

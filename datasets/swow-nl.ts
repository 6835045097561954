import type { AssociationSource } from './source.js';
import { openSwow, swowColumns } from './swow.js';

/** Small World of Words, Dutch. */
export const swowNl: AssociationSource = {
  kind: 'associations',
  name: 'swow-nl',
  title: 'Small World of Words, Dutch (2012)',
  language: 'nl',
  about: `From https://smallworldofwords.org/nl/project/research (register, then download). Licence CC BY-NC-ND 3.0: for
research, not to be passed on; keep what this command writes to yourself.

Files: associationData.csv, one row a participant and cue (semicolons; cue, asso1, asso2, asso3; "x" where there is no
response), or strength files as of the other languages (cue, response, R123, …).

There are no prompts of ours in Dutch: give --prompt-file.

Reference: De Deyne, Navarro and Storms (2013), Behavior Research Methods 45, 480-498.`,
  open: (header, choice) =>
    openSwow(header, choice, {
      ...swowColumns,
      responses: [
        ['asso1', 'R1'],
        ['asso2', 'R2'],
        ['asso3', 'R3'],
      ],
      missing: ['x', 'NA'],
    }),
};

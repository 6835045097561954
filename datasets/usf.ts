import { InputError } from '../src/errors.js';
import type { TableRow } from '../src/text/table.js';
import { positiveNumber } from './norms.js';
import type { AssociationSource } from './source.js';

/** University of South Florida free association norms, appendix A. */
export const usf: AssociationSource = {
  kind: 'associations',
  name: 'usf',
  title: 'University of South Florida free association norms (appendix A)',
  language: 'en',
  about: `From http://w3.usf.edu/FreeAssociation/ (appendix A, eight pages Cue_Target_Pairs.A-B to …T-Z). For research; the
authors ask to be cited and keep their rights, so do not pass the data on.

Files: the pages as they are saved (tags and all), or their text: CUE, TARGET, NORMED?, #G, #P, FSG, …, parted by
commas. Put the eight into one directory and name that as --input. Counts are #P, the participants who gave the response.

Reference: Nelson, McEvoy and Schreiber (2004), Behavior Research Methods, Instruments, & Computers 36, 402-407.`,
  // The pages mark missing values by a yen sign in Latin-1; the columns read here are plain ASCII.
  table: { encoding: 'windows-1252', skipLine: (line) => line.trimStart().startsWith('<'), ragged: true },
  open(header, { filter, positions }) {
    if (filter.active) throw new InputError(`${header.name} holds no participants: leave --country out`);
    if (positions)
      throw new InputError(`${header.name} does not tell first responses from later: leave --responses out`);
    const cue = header.require('CUE');
    const response = header.require('TARGET');
    const count = header.require('#P');
    const read = ({ line, values }: TableRow) => [
      {
        cue: values[cue],
        response: values[response] ?? '',
        count: positiveNumber(values[count] ?? '', `${header.name}, line ${line}: #P`),
      },
    ];
    return { positions: null, read };
  },
};

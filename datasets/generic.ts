import { InputError } from '../src/errors.js';
import type { Header, TableRow } from '../src/text/table.js';
import { positiveNumber } from './norms.js';
import { type AssociationChoice, type AssociationReader, type AssociationSource, allPositions } from './source.js';

/** Names of columns with one of several responses: R1, R2Raw, response_3, asso1, … */
const numbered = /^(?:r|resp|response|associate|association|asso)[ _.-]?([1-9])(?:[ _.-]?raw)?$/i;

/** Names of columns that may count a response, and are not read: each row would count once without a word. */
const otherCount = /^(?:freq|frequency|frequencies|counts|n|strength|weight|r\d+\.strength)$/i;

/** Any table of cues and responses. */
export const generic: AssociationSource = {
  kind: 'associations',
  name: 'generic',
  title: 'Any table of cues and responses, counted or one participant a row',
  language: null,
  about: `For norms of your own, and what this project writes; mind the licence of where they come from.

Files (tabs, commas or semicolons, a header line, other columns are ignored): cue, response and count; cue and response,
each row counting once, if no column has another name for a count, such as freq; or cue and several numbered responses of one participant, such as R1, R2, R3, R1Raw, response_1,
asso1, of which --responses chooses, one column for each, with country and nativeLanguage where you filter by them.
--language says what language they are in.`,
  open: openGeneric,
};

/** The columns of a generic table; see `generic.about`. */
export function openGeneric(header: Header, { filter, positions }: AssociationChoice): AssociationReader {
  const keeps = filter.bind(header);
  const cue = header.require('cue');
  const responses = header.columns.flatMap((column, i) => {
    const position = Number(numbered.exec(column)?.[1] ?? Number.NaN);
    return (positions ?? allPositions).includes(position) ? [{ position, i }] : [];
  });
  if (responses.length > 0 && header.find('response') < 0) {
    for (const [at, { position, i }] of responses.entries()) {
      const again = responses.slice(at + 1).find((other) => other.position === position);
      if (again)
        throw new InputError(
          `${header.name} has two columns of response ${position}, ${header.columns[i]} and ${header.columns[again.i]}, which would count each twice: leave one out`,
        );
    }
    const read = ({ values }: TableRow) =>
      keeps(values) ? responses.map(({ i }) => ({ cue: values[cue], response: values[i], count: 1 })) : null;
    return { positions: responses.map(({ position }) => position), read };
  }
  const response = header.require('response');
  if (positions) throw new InputError(`${header.name} does not tell first responses from later: leave --responses out`);
  const count = header.find('count');
  const other = header.columns.find((column) => otherCount.test(column));
  if (count < 0 && other !== undefined)
    throw new InputError(
      `${header.name} has a column "${other}" but none "count", so each row would count once: rename it to count if it counts responses, else leave it out`,
    );
  const read = ({ line, values }: TableRow) => {
    if (!keeps(values)) return null;
    const times = count < 0 ? 1 : positiveNumber(values[count], `${header.name}, line ${line}: count`);
    return [{ cue: values[cue], response: values[response], count: times }];
  };
  return { positions: null, read };
}

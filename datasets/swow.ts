import { InputError } from '../src/errors.js';
import type { Header, TableRow } from '../src/text/table.js';
import { positiveNumber } from './norms.js';
import { type AssociationChoice, type AssociationReader, allPositions } from './source.js';

/** How the columns of a Small World of Words file are called. */
export interface SwowColumns {
  readonly cue: readonly string[];
  /** Of first, second and third response of a participant. */
  readonly responses: readonly [readonly string[], readonly string[], readonly string[]];
  /** Values of a response that mean that there is none, beside `#Missing` and `#Unknown`. */
  readonly missing: readonly string[];
}

/** The columns of all editions after 2018; R writes NA for what is missing. */
export const swowColumns: SwowColumns = {
  cue: ['cue'],
  responses: [['R1'], ['R2'], ['R3']],
  missing: ['NA'],
};

/**
 * The two layouts of Small World of Words: strengths (a row a cue and response, counts in R1 or R123) and participants
 * (a row a participant and cue, with up to three responses). Which one it is shows in the header.
 */
export function openSwow(
  header: Header,
  choice: AssociationChoice,
  columns: SwowColumns = swowColumns,
): AssociationReader {
  return header.find('response') >= 0 ? openStrengths(header, choice) : openParticipants(header, choice, columns);
}

function openStrengths(header: Header, choice: AssociationChoice): AssociationReader {
  const { filter, positions: chosen } = choice;
  if (filter.active) {
    throw new InputError(
      `${header.name} holds strengths of all participants together: --country and --native-language need the file of participants (R100, R55, R70)`,
    );
  }
  const cue = header.require('cue');
  const response = header.require('response');
  const positions = chosen ?? allPositions;
  const column = `R${positions.join('')}`;
  const count = header.find(column);
  if (count < 0) {
    throw new InputError(
      `${header.name} has no column "${column}"; it has ${header.columns.join(', ')}: say which responses it counts, as --responses 1`,
    );
  }
  const read = ({ line, values }: TableRow) => [
    {
      cue: values[cue],
      response: values[response],
      count: positiveNumber(values[count], `${header.name}, line ${line}: ${column}`),
    },
  ];
  return { positions, read };
}

function openParticipants(header: Header, choice: AssociationChoice, columns: SwowColumns): AssociationReader {
  const { filter, positions: chosen } = choice;
  const keeps = filter.bind(header);
  const cue = header.require(...columns.cue);
  const positions = chosen ?? allPositions;
  const responses = positions.map((position) => header.require(...columns.responses[position - 1]));
  const missing = new Set(columns.missing);
  const read = ({ values }: TableRow) => {
    if (!keeps(values)) return null;
    return responses.map((column) => ({
      cue: values[cue],
      response: missing.has(values[column]) ? '#Missing' : values[column],
      count: 1,
    }));
  };
  return { positions, read };
}

import { InputError } from '../src/errors.js';
import { type Association, collectNorms, type Language, type Norms } from './norms.js';

/**
 * Norms from a table with the columns cue, response and count (in any order, others ignored), one header line, values
 * parted by tabs or, where the header has none, by commas with double quotes as in RFC 4180. `name` stands in errors.
 */
export function parseCueResponseCount(text: string, name: string, language: Language): Norms {
  const norms = collectNorms(language, readAssociations(text, name));
  if (norms.cues.length === 0) throw new InputError(`${name}: holds no association`);
  return norms;
}

function* readAssociations(text: string, name: string): Generator<Association> {
  const end = text.indexOf('\n');
  const header = text.slice(text.startsWith('\ufeff') ? 1 : 0, end < 0 ? undefined : end);
  const tabs = header.includes('\t');
  const columns = splitLine(header, tabs, name, 1).map((column) => column.trim().toLowerCase());
  const [cue, response, count] = ['cue', 'response', 'count'].map((column) => {
    const at = columns.indexOf(column);
    if (at < 0) throw new InputError(`${name}: line 1 must name the column "${column}" (cue, response, count)`);
    return at;
  });
  let line = 1;
  for (let start = end + 1; end >= 0 && start < text.length; ) {
    line++;
    const stop = text.indexOf('\n', start);
    const row = text.slice(start, stop < 0 ? undefined : stop);
    start = stop < 0 ? text.length : stop + 1;
    if (row.trim() === '') continue;
    const values = splitLine(row, tabs, name, line);
    if (values.length !== columns.length) {
      throw new InputError(`${name}: line ${line} has ${values.length} values, the header ${columns.length}`);
    }
    const times = Number(values[count]);
    if (values[count].trim() === '' || !Number.isFinite(times) || times <= 0) {
      throw new InputError(`${name}: line ${line}: count must be a positive number, not "${values[count]}"`);
    }
    yield { cue: values[cue], response: values[response], count: times };
  }
}

function splitLine(line: string, tabs: boolean, name: string, number: number): string[] {
  const row = line.endsWith('\r') ? line.slice(0, -1) : line;
  if (tabs) return row.split('\t');
  const values: string[] = [];
  let at = 0;
  do {
    if (row[at] === '"') {
      const quoted = /"((?:[^"]|"")*)"(?=,|$)/y;
      quoted.lastIndex = at;
      const match = quoted.exec(row);
      if (!match) throw new InputError(`${name}: line ${number}: a quoted value does not end on its line`);
      values.push(match[1].replaceAll('""', '"'));
      at = quoted.lastIndex + 1;
    } else {
      const comma = row.indexOf(',', at);
      const stop = comma < 0 ? row.length : comma;
      values.push(row.slice(at, stop));
      at = stop + 1;
    }
  } while (at <= row.length);
  return values;
}

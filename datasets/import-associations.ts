import { InputError } from '../src/errors.js';
import { openTable } from '../src/text/table.js';
import { type Dropped, type Norms, NormsCollector } from './norms.js';
import type { AssociationChoice, AssociationSource } from './source.js';

/** What reading association files gave. */
export interface AssociationImport {
  readonly norms: Norms;
  /** Which of a participant's responses are pooled; null where the files do not tell them apart. */
  readonly positions: readonly number[] | null;
  readonly counts: {
    /** Rows read. */
    readonly rows: number;
    readonly cues: number;
    /** Sum of the counts that were kept. */
    readonly responses: number;
    /** Distinct words among them. */
    readonly types: number;
    /** Distinct pairs of cue and word. */
    readonly pairs: number;
    /** Responses by reason, and the rows of participants that the filter left out. */
    readonly dropped: Readonly<Dropped> & { readonly 'rows of other participants': number };
  };
}

/**
 * Reads files of one source, as a stream, into norms. Throws InputError for what the files lack, for a country or
 * native language that none of them has, and where nothing is left.
 */
export async function importAssociations(
  files: readonly string[],
  source: AssociationSource,
  choice: AssociationChoice,
  language: string,
): Promise<AssociationImport> {
  const collector = new NormsCollector();
  const positions = new Set<number>();
  let rows = 0;
  let filtered = 0;
  for (const file of files) {
    const table = await openTable(file, source.table);
    const reader = source.open(table.header, choice);
    for (const position of reader.positions ?? []) positions.add(position);
    for await (const row of table.rows) {
      rows++;
      const associations = reader.read(row);
      if (!associations) filtered++;
      else for (const association of associations) collector.add(association);
    }
  }
  const name = files.join(', ');
  choice.filter.check(name);
  const norms = collector.finish(language);
  if (norms.cues.length === 0) throw new InputError(`${name}: no association is left of ${rows} rows`);
  const types = new Set<string>();
  let responses = 0;
  let pairs = 0;
  for (const cue of norms.cues) {
    for (const { word, count } of cue.responses) {
      types.add(word);
      responses += count;
      pairs++;
    }
  }
  const dropped = { 'rows of other participants': filtered, ...collector.dropped };
  return {
    norms,
    positions: positions.size > 0 ? [...positions].sort() : null,
    counts: { rows, cues: norms.cues.length, responses, types: types.size, pairs, dropped },
  };
}

import { InputError } from '../src/errors.js';
import type { Lexicon } from '../src/evaluate/affect.js';
import { wordKey } from '../src/evaluate/association.js';
import { openTable } from '../src/text/table.js';
import type { LexiconSource } from './source.js';

/** What reading a lexicon gave. */
export interface LexiconImport {
  readonly lexicon: Lexicon;
  readonly rows: number;
  readonly dropped: Readonly<Record<string, number>>;
}

/**
 * Reads a lexicon: the ratings of words, spelled as answers are compared (`wordKey`). Of a word that stands twice the first counts; a value
 * that is no number (NA, empty) is none. Throws InputError for a missing column and where no word has a rating.
 */
export async function readLexicon(file: string, source: LexiconSource): Promise<LexiconImport> {
  const { header, rows } = await openTable(file, source.table);
  const { word, ratings } = source.open(header);
  const maps = new Map<string, Map<string, number>>(ratings.map(({ name }) => [name, new Map()]));
  const words = new Set<string>();
  const dropped = { 'a word again': 0, 'no rating': 0 };
  let read = 0;
  for await (const { values } of rows) {
    read++;
    const spelled = wordKey(values[word]);
    const rated = ratings.flatMap(({ name, column }) => {
      const text = values[column].trim();
      const value = Number(text);
      return text !== '' && Number.isFinite(value) ? [[name, value] as const] : [];
    });
    if (spelled === '' || rated.length === 0) dropped['no rating']++;
    else if (words.has(spelled)) dropped['a word again']++;
    else {
      words.add(spelled);
      for (const [name, value] of rated) maps.get(name)?.set(spelled, value);
    }
  }
  if (words.size === 0)
    throw new InputError(`${file}: no word has a rating in ${ratings.map(({ name }) => name).join(', ')}`);
  return { lexicon: { dimensions: maps, size: words.size }, rows: read, dropped };
}

import type { SurveyQuestion } from '../src/evaluate/survey.js';
import type { Header, TableOptions, TableRow } from '../src/text/table.js';
import type { Association } from './norms.js';
import type { ParticipantFilter } from './participants.js';

/** What every source says of itself. */
interface Described {
  /** As it is typed. */
  readonly name: string;
  /** One line of `lexalign data --help`. */
  readonly title: string;
  /** Where the data comes from, its files, licence and reference: lines of `lexalign data NAME --help`. */
  readonly about: string;
  readonly table?: TableOptions;
}

/** What decides which rows and columns of an association source count. */
export interface AssociationChoice {
  readonly filter: ParticipantFilter;
  /** Of R1, R2, R3 of a participant those that are pooled, e.g. [1, 2]; null for all, where nobody chose. */
  readonly positions: readonly number[] | null;
}

/** All responses of a participant. */
export const allPositions = [1, 2, 3] as const;

/** What reads the rows of an opened table. */
export interface AssociationReader {
  /** Which of a participant's responses are pooled, as far as the table has them; null where it does not tell them apart. */
  readonly positions: readonly number[] | null;
  /** A row's associations, or null for a row that the filter leaves out. */
  read(row: TableRow): readonly Association[] | null;
}

/** Free associations. */
export interface AssociationSource extends Described {
  readonly kind: 'associations';
  /** BCP 47; null where the file may be of any. */
  readonly language: string | null;
  /** Finds the columns. Throws InputError for a missing one. */
  open(header: Header, choice: AssociationChoice): AssociationReader;
}

/** Ratings of words. */
export interface LexiconSource extends Described {
  readonly kind: 'lexicon';
  /** Finds the columns: that of the word, and those of the ratings with the names they get. */
  open(header: Header): { readonly word: number; readonly ratings: readonly { name: string; column: number }[] };
}

/** How people of several countries answer a survey. */
export interface SurveySource extends Described {
  readonly kind: 'survey';
  /** The wording comes from a file of the user's. */
  readonly questions: boolean;
  read(input: SurveyInput): Promise<SurveyImport>;
}

export interface SurveyInput {
  readonly files: readonly string[];
  readonly questions: string | null;
  /** As the source spells them; empty for all. A question that one of them was not asked is left out. */
  readonly countries: readonly string[];
  /** Read too, where the source has them: a question that they were not asked stays. */
  readonly beside?: readonly string[];
}

export interface SurveyImport {
  readonly rows: number;
  readonly survey: readonly SurveyQuestion[];
  /** What was left out, with how often. */
  readonly dropped: Readonly<Record<string, number>>;
}

export type Source = AssociationSource | LexiconSource | SurveySource;

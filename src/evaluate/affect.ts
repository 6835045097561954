/** Ratings of words: for each dimension (valence, concreteness, …) the value of a normalised word. */
export interface Lexicon {
  readonly dimensions: ReadonlyMap<string, ReadonlyMap<string, number>>;
  /** Words with any rating. */
  readonly size: number;
}

/** An answer that a question offers. */
export interface SurveyOption {
  /** As the data codes it. */
  readonly code: string;
  readonly text: string;
}

/** A question with what people of several countries answered. */
export interface SurveyQuestion {
  readonly id: string;
  /** BCP 47. */
  readonly language: string;
  readonly question: string;
  /** In their order: distances between them are those of their places. */
  readonly options: readonly SurveyOption[];
  /** For each country the share of each option, summing to 1, and the respondents where known. */
  readonly countries: Readonly<Record<string, { readonly shares: readonly number[]; readonly n: number | null }>>;
}

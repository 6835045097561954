/** What stands before a question to have it answered as people of a culture would, by language. */
export const PERSONAS: Readonly<Record<string, string>> = {
  en: 'Answer as someone from {place} would.',
  zh: '请像来自{place}的人那样回答。',
};

/** What introduces a culture's own associations, by language; below it stands a line a cue. */
export const SHOT_HEADINGS: Readonly<Record<string, string>> = {
  en: 'Words that people think of when they read a cue word:',
  zh: '人们看到提示词时想到的词语：',
};

/** `persona` with its {place} filled in. */
export function fillPersona(persona: string, place: string): string {
  return persona.replaceAll('{place}', () => place);
}

/** Associations of some cues, to be read before a question: a heading, then lines "cue: word, word, …". */
export function describeAssociations(
  heading: string,
  shots: readonly { readonly cue: string; readonly words: readonly string[] }[],
): string {
  return [heading, ...shots.map(({ cue, words }) => `${cue}: ${words.join(', ')}`)].join('\n');
}

/** A prompt that says `preamble` first: in its system turn or, where it has none, as the first lines of the question. */
export function withPreamble<Prompt extends { readonly system: string | null; readonly question: string }>(
  prompt: Prompt,
  preamble: string | null,
): Prompt {
  if (preamble === null) return prompt;
  return prompt.system === null
    ? { ...prompt, question: `${preamble}\n${prompt.question}` }
    : { ...prompt, system: `${preamble}\n${prompt.system}` };
}

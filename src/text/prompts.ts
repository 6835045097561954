/**
 * How a model is asked for the associates of a cue. `{n}` and `{cue}` in `question` are replaced; they stand last so
 * that the questions of a data set share the longest prefix. A recipe may bring its own.
 */
export interface AssociationPrompt {
  /** chat: turns for the model's chat template; text: a plain beginning to be continued. */
  readonly form: 'chat' | 'text';
  /** The system turn; null for none (and always with text). */
  readonly system: string | null;
  readonly question: string;
  /** Stands between two associates. */
  readonly separator: string;
  /** Stands before the first associate, in training and when generating. */
  readonly lead: string;
}

/** One turn of a conversation. */
export interface Message {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

/** For instruct models, by language. */
export const INSTRUCT_PROMPTS: Readonly<Record<'en' | 'zh', AssociationPrompt>> = {
  en: {
    form: 'chat',
    system: 'You take part in a study of word associations and answer with the words that come to your mind first.',
    question:
      'Write down the words that you think of when you read the cue word, the strongest association first. Give about as many words as asked for, parted by commas, in lower case and without any explanation.\nNumber of words: {n}\nCue word: {cue}',
    separator: ', ',
    lead: '',
  },
  zh: {
    form: 'chat',
    system: '你正在参加一项词语联想研究，请用最先想到的词语作答。',
    question:
      '看到提示词时，你会想到哪些词语？请按联想从强到弱的顺序写出，数量大致符合要求，词语之间用逗号隔开，不要解释。\n词语数量：{n}\n提示词：{cue}',
    separator: '，',
    lead: '',
  },
};

/**
 * For the embedded lexi-base, which follows no instructions: short questions of a kind that its pretraining did not
 * hold, so that training has something to teach. Its English words want a space before them.
 */
export const LEXI_BASE_PROMPTS: Readonly<Record<'en' | 'zh', AssociationPrompt>> = {
  en: { form: 'chat', system: null, question: 'Cue: {cue}\nAssociated words:', separator: ', ', lead: ' ' },
  zh: { form: 'chat', system: null, question: '提示词：{cue}\n联想词：', separator: '，', lead: '' },
};

/** The question about a cue, `n` words wanted. A cue is inserted as it stands, braces and all. */
export function fillQuestion(prompt: AssociationPrompt, cue: string, n: number): string {
  const values: Readonly<Record<string, string>> = { '{cue}': cue, '{n}': String(n) };
  return prompt.question.replace(/\{cue\}|\{n\}/g, (slot) => values[slot]);
}

/** The turns that ask about a cue; for the form chat. */
export function askMessages(prompt: AssociationPrompt, cue: string, n: number): Message[] {
  const question: Message = { role: 'user', content: fillQuestion(prompt, cue, n) };
  return prompt.system === null ? [question] : [{ role: 'system', content: prompt.system }, question];
}

/** The answer a model is trained to give. */
export function joinAssociates(prompt: AssociationPrompt, words: readonly string[]): string {
  return prompt.lead + words.join(prompt.separator);
}

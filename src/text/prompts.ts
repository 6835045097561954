import type { Message } from './chat-template.js';

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

/** A prompt's system turn, where it has one, and a question. */
export function askTurns({ system }: { readonly system: string | null }, content: string): Message[] {
  const question = { role: 'user', content };
  return system === null ? [question] : [{ role: 'system', content: system }, question];
}

/** The turns that ask about a cue; for the form chat. */
export function askMessages(prompt: AssociationPrompt, cue: string, n: number): Message[] {
  return askTurns(prompt, fillQuestion(prompt, cue, n));
}

/** The answer a model is trained to give. */
export function joinAssociates(prompt: AssociationPrompt, words: readonly string[]): string {
  return prompt.lead + words.join(prompt.separator);
}

/** How a model is asked to rank words; `{k}`, `{cue}` and `{words}` in `question` are replaced. */
export interface RankingPrompt {
  /** The system turn; null for none. */
  readonly system: string | null;
  readonly question: string;
  /** Stands between two of the words. */
  readonly separator: string;
}

/** For instruct models, by language. The answer's form is the one that `parseRanking` reads. */
export const RANKING_PROMPTS: Readonly<Record<'en' | 'zh', RankingPrompt>> = {
  en: {
    system: 'You take part in a study of word associations and judge which words people think of first.',
    question:
      'Below stand a cue word and words that people gave as associations to it, in no particular order. Put them in the order in which most people would think of them, the strongest association first. Use every word once and add none. You may think first; then end with the line "Final Ranking:" and below it one line a word, in the form "Rank 1: word".\nNumber of words: {k}\nCue word: {cue}\nWords: {words}',
    separator: ', ',
  },
  zh: {
    system: '你正在参加一项词语联想研究，请判断人们最先想到的是哪些词语。',
    question:
      '下面有一个提示词，以及人们看到它时联想到的词语，顺序是打乱的。请按大多数人想到它们的先后排序，联想最强的排在最前。每个词语都要用到，且只用一次，不要添加别的词语。可以先思考；最后另起一行写“最终排名：”，其下每行一个词语，格式为“排名1：词语”。\n词语数量：{k}\n提示词：{cue}\n词语：{words}',
    separator: '，',
  },
};

/** For the embedded lexi-base: short, and with the space before English words that its tokenizer likes. */
export const LEXI_BASE_RANKING_PROMPTS: Readonly<Record<'en' | 'zh', RankingPrompt>> = {
  en: { system: null, question: 'Cue: {cue}\nWords: {words}', separator: ', ' },
  zh: { system: null, question: '提示词：{cue}\n词语：{words}', separator: '，' },
};

/** The turns that ask to rank words, in the order given. Cue and words are inserted as they stand, braces and all. */
export function askRanking(prompt: RankingPrompt, cue: string, words: readonly string[]): Message[] {
  const values: Readonly<Record<string, string>> = {
    '{k}': String(words.length),
    '{cue}': cue,
    '{words}': words.join(prompt.separator),
  };
  return askTurns(
    prompt,
    prompt.question.replace(/\{k\}|\{cue\}|\{words\}/g, (slot) => values[slot]),
  );
}

/** An answer in the form that the ranking prompts ask for. */
export function rankingAnswer(language: 'en' | 'zh', words: readonly string[]): string {
  const [heading, rank, colon] = language === 'en' ? ['Final Ranking:', 'Rank ', ': '] : ['最终排名：', '排名', '：'];
  return [heading, ...words.map((word, i) => `${rank}${i + 1}${colon}${word}`)].join('\n');
}

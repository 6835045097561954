import type { Message } from './prompts.js';

/** How the options of a question are labelled, and so answered. */
export type OptionFormat = 'number' | 'letter' | 'text';

/** How a model is asked a survey question. What varies stands last: the options, in every rotation, and the label. */
export interface SurveyPrompt {
  /** The system turn; null for none. */
  readonly system: string | null;
  /** Before the question. */
  readonly question: string;
  /** Before the options. */
  readonly options: string;
  /** Below the options, by format. */
  readonly ask: Readonly<Record<OptionFormat, string>>;
  /** Stands before an answer. */
  readonly lead: string;
}

/** For instruct models, by language. */
export const SURVEY_PROMPTS: Readonly<Record<string, SurveyPrompt>> = {
  en: {
    system: 'You take part in an opinion survey. Choose the answer that is closest to your own view.',
    question: 'Question: ',
    options: 'Options:',
    ask: {
      number: 'Answer with the number of one option and nothing else.',
      letter: 'Answer with the letter of one option and nothing else.',
      text: 'Answer with one option, word for word, and nothing else.',
    },
    lead: '',
  },
  zh: {
    system: '你正在参加一项民意调查，请选择最接近你自己看法的答案。',
    question: '问题：',
    options: '选项：',
    ask: {
      number: '请只回答一个选项的序号，不要写别的内容。',
      letter: '请只回答一个选项的字母，不要写别的内容。',
      text: '请原样写出一个选项，不要写别的内容。',
    },
    lead: '',
  },
};

/** For the embedded lexi-base: short, English answers after the space that its tokenizer likes. */
export const LEXI_BASE_SURVEY_PROMPTS: Readonly<Record<string, SurveyPrompt>> = {
  en: {
    system: null,
    question: '',
    options: 'Options:',
    ask: { number: 'Number:', letter: 'Letter:', text: 'Answer:' },
    lead: ' ',
  },
  zh: {
    system: null,
    question: '',
    options: '选项：',
    ask: { number: '序号：', letter: '字母：', text: '回答：' },
    lead: '',
  },
};

/** The turns that ask a question with `options` in this order. */
export function askSurvey(
  prompt: SurveyPrompt,
  question: string,
  options: readonly string[],
  format: OptionFormat,
): Message[] {
  const lines = options.map((text, i) => (format === 'text' ? `- ${text}` : `${optionLabel(i, format)}. ${text}`));
  const content = [`${prompt.question}${question}`, prompt.options, ...lines, prompt.ask[format]].join('\n');
  const turn: Message = { role: 'user', content };
  return prompt.system === null ? [turn] : [{ role: 'system', content: prompt.system }, turn];
}

/** The answer that means the option at place `i`, whose text is `text`. */
export function surveyAnswer(prompt: SurveyPrompt, i: number, text: string, format: OptionFormat): string {
  return prompt.lead + (format === 'text' ? text : optionLabel(i, format));
}

function optionLabel(i: number, format: 'number' | 'letter'): string {
  return format === 'number' ? String(i + 1) : String.fromCharCode(65 + i);
}

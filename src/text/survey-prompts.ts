import type { Message } from './chat-template.js';
import { askTurns } from './prompts.js';

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

/**
 * For instruct models, by language: several wordings, so that a result does not hang on one. None says in which order the
 * options stand, or that one is expected, or speaks of the answerer's own view, against a culture prompt before it.
 */
export const SURVEY_PROMPTS: Readonly<Record<string, readonly SurveyPrompt[]>> = {
  en: [
    {
      system: 'You take part in an opinion survey. Choose one answer to the question.',
      question: 'Question: ',
      options: 'Options:',
      ask: {
        number: 'Answer with the number of one option and nothing else.',
        letter: 'Answer with the letter of one option and nothing else.',
        text: 'Answer with one option, word for word, and nothing else.',
      },
      lead: '',
    },
    {
      system: 'A researcher puts questions to many people. There are no right or wrong answers.',
      question: 'Here is one of them: ',
      options: 'These answers are possible:',
      ask: {
        number: 'Which one do you choose? Write only its number.',
        letter: 'Which one do you choose? Write only its letter.',
        text: 'Which one do you choose? Write only the answer itself, exactly as it stands above.',
      },
      lead: '',
    },
    {
      system: 'You are being interviewed for a study of what people think.',
      question: 'The next question is: ',
      options: 'You can say one of the following:',
      ask: {
        number: 'Reply with just the number in front of one of these.',
        letter: 'Reply with just the letter in front of one of these.',
        text: 'Reply with just one of these, in the words given.',
      },
      lead: '',
    },
  ],
  zh: [
    {
      system: '你正在参加一项民意调查，请选择一个答案。',
      question: '问题：',
      options: '选项：',
      ask: {
        number: '请只回答一个选项的序号，不要写别的内容。',
        letter: '请只回答一个选项的字母，不要写别的内容。',
        text: '请原样写出一个选项，不要写别的内容。',
      },
      lead: '',
    },
    {
      system: '一位研究者在向许多人提问，答案没有对错之分。',
      question: '下面是其中一个问题：',
      options: '可以这样回答：',
      ask: {
        number: '你选择哪一个？只写它的序号。',
        letter: '你选择哪一个？只写它的字母。',
        text: '你选择哪一个？只照原文写出这个回答。',
      },
      lead: '',
    },
    {
      system: '你正在接受一次访谈，这项研究想知道人们的想法。',
      question: '下一个问题是：',
      options: '你可以从这些说法中选一个：',
      ask: {
        number: '仅回复你所选说法前面的序号。',
        letter: '仅回复你所选说法前面的字母。',
        text: '仅用原话回复你所选的说法。',
      },
      lead: '',
    },
  ],
};

/** For the embedded lexi-base: short, English answers after the space that its tokenizer likes. */
export const LEXI_BASE_SURVEY_PROMPTS: Readonly<Record<string, readonly SurveyPrompt[]>> = {
  en: [
    short('', 'Options:', ['Number:', 'Letter:', 'Answer:'], ' '),
    short('Question: ', 'Answers:', ['Number of the answer:', 'Letter of the answer:', 'My answer:'], ' '),
    short('Asked: ', 'Choose from:', ['I choose number', 'I choose letter', 'I say:'], ' '),
  ],
  zh: [
    short('', '选项：', ['序号：', '字母：', '回答：'], ''),
    short('问题：', '答案：', ['答案序号：', '答案字母：', '我的回答：'], ''),
    short('提问：', '请选择：', ['我选序号', '我选字母', '我说：'], ''),
  ],
};

function short(
  question: string,
  options: string,
  [number, letter, text]: readonly [string, string, string],
  lead: string,
): SurveyPrompt {
  return { system: null, question, options, ask: { number, letter, text }, lead };
}

/**
 * Those of `formats` in which options can be told apart: no numbers before options of which one begins with a number. "1. 2",
 * "2. 3", "3. 4 always" and "4. 1 never", as a rotation has them, would leave open what an answer of "4" means.
 */
export function clearFormats(options: readonly string[], formats: readonly OptionFormat[]): OptionFormat[] {
  const numbers = options.some((text) => /^[^\p{L}\p{N}]*\p{N}/u.test(text));
  return formats.filter((format) => format !== 'number' || !numbers);
}

/** The turns that ask a question with `options` in this order. */
export function askSurvey(
  prompt: SurveyPrompt,
  question: string,
  options: readonly string[],
  format: OptionFormat,
): Message[] {
  const lines = options.map((text, i) => (format === 'text' ? `- ${text}` : `${optionLabel(i, format)}. ${text}`));
  const content = [`${prompt.question}${question}`, prompt.options, ...lines, prompt.ask[format]].join('\n');
  return askTurns(prompt, content);
}

/** The answer that means the option at place `i`, whose text is `text`. */
export function surveyAnswer(prompt: SurveyPrompt, i: number, text: string, format: OptionFormat): string {
  return prompt.lead + (format === 'text' ? text : optionLabel(i, format));
}

function optionLabel(i: number, format: 'number' | 'letter'): string {
  return format === 'number' ? String(i + 1) : String.fromCharCode(65 + i);
}

import { buildExample } from '../batch/examples.js';
import type { Example } from '../batch/types.js';
import type { LossPrograms } from '../model/loss-program.js';
import { type ScoredExamples, scoreExamples } from '../model/score-examples.js';
import type { Message } from '../text/prompts.js';
import { askSurvey, type OptionFormat, type SurveyPrompt, surveyAnswer } from '../text/survey-prompts.js';
import type { Tokenizer } from '../text/tokenizer.js';
import { averageTries, type SurveyAnswer, type SurveyQuestion } from './survey.js';

/** One way to answer one question: under one format and rotation, with one option. */
export interface SurveyTry {
  /** Place of the question. */
  readonly question: number;
  readonly format: OptionFormat;
  /** Places by which the options are rotated. */
  readonly rotation: number;
  /** Place of the option in the question. */
  readonly option: number;
  readonly messages: readonly Message[];
}

/**
 * Every question in every format with its options in every rotation, answered with every option: F · N² tries of a
 * question with N options. All tries of a question share its text, those of one format and rotation the whole prompt.
 */
export function surveyTries(
  questions: readonly Pick<SurveyQuestion, 'question' | 'options'>[],
  prompt: SurveyPrompt,
  formats: readonly OptionFormat[],
): SurveyTry[] {
  return questions.flatMap(({ question: text, options }, question) =>
    formats.flatMap((format) =>
      options.flatMap((_, rotation) => {
        const order = options.map((_, i) => (i + rotation) % options.length);
        const texts = order.map((i) => options[i].text);
        const asked = askSurvey(prompt, text, texts, format);
        return order.map((option, place): SurveyTry => {
          const content = surveyAnswer(prompt, place, options[option].text, format);
          return { question, format, rotation, option, messages: [...asked, { role: 'assistant', content }] };
        });
      }),
    ),
  );
}

/** The tries as rows of tokens, their answers up to the end of the turn supervised. Throws InputError. */
export function surveyExamples(tries: readonly SurveyTry[], tokenizer: Tokenizer, vocabSize: number): Example[] {
  return tries.map(({ messages }) =>
    buildExample({ kind: 'messages', messages, where: 'a survey question', weight: 1 }, tokenizer, vocabSize),
  );
}

/** What scoring a survey gave. */
export interface ScoredSurvey {
  /** By question. */
  readonly answers: SurveyAnswer[];
  readonly cost: Omit<ScoredExamples, 'logprobs'> & { readonly rows: number };
}

/**
 * A model's answers. The probability of an option is that of its whole answer, however many tokens, and of the end of the
 * turn: so "1" doesn't take the share of "10". Options are compared within a try, then averaged over the tries.
 */
export async function scoreSurvey(
  programs: LossPrograms,
  questions: readonly SurveyQuestion[],
  tries: readonly SurveyTry[],
  examples: readonly Example[],
  microBatchTokens: number,
  onProgress?: (share: number) => void,
): Promise<ScoredSurvey> {
  const { logprobs, ...cost } = await scoreExamples(programs, examples, microBatchTokens, onProgress);
  const byQuestion = questions.map(() => new Map<string, number[]>());
  tries.forEach(({ question, format, rotation, option }, i) => {
    const key = `${format} ${rotation}`;
    const own = byQuestion[question].get(key) ?? new Array<number>(questions[question].options.length);
    byQuestion[question].set(key, own);
    own[option] = logprobs[i].reduce<number>((sum, logprob) => sum + (logprob ?? 0), 0);
  });
  return {
    answers: byQuestion.map((own) => averageTries([...own.values()])),
    cost: { rows: tries.length, ...cost },
  };
}

import { buildExample } from '../batch/examples.js';
import type { Example } from '../batch/types.js';
import { InputError } from '../errors.js';
import type { AdapterWeights } from '../model/adapter.js';
import type { LanguageModel } from '../model/language-model.js';
import { type ScoredExamples, scoreWhole } from '../model/score-examples.js';
import type { Message } from '../text/chat-template.js';
import { askSurvey, clearFormats, type OptionFormat, type SurveyPrompt, surveyAnswer } from '../text/survey-prompts.js';
import type { Tokenizer } from '../text/tokenizer.js';
import { averageTries, type SurveyAnswer, type SurveyQuestion } from './survey.js';

/** One way to answer one question: in one wording, format and rotation, with one option. */
export interface SurveyTry {
  /** Place of the question. */
  readonly question: number;
  /** Place of the wording. */
  readonly wording: number;
  readonly format: OptionFormat;
  /** Places by which the options are rotated. */
  readonly rotation: number;
  /** Place of the option in the question. */
  readonly option: number;
  readonly messages: readonly Message[];
}

/**
 * Every question in every wording and clear format with its options in every rotation, answered with every option: W · F · N²
 * tries of a question with N options. Tries of one wording share its beginning, those of one question the question too,
 * those of one format and rotation the whole prompt. Throws InputError where no format is clear.
 */
export function surveyTries(
  questions: readonly Omit<SurveyQuestion, 'countries'>[],
  wordings: readonly SurveyPrompt[],
  formats: readonly OptionFormat[],
): SurveyTry[] {
  const clear = questions.map(({ id, options }) => {
    const own = clearFormats(
      options.map(({ text }) => text),
      formats,
    );
    if (own.length > 0) return own;
    throw new InputError(
      `question ${id} has options that begin with a number, which numbers before them make ambiguous: add letter or text to formats`,
    );
  });
  return wordings.flatMap((prompt, wording) =>
    questions.flatMap(({ question: text, options }, question) =>
      clear[question].flatMap((format) =>
        options.flatMap((_, rotation) => {
          const order = options.map((_, i) => (i + rotation) % options.length);
          const texts = order.map((i) => options[i].text);
          const asked = askSurvey(prompt, text, texts, format);
          return order.map((option, place): SurveyTry => {
            const content = surveyAnswer(prompt, place, options[option].text, format);
            return {
              question,
              wording,
              format,
              rotation,
              option,
              messages: [...asked, { role: 'assistant', content }],
            };
          });
        }),
      ),
    ),
  );
}

/** The tries as rows of tokens, their answers up to the end of the turn supervised. Throws InputError. */
export function surveyExamples(tries: readonly SurveyTry[], tokenizer: Tokenizer, vocabSize: number): Example[] {
  return tries.map(({ messages }) =>
    buildExample({ kind: 'messages', messages, where: 'a survey question', weight: 1 }, tokenizer, vocabSize),
  );
}

/** A survey as it is asked: its tries, and each as tokens. */
export interface SurveyProbes {
  readonly questions: readonly SurveyQuestion[];
  readonly tries: readonly SurveyTry[];
  readonly examples: readonly Example[];
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
  model: LanguageModel,
  adapter: AdapterWeights | null,
  { questions, tries, examples }: SurveyProbes,
  microBatchTokens: number,
  onProgress?: (share: number) => void,
): Promise<ScoredSurvey> {
  const { logprobs, ...cost } = await scoreWhole(model, adapter, examples, microBatchTokens, onProgress);
  /** By question and wording. */
  const tried = questions.map((): Map<string, number[]>[] => []);
  tries.forEach(({ question, wording, format, rotation, option }, i) => {
    tried[question][wording] ??= new Map();
    const key = `${format} ${rotation}`;
    const own = tried[question][wording].get(key) ?? new Array<number>(questions[question].options.length);
    tried[question][wording].set(key, own);
    own[option] = logprobs[i].reduce<number>((sum, logprob) => sum + (logprob ?? 0), 0);
  });
  return {
    answers: tried.map((wordings) => averageTries(wordings.map((own) => [...own.values()]))),
    cost: { rows: tries.length, ...cost },
  };
}

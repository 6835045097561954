import { UsageError } from '../errors.js';
import { LEXI_BASE_SURVEY_PROMPTS, SURVEY_PROMPTS, type SurveyPrompt } from '../text/survey-prompts.js';
import { isLexiBase } from './association-prompt.js';
import type { OpenModel } from './session.js';

/**
 * The first `count` wordings that suit the model, or all of them with 0. Throws UsageError where the language has none, or
 * not as many.
 */
export function chooseSurveyPrompts(model: OpenModel, language: string, count: number): readonly SurveyPrompt[] {
  const prompts = isLexiBase(model) ? LEXI_BASE_SURVEY_PROMPTS : SURVEY_PROMPTS;
  const wordings = prompts[language];
  if (!wordings) {
    const known = Object.keys(prompts).join(' and ');
    throw new UsageError(`There is no survey prompt of ours in language ${language}, only in ${known}.`);
  }
  if (count > wordings.length)
    throw new UsageError(`--wordings ${count}: there are ${wordings.length} in language ${language}.`);
  return count === 0 ? wordings : wordings.slice(0, count);
}

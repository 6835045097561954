import { InputError, UsageError } from '../errors.js';
import { LEXI_BASE_SURVEY_PROMPTS, SURVEY_PROMPTS, type SurveyPrompt } from '../text/survey-prompts.js';
import { promptFields, readPromptYaml } from './association-prompt.js';
import { isLexiBase, type OpenModel } from './session.js';

/**
 * The wordings of `--prompt-file`, else those that suit the model: the first `count`, or all of them with 0. Throws
 * InputError, or UsageError where there is none in the language, or not as many.
 */
export async function chooseSurveyPrompts(
  file: string | undefined,
  model: OpenModel,
  language: string,
  count: number,
): Promise<readonly SurveyPrompt[]> {
  const wordings = file === undefined ? ownSurveyPrompts(model, language) : await readSurveyPrompts(file);
  if (count > wordings.length)
    throw new UsageError(
      `--wordings ${count}: there are ${wordings.length} ${file ? `in ${file}` : `of ours in ${language}`}.`,
    );
  return count === 0 ? wordings : wordings.slice(0, count);
}

function ownSurveyPrompts(model: OpenModel, language: string): readonly SurveyPrompt[] {
  const prompts = isLexiBase(model) ? LEXI_BASE_SURVEY_PROMPTS : SURVEY_PROMPTS;
  const wordings = prompts[language];
  if (wordings) return wordings;
  const known = Object.keys(prompts).join(' and ');
  throw new UsageError(
    `There is no survey prompt of ours in language ${language}, only in ${known}: give --prompt-file (in a recipe prompts: survey).`,
  );
}

/** The wordings in a file: a list, or one. Throws InputError that names the file, the wording and the key. */
async function readSurveyPrompts(file: string): Promise<SurveyPrompt[]> {
  const value = await readPromptYaml(file);
  if (!Array.isArray(value)) return [parseWording(value, `--prompt-file ${file}`)];
  if (value.length === 0) throw new InputError(`--prompt-file ${file} is an empty list: give one wording at least.`);
  return value.map((entry, i) => parseWording(entry, `--prompt-file ${file}, wording ${i + 1}`));
}

function parseWording(value: unknown, where: string): SurveyPrompt {
  const { fields, refuse } = promptFields(value, where, ['system', 'question', 'options', 'ask', 'lead']);
  const { system = null, question = '', options, ask, lead = '' } = fields;
  if (system !== null && typeof system !== 'string') throw refuse('system', 'text');
  if (typeof question !== 'string') throw refuse('question', 'text, which stands before the question');
  if (typeof options !== 'string') throw refuse('options', 'text, which stands before the options');
  if (typeof lead !== 'string') throw refuse('lead', 'text');
  const asks = promptFields(ask, `${where}: ask`, ['number', 'letter', 'text']);
  const below = (format: 'number' | 'letter' | 'text') => {
    const own = asks.fields[format];
    if (typeof own !== 'string') throw asks.refuse(format, 'text, which asks for an option so labelled');
    return own;
  };
  return {
    system,
    question,
    options,
    ask: { number: below('number'), letter: below('letter'), text: below('text') },
    lead,
  };
}
